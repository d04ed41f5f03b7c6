"""The ways in which a label can be wrong, and what each is called."""

from collections.abc import Mapping
from typing import Literal, get_args

Kind = Literal["missing", "spurious", "wrong_class", "outline"]
KINDS: tuple[Kind, ...] = get_args(Kind)

TITLES: Mapping[Kind, tuple[str, str]] = {
    "missing": ("Missing label", "the run finds an object where nothing of its kind is labelled"),
    "spurious": ("Nothing there", "the run claims the label's place for something else, or for nothing"),
    "wrong_class": ("Wrong class", "the run finds the labelled object as another class"),
    "outline": ("Bad outline", "the run finds the object, but its outline fits worse than usual"),
}
"""Kind: its name for readers, and what it means."""
