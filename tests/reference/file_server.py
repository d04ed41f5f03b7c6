"""A web server on loopback that serves a folder, with the habits and accidents of real ones."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class FileServer:
    """Serves `folder`; change the fields between requests."""

    folder: Path
    ranges: bool = True
    """Whether it takes Range requests."""
    etag: str | None = '"v1"'
    cut_after: list[int] = field(default_factory=list)
    """For each coming request the number of bytes after which the connection breaks; none left: whole answers."""
    statuses: list[int] = field(default_factory=list)
    """For each coming request an error to answer with."""
    tells_length: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range header of each request so far."""
    url: str = ""


@contextmanager
def serving(folder: Path) -> Iterator[FileServer]:
    """A running server."""
    state = FileServer(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, state)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def answer(handler: BaseHTTPRequestHandler, state: FileServer) -> None:
    asked = handler.headers.get("Range")
    state.requests.append((handler.path, asked))
    file = state.folder / handler.path.lstrip("/")
    if state.statuses or not file.is_file():
        handler.send_error(state.statuses.pop(0) if state.statuses else 404)
        return
    content, start = file.read_bytes(), 0
    unchanged = handler.headers.get("If-Range") in (None, state.etag)
    if asked and state.ranges and unchanged:
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    else:
        handler.send_response(200)
    if state.etag:
        handler.send_header("ETag", state.etag)
    if state.tells_length:
        handler.send_header("Content-Length", str(len(content) - start))
    handler.end_headers()
    end = start + state.cut_after.pop(0) if state.cut_after else len(content)
    handler.wfile.write(content[start:end])
