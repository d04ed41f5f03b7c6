"""What happens when FiftyOne's database goes away: one message, and the same command goes on later."""

from collections.abc import Iterator
from contextlib import contextmanager

from workbench.errors import FiftyOneError

_DRIVERS = {"pymongo", "mongoengine"}


@contextmanager
def told_if_it_fails() -> Iterator[None]:
    """Within it a database that does not answer, or refuses, is a FiftyOneError."""
    try:
        yield
    except Exception as error:
        # By name: importing the drivers to catch their errors would need FiftyOne before it is known to be installed.
        if _DRIVERS.isdisjoint(kind.__module__.partition(".")[0] for kind in type(error).__mro__):
            raise
        reason = str(error).partition("\n")[0].partition(" (configured timeouts")[0]
        raise FiftyOneError(
            f"FiftyOne's database failed ({type(error).__name__}: {reason[:200]}). See that it runs and has room, then "
            "give the same command again: it goes on with what is there."
        ) from error
