"""matplotlib figures as SVG inside a page: colours from the page's style sheet, text as text, no styles inline.

A content security policy that allows styles by their hash alone refuses `style="..."` attributes, so each declaration
becomes the attribute of the same name. Colours of `PALETTE` become the page's variables, so that
one drawing serves light and dark.
"""

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = {
    "ink": "#000001",
    "muted": "#000002",
    "line": "#000003",
    "accent": "#000004",
    "accent2": "#000005",
    "accent3": "#000006",
    "paper": "#000007",
}
"""Name of the style sheet's variable: the colour that stands for it in matplotlib."""

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_ALLOWED = re.compile(r"[a-z-]+")
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # category names may hold dollar signs
    "font.size": 11,
    "text.color": PALETTE["ink"],
    "axes.labelcolor": PALETTE["muted"],
    "axes.edgecolor": PALETTE["line"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 11,
    "figure.facecolor": "none",
    "xtick.color": PALETTE["line"],
    "ytick.color": PALETTE["line"],
    "xtick.labelcolor": PALETTE["muted"],
    "ytick.labelcolor": PALETTE["muted"],
    "grid.color": PALETTE["line"],
    "grid.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


@contextmanager
def chart_style() -> Iterator[None]:
    """matplotlib's settings for a chart of a report."""
    import warnings

    import matplotlib

    settings: Any = _SETTINGS  # matplotlib's types want each key as a literal
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The reader's browser draws the text; what matplotlib's own font lacks does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def to_svg(figure: "Figure", name: str, title: str) -> str:
    """The figure as an `<svg>` element, the same text for the same figure; `name` keeps its ids apart from others'.

    `title` is what a screen reader says of it.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        _themed(element, name)
    natural = root.get("viewBox", "0 0 0 0").split()[2]
    root.attrib.pop("height", None)
    root.set("width", natural)
    root.set("class", "chart")
    root.set("role", "img")
    root.set("aria-label", title)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def printable(text: str) -> str:
    """The text without characters that XML cannot hold, on one line."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _themed(element: ElementTree.Element, name: str) -> None:
    for declaration in element.attrib.pop("style", "").split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if _ALLOWED.fullmatch(key) and key not in ("font", "font-family", "stroke-miterlimit"):
            element.set(key, value)
    for key, value in list(element.attrib.items()):
        element.set(key, _with_variables(value))
        if key == "id":
            element.set(key, f"{name}-{value}")
        elif value.startswith("#") and key == f"{{{_XLINK}}}href":
            element.set(key, f"#{name}-{value[1:]}")
        elif "url(#" in value:
            element.set(key, value.replace("url(#", f"url(#{name}-"))


def _with_variables(value: str) -> str:
    for variable, color in PALETTE.items():
        if value == color:
            return f"var(--{variable})"
    return value
