"""An S3 service on loopback: moto's, behind a middleware that counts requests, and fails or observes chosen ones."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

Request = tuple[str, str]
"""Method, and the path with its query."""
Answer = Callable[[Request], int | None]
"""Called before a request is passed on; a number is the status that it gets instead."""


class Silent(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@dataclass
class S3Server:
    """The service at `endpoint`."""

    endpoint: str = ""
    requests: list[Request] = field(default_factory=list)
    before: Answer | None = None
    """What happens to requests before they are answered."""
    after: Callable[[Request], None] | None = None
    """What happens when they were carried out, before the client learns of it."""
    environment: dict[str, str] = field(default_factory=dict)
    """What a client's process needs."""

    @cached_property
    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
        )

    def put(self, bucket: str, prefix: str, folder: Path) -> None:
        """Upload every file below a folder."""
        client = self.client
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                key = "/".join(part for part in (prefix, file.relative_to(folder).as_posix()) if part)
                client.put_object(Bucket=bucket, Key=key, Body=file.read_bytes())

    def keys(self, bucket: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def count(self, method: str, part: str) -> int:
        """Requests so far by that method whose path has that part in it."""
        return sum(found == method and part in path for found, path in self.requests)

    def fail_first(self, count: int, method: str, part: str, status: int = 503) -> None:
        """Answer the first so many such requests with a status; pass all others on."""
        left = [count]

        def answer(request: Request) -> int | None:
            if request[0] == method and part in request[1] and left[0]:
                left[0] -= 1
                return status
            return None

        self.before = answer

    def forget(self) -> None:
        self.requests.clear()
        self.before = self.after = None


@contextmanager
def serving_s3() -> Iterator[S3Server]:
    """The service, until the block ends."""
    state = S3Server()
    inner = DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        query = environ.get("QUERY_STRING", "")
        request = environ["REQUEST_METHOD"], environ["PATH_INFO"] + (f"?{query}" if query else "")
        state.requests.append(request)
        if state.before is not None and (status := state.before(request)) is not None:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(f"{status} told to", [("Content-Length", "0")])
            return [b""]
        answer: Iterable[bytes] = list(inner(environ, start_response))
        if state.after is not None:
            state.after(request)
        return answer

    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.endpoint = f"http://127.0.0.1:{server.server_port}"
    state.environment = {
        "AWS_ENDPOINT_URL": state.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def set_environment(values: dict[str, str]) -> None:
    """For a process that begins."""
    os.environ.update(values)
