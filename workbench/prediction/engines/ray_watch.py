"""A look at every step of a Ray Data stream, so that it ends when it is told to, and not with its next result."""

from collections.abc import Callable
from time import monotonic
from typing import Any

from workbench.prediction.interrupt import StopRequest

_SECONDS_BETWEEN_LOOKS = 2.0
_SECONDS_OF_PATIENCE = 20.0


class Ended(Exception):
    """Raised into a stream to end it; see `Watch`."""


class Watch:
    """Why a stream is to end before its time, if it is.

    `misfit` tells whether the cluster has room for more or for fewer workers than the stream has. A node that comes or
    goes may be followed by another one, so that this has to last for a while.
    """

    def __init__(self, stop: StopRequest, misfit: Callable[[], bool]) -> None:
        self._stop, self._misfit = stop, misfit
        self._looked = self._fitted = monotonic()
        self.ended = False

    def __call__(self) -> None:
        """Raise Ended where that is so. Cheap enough for every step."""
        if self._stop.requested or self._lasting_misfit():
            self.ended = True
            raise Ended

    def _lasting_misfit(self) -> bool:
        now = monotonic()
        if now - self._looked < _SECONDS_BETWEEN_LOOKS:
            return False
        self._looked = now
        if not self._misfit():
            self._fitted = now
        return now - self._fitted > _SECONDS_OF_PATIENCE

    def __reduce__(self) -> tuple[Callable[[], Callable[[], None]], tuple[()]]:
        """Nothing of it goes to the workers, to which Ray Data sends a copy of all its settings."""
        return _look_nowhere, ()


def _look_nowhere() -> Callable[[], None]:
    return lambda: None


def callback_class(watch: Watch) -> type[Any]:
    """A class for `DataContext.custom_execution_callback_classes`."""
    from ray.data._internal.execution.execution_callback import ExecutionCallback

    class Callback(ExecutionCallback):  # type: ignore[misc]
        def on_execution_step(self, executor: Any) -> None:
            watch()

    return Callback
