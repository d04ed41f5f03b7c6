"""Connections to the stores, through fsspec: one a process and store, with time limits, credentials by its own rules.

Credentials, endpoints and regions come from where each store's own tools look: AWS_* and ~/.aws for S3
(AWS_ENDPOINT_URL for other services with its API), Google's application default credentials, `hf auth login` or
HF_TOKEN.
"""

import os
from threading import Lock
from typing import Any

from workbench.errors import StorageError

OFFLINE = "WORKBENCH_OFFLINE"
"""Environment variable: 1 uses the local copies that are there and asks no store."""
CONNECT_SECONDS, READ_SECONDS = 5, 30
MOST_CONNECTIONS = 32
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub"}
_SETTINGS = ("AWS_", "GOOGLE_", "STORAGE_EMULATOR_", "HF_")  # environment variables that another connection would have

_connections: dict[Any, Any] = {}
_lock = Lock()


def offline() -> bool:
    """Whether no store is asked."""
    return os.environ.get(OFFLINE, "") not in ("", "0")


def connection(scheme: str) -> Any:
    """The store's `fsspec.AbstractFileSystem`; safe to use from several threads, and made anew in a forked process.

    Raises StorageError where the package for it is not installed, and offline.
    """
    if offline():
        raise StorageError(f"{scheme}:// places are not asked while {OFFLINE} is set. Unset it.")
    settings = frozenset(item for item in os.environ.items() if item[0].startswith(_SETTINGS))
    key = (scheme, os.getpid(), settings)
    with _lock:  # fsspec itself would make one for each thread
        if key not in _connections:
            _connections[key] = _connect(scheme)
        return _connections[key]


def _connect(scheme: str) -> Any:
    try:
        if scheme == "gs":
            # Not what fsspec gives: that one asks for a bucket's layout by another protocol, without a limit of time.
            from gcsfs.core import GCSFileSystem as FileSystem
        else:
            from fsspec import get_filesystem_class

            FileSystem = get_filesystem_class(scheme)
        return FileSystem(skip_instance_cache=True, use_listings_cache=False, **_options(scheme))
    except ImportError as error:
        raise StorageError(
            f"{scheme}:// needs the package {_PACKAGES.get(scheme, 'fsspec')} ({error}). "
            "Run: pip install 'eomt-workbench[cloud]'"
        ) from error


def _options(scheme: str) -> dict[str, Any]:
    if scheme == "gs" and os.environ.get("STORAGE_EMULATOR_HOST"):
        return {"token": "anon"}  # which has no accounts
    if scheme != "s3":
        return {}
    # Attempts are counted in `retrying`, once and for all stores. One GET an image, without asking for its size first.
    limits = {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "max_pool_connections": MOST_CONNECTIONS,
        "retries": {"mode": "standard", "total_max_attempts": 1},
    }
    return {"config_kwargs": limits, "max_concurrency": 1}
