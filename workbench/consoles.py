"""rich's console for tables and bars, whose texts are made printable before rich adds its own codes."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from workbench.printable import printable


class PrintableConsole(Console):
    """All texts are shown with `printable`; what rich itself says to the terminal goes through."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """rich's own, text by text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
