"""A Ray cluster to work on: one that runs already, or one of this machine's own that ends with the work."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from workbench.errors import EngineError

_SECONDS_TO_CONNECT = 10.0


@contextmanager
def connect(address: str | None = None, num_cpus: int | None = None) -> Iterator[ModuleType]:
    """The module `ray`, connected for the block.

    A process that is connected already stays so, to the same cluster. Else `address` is that of a running cluster
    ("auto": the one that this machine belongs to, `RAY_ADDRESS` before it); None starts one on this machine with
    `num_cpus` (None: all its cores), which is shut down when the block ends. Raises EngineError where Ray is not
    installed and where the cluster cannot be reached.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    if address:
        _check_listening(address)
    try:
        ray.init(
            address=address or "local",
            num_cpus=None if address else num_cpus,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (SystemExit, Exception) as error:  # an address where nothing listens makes Ray leave the program
        reason = f"{type(error).__name__}: {error}"
        if address:
            raise _unreachable(address, reason) from error
        raise EngineError(
            f"no Ray cluster can be started here ({reason}). Name a running one with --address."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_listening(address: str) -> None:
    """Raise EngineError at once where nothing listens at HOST:PORT: Ray itself would try for two minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_SECONDS_TO_CONNECT).close()
    except OSError as error:
        raise _unreachable(address, str(error)) from error


def _unreachable(address: str, reason: str) -> EngineError:
    return EngineError(
        f"the Ray cluster at {address} cannot be reached ({reason}). Start it with `ray start --head`, or correct "
        "--address."
    )


def import_ray() -> ModuleType:
    """The module `ray`. Raises EngineError, naming the extra, where it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise EngineError(
            f"--engine ray needs Ray, which cannot be imported ({error}). Install it: pip install 'eomt-workbench[ray]'"
        ) from error
    module: ModuleType = ray
    return module
