"""Tables for a terminal, whose title and caption have the terminal's width and not the table's."""

from __future__ import annotations

import copy

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

from simtune.terminal import printable


class TextTable(Table):
    """A rich table with title and caption as paragraphs of their own, above and below it.

    Rich wraps both to the table's width, so that a sentence under two narrow columns has a word a line. A table
    without rows is its title and caption, without a box. No text is read as markup: names come from files.
    """

    def add_row(self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        """Adds a row; texts stand as they are."""
        plain = [Text(printable(cell)) if isinstance(cell, str) else cell for cell in cells]
        super().add_row(*plain, style=style, end_section=end_section)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        bare = copy.copy(self)
        bare.title = bare.caption = None
        if self.title:
            yield _paragraph(self.title, "bold")
        if self.row_count:
            yield from Table.__rich_console__(bare, console, options)
        if self.caption:
            yield _paragraph(self.caption, "dim")


def _paragraph(text: object, style: str) -> Text:
    return text if isinstance(text, Text) else Text(printable(str(text)), style)
