"""Text of others on its way to a person: characters that steer a terminal or turn text around, as their codes.

A category's name may hold what clears the screen, renames the window or types for the user. A terminal gets the line
`\\u001b[2J` instead, which JSON reads as the same character.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

# All of Unicode's control characters but tab and line feed; and those that reorder what stands around them.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with each such character as `\\u` and four hexadecimal digits."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class PrintableStream:
    """A stream that writes what is printable; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream
        """By this name rich finds the stream itself, for the codes of its bars and bold type: see `consoles.py`."""

    def write(self, text: str) -> int:
        """Write it; how many characters were given."""
        self.rich_proxied_file.write(printable(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write them all."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def printable_streams() -> Iterator[None]:
    """stdout and stderr print nothing else meanwhile."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, PrintableStream(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
