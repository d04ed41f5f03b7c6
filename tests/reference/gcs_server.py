"""A stand-in for Google Cloud Storage on loopback: the few calls of its JSON API that gcsfs makes, for one bucket."""

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class GcsServer:
    """The objects of `bucket` by name: content and generation."""

    bucket: str
    endpoint: str = ""
    objects: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    generation: int = 0
    lock: Lock = field(default_factory=Lock)

    def put(self, name: str, content: bytes, only_new: bool = False) -> bool:
        with self.lock:
            if only_new and name in self.objects:
                return False
            self.generation += 1
            self.objects[name] = content, self.generation
            return True

    def about(self, name: str) -> dict[str, Any]:
        content, generation = self.objects[name]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "bucket": self.bucket,
            "name": name,
            "size": str(len(content)),
            "generation": str(generation),
            "etag": f"generation-{generation}",
            "md5Hash": b64encode(hashlib.md5(content).digest()).decode(),
            "updated": now,
            "timeCreated": now,
        }

    def listing(self, prefix: str, delimiter: str) -> dict[str, Any]:
        items, prefixes = [], set()
        for name in sorted(name for name in self.objects if name.startswith(prefix)):
            folder, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            if found:
                prefixes.add(f"{prefix}{folder}/")
            else:
                items.append(self.about(name))
        return {"items": items, "prefixes": sorted(prefixes)}


@contextmanager
def serving_gcs(bucket: str) -> Iterator[GcsServer]:
    """A running stand-in."""
    state = GcsServer(bucket)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, content: object, status: int = 200) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(BrokenPipeError):  # gcsfs asks twice at once, and drops the second answer
                self.wfile.write(body)

        def refuse(self, status: int, message: str) -> None:
            self.answer({"error": {"code": status, "message": message}}, status)

        def missing_bucket(self) -> bool:
            if self.path.partition("/b/")[2].startswith(f"{state.bucket}/"):
                return False
            self.refuse(404, "The specified bucket does not exist.")
            return True

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            _, _, rest = url.path.partition("/b/")
            bucket, _, name = rest.partition("/o/")
            name = unquote(name)
            if self.missing_bucket():
                return
            if rest.endswith("/o"):
                self.answer(state.listing(query.get("prefix", ""), query.get("delimiter", "")))
            elif name not in state.objects:
                self.refuse(404, f"No such object: {bucket}/{name}")
            else:
                self.answer(state.objects[name][0] if query.get("alt") == "media" else state.about(name))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.missing_bucket():
                return
            _, about, content, _ = body.split(b"--==0==", 3)
            name = json.loads(about.partition(b"\n\n")[2])["name"]
            data = content.partition(b"\n\n")[2].removesuffix(b"\n")
            if state.put(name, data, only_new="ifGenerationMatch=0" in self.path):
                self.answer(state.about(name))
            else:
                self.answer(
                    {"error": {"code": 412, "message": "At least one of the pre-conditions did not hold."}}, 412
                )

        def do_DELETE(self) -> None:
            if self.missing_bucket():
                return
            removed = state.objects.pop(unquote(urlsplit(self.path).path.partition("/o/")[2]), None)
            self.answer(b"", 204) if removed else self.answer(
                {"error": {"code": 404, "message": "No such object"}}, 404
            )

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
