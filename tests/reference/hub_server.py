"""A stand-in for the Hugging Face hub on loopback: folders served as repositories, in the layout its client reads."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub.constants
import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Serves each `folder/owner/name` as the repository owner/name, of one commit."""

    folder: Path
    url: str = ""
    requests: list[str] = field(default_factory=list)
    """Method and path of each request so far."""

    def point_client_at(self, patch: pytest.MonkeyPatch, cache: Path | None = None) -> None:
        """Let huggingface_hub of this process ask here and use that cache; another process does with HF_ENDPOINT."""
        if cache is not None:
            patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(huggingface_hub.constants, "ENDPOINT", self.url)
        template = self.url + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)

    def find(self, path: str) -> tuple[bool, Path | None]:
        """Whether the repository and revision of a request exist, and the file where it does."""
        owner, name, resolve, revision, file = (path.lstrip("/").split("/", 4) + [""] * 5)[:5]
        repository = self.folder / owner / name
        known = resolve == "resolve" and revision in ("main", COMMIT) and repository.is_dir()
        return known, repository / file if known and (repository / file).is_file() else None


@contextmanager
def serving_hub(folder: Path) -> Iterator[Hub]:
    """A running stand-in."""
    hub = Hub(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            answer(self, hub, body=False)

        def do_GET(self) -> None:
            answer(self, hub, body=True)

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def answer(handler: BaseHTTPRequestHandler, hub: Hub, body: bool) -> None:
    """One response, with the headers that the client reads."""
    hub.requests.append(f"{handler.command} {handler.path}")
    known, file = hub.find(handler.path)
    content = file.read_bytes() if file else b""
    handler.send_response(200 if file else 404)
    handler.send_header("X-Repo-Commit", COMMIT)
    handler.send_header("Content-Length", str(len(content)))
    if file:
        handler.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
    else:
        handler.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
    handler.end_headers()
    if body:
        handler.wfile.write(content)
