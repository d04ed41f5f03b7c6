"""Seeded damage to files: bits and bytes, words of the format, and the structure of JSON and TOML."""

import copy
import json
import random
import struct
import tomllib
from collections.abc import Callable, Sequence
from typing import Any

_LARGEST = 1 << 16  # bytes of an input
_NUMBERS = (0, -1, 1, 2**31 - 1, 2**31, -(2**31), 2**32, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 10**400)
_ODD_VALUES: tuple[Any, ...] = (
    *_NUMBERS,
    *(None, True, False, "", " ", "\0", "../../x", "/etc/passwd", "\ud800", "é", "9" * 5000, "x" * 300),
    *(0.5, -0.0, 1e308, float("nan"), float("inf"), float("-inf"), [], {}, [[]], [None], {"": None}),
)
_WORDS = (b"\0", b"\n", b'"', b"[", b"]", b"{", b"}", b",", b"NaN", b"1e999", b"-1", b"9" * 5000, b"../", b"\xff\xfe")


def mutate(data: bytes, chance: random.Random, kind: str, words: Sequence[bytes], other: bytes) -> bytes:
    """A damaged copy of `data`, at most 64 KiB; `kind` is "json", "toml" or "bytes", `other` an input to splice in."""
    structural = {"json": _json, "toml": _toml}.get(kind)
    if structural is not None and chance.random() < 0.7:
        changed = structural(data, chance)
        if changed is not None:
            return changed[:_LARGEST]
    content = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        content = chance.choice(_BYTE_CHANGES)(content, chance, (*words, *_WORDS), other)
    return bytes(content[:_LARGEST])


_Change = Callable[[bytearray, random.Random, Sequence[bytes], bytes], bytearray]


def _place(content: bytearray, chance: random.Random) -> int:
    """Headers decide most: half of all changes fall on the first 64 bytes."""
    end = min(len(content), 64) if chance.random() < 0.5 else len(content)
    return chance.randrange(end + 1)


def _flip(content: bytearray, chance: random.Random, words: Sequence[bytes], other: bytes) -> bytearray:
    if content:
        content[min(_place(content, chance), len(content) - 1)] ^= 1 << chance.randrange(8)
    return content


def _set(content: bytearray, chance: random.Random, words: Sequence[bytes], other: bytes) -> bytearray:
    if content:
        content[min(_place(content, chance), len(content) - 1)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, 0x30, 0x6F))
    return content


def _truncate(content: bytearray, chance: random.Random, words: Sequence[bytes], other: bytes) -> bytearray:
    return content[: _place(content, chance)]


def _cut_out(content: bytearray, chance: random.Random, words: Sequence[bytes], other: bytes) -> bytearray:
    start = _place(content, chance)
    return content[:start] + content[start + chance.randrange(1, 32) :]


def _repeat(content: bytearray, chance: random.Random, words: Sequence[bytes], other: bytes) -> bytearray:
    start = _place(content, chance)
    part = content[start : start + chance.randrange(1, 32)]
    return content[:start] + part * chance.choice((2, 3, 300)) + content[start:]


def _insert_word(content: bytearray, chance: random.Random, words: Sequence[bytes], other: bytes) -> bytearray:
    start = _place(content, chance)
    return content[:start] + chance.choice(words) + content[start:]


def _nest(content: bytearray, chance: random.Random, words: Sequence[bytes], other: bytes) -> bytearray:
    start = _place(content, chance)
    return content[:start] + chance.choice((b"[", b'{"a":')) * chance.choice((50, 5000, 60000)) + content[start:]


def _number(content: bytearray, chance: random.Random, words: Sequence[bytes], other: bytes) -> bytearray:
    """A whole number of 2, 4 or 8 bytes, of either order, as headers hold them."""
    start = _place(content, chance)
    form = chance.choice("<>") + chance.choice("HIQ")
    size = struct.calcsize(form)
    most = (1 << 8 * size) - 1
    value = chance.choice((0, 1, most, most >> 1, 1 + (most >> 1), most >> 4, chance.randrange(1 << 16)))
    content[start : start + size] = struct.pack(form, value)
    return content


def _splice(content: bytearray, chance: random.Random, words: Sequence[bytes], other: bytes) -> bytearray:
    return content[: _place(content, chance)] + other[chance.randrange(len(other) + 1) :]


_BYTE_CHANGES: tuple[_Change, ...] = (
    *(_flip, _flip, _set, _set, _truncate, _cut_out, _repeat, _insert_word, _number, _splice, _nest),
)


def _json(data: bytes, chance: random.Random) -> bytes | None:
    """JSON with a value of it replaced, removed, doubled or moved; None where `data` is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    value = _restructured(value, chance)
    text = json.dumps(value)
    if chance.random() < 0.05 and text.startswith("{"):  # keys that occur twice
        text = "{" + text[1:-1] + ", " + text[1:]
    return text.encode()


def _toml(data: bytes, chance: random.Random) -> bytes | None:
    try:
        value = tomllib.loads(data.decode())
    except (ValueError, RecursionError):
        return None
    value = _restructured(value, chance)
    if not isinstance(value, dict):
        return None
    return "".join(f"{_key(key)} = {_toml_value(item)}\n" for key, item in value.items()).encode(errors="replace")


def _key(key: str) -> str:
    return json.dumps(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, float):
        return str(value)  # nan and inf are TOML
    return "[]" if value is None else json.dumps(value, ensure_ascii="\ud800" not in str(value))


def _restructured(value: Any, chance: random.Random) -> Any:
    value = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return chance.choice(_ODD_VALUES)
        holder, key = chance.choice(places)
        _change_at(holder, key, chance, places)
    return value


def _places(value: Any) -> Any:
    """Every (container, key) of a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from _places(item)


def _change_at(holder: Any, key: Any, chance: random.Random, places: list[Any]) -> None:
    action = chance.randrange(6)
    old = holder[key]
    if action == 0:
        del holder[key]
    elif action == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(old))
    elif action == 2:
        other, place = chance.choice(places)
        if place in other if isinstance(other, dict) else place < len(other):
            holder[key] = copy.deepcopy(other[place])
    elif action == 3 and isinstance(old, int | float):
        holder[key] = chance.choice((-old, old + 1, old - 1, str(old), [old], float(min(old, 1e300)), old * 2**20))
    elif action == 4 and isinstance(old, str) and old:
        place = chance.randrange(len(old))
        holder[key] = old[:place] + chance.choice(("", "\0", "0", "o", "é", "~", "..", "/", "$")) + old[place + 1 :]
    elif action == 5 and isinstance(holder, dict):
        holder[chance.choice((key + "x", "", "__class__", "size", "id"))] = holder.pop(key)
    else:
        holder[key] = copy.deepcopy(chance.choice(_ODD_VALUES))
