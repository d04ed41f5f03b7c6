"""A JSON array of objects, read object by object: a results file of gigabytes never lies in memory as a whole.

A first pass notes where each object lies; a second reads those that are wanted. Both see bytes, so a place is a byte.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO

from workbench.errors import TransferError

_CHUNK = 1 << 20
_SPACE = " \t\r\n"


class Span(NamedTuple):
    """Where an object lies in its file: bytes `start` to `end`."""

    start: int
    end: int


def scan(path: Path) -> Iterator[tuple[Span, dict[str, Any]]]:
    """Every object of the array with its place, in file order. Raises TransferError for anything else in the file."""
    # One character a byte: positions in the text are positions in the file, whatever its encoding.
    with path.open(encoding="latin-1", newline="") as file:
        text = _Text(path, file)
        if text.next_character() != "[":
            raise TransferError(f"{path}: not a JSON array of objects, as COCO results are. Is it another format?")
        text.advance()
        while text.next_character() != "]":
            span, value = text.read_value()
            if not isinstance(value, dict):
                raise TransferError(f"{path}: byte {span.start}: {value!r} is no object, as each COCO result is.")
            yield span, value
            if text.next_character() == ",":
                text.advance()
            elif text.next_character() != "]":
                raise text.broken("expected ',' or ']'")
        text.advance()
        if text.next_character():
            raise text.broken("more data after the array")


def read(file: BinaryIO, span: Span) -> dict[str, Any]:
    """The object at a place that `scan` gave."""
    file.seek(span.start)
    value: dict[str, Any] = json.loads(file.read(span.end - span.start))
    return value


class _Text:
    """The text of a file from the current position on, read as far as needed."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file = path, file
        self._buffer, self._at, self._base = "", 0, 0  # `_base`: the file position of the buffer's first character
        self._decoder = json.JSONDecoder()

    def next_character(self) -> str:
        """The next character that is no space, without moving past it; empty at the end of the file."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in _SPACE:
                    return self._buffer[self._at]
                self._at += 1
            if not self._read_more():
                return ""

    def advance(self) -> None:
        """Move past one character."""
        self._at += 1

    def read_value(self) -> tuple[Span, Any]:
        """The JSON value at the current position, with its place; moves past it."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except RecursionError as error:
                raise self.broken("nested too deeply") from error
            except json.JSONDecodeError as error:
                if not self._read_more():
                    raise self.broken(error.msg) from error
                continue
            except ValueError as error:
                raise self.broken(f"a number of too many digits ({error})") from error
            text = self._buffer[self._at : end]
            span = Span(self._base + self._at, self._base + end)
            self._at = end
            return span, value if text.isascii() else self._decoded(text)

    def broken(self, reason: str) -> TransferError:
        """What to raise where the text is not what it should be."""
        place = self._base + self._at
        return TransferError(f"{self._path}: broken JSON in the value at byte {place}: {reason}. Write the file again.")

    def _decoded(self, text: str) -> Any:
        try:
            return json.loads(text.encode("latin-1").decode("utf-8"))
        except UnicodeDecodeError as error:
            raise self.broken(f"not UTF-8 ({error.reason})") from error

    def _read_more(self) -> bool:
        # Doubling keeps a value that is far longer than a chunk from being parsed again at every chunk.
        more = self._file.read(max(_CHUNK, len(self._buffer) - self._at))
        self._base += self._at
        self._buffer, self._at = self._buffer[self._at :] + more, 0
        return bool(more)
