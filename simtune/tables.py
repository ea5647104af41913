"""Tables for a terminal: one look, and sentences above and below them that are as wide as the terminal."""

from __future__ import annotations

import copy
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

from simtune.terminal import printable


class TextTable(Table):
    """A rich table with title and caption as paragraphs of their own, above and below it.

    Rich wraps both to the table's width, so that a sentence under two narrow columns has a word a line. A table
    without rows is its title and caption, without a box. No text is parsed as markup, because names come from files.
    """

    def __init__(self, *, title: str | None = None, caption: str | None = None, **look: object) -> None:
        """A table without columns and rows.

        Args:
            title: the paragraph above it.
            caption: the paragraph below it.
            look: what differs from the usual look, as rich's `Table` takes it.
        """
        usual: dict[str, Any] = {"box": box.SIMPLE_HEAD, "show_edge": False, "pad_edge": False}
        super().__init__(title=title, caption=caption, **(usual | look))

    def add_columns(self, *headings: str, **options: Any) -> None:
        """Adds columns that share their options."""
        for heading in headings:
            self.add_column(Text(printable(heading)), **options)

    def add_number_columns(self, *headings: str, **options: Any) -> None:
        """Adds right-aligned columns."""
        self.add_columns(*headings, justify="right", **options)

    def add_row(self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        """Adds a row; texts are printed as they are."""
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
