"""Tables of the page as plain data; `templates/tables.html` turns them into markup and escapes every text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column and its heading."""

    title: str
    is_text: bool = False
    """Text is aligned at the left and wraps, numbers are aligned at the right."""


@dataclass(frozen=True)
class TableCell:
    """One cell."""

    text: str = ""
    small: tuple[str, ...] = ()
    """Further texts in small letters."""
    css_class: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table whose first column names its rows."""

    title: str
    """The first words of the caption, in bold; may be empty."""
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    css_class: str = ""

    @property
    def label(self) -> str:
        """The whole caption, for screen readers."""
        return f"{self.title} {self.caption}".strip()


def page_table(
    caption: str,
    columns: Sequence[str | Column],
    rows: Iterable[Sequence[str | TableCell]],
    title: str = "",
    css_class: str = "",
) -> PageTable:
    """A table from headings and cells that are mostly plain texts."""
    return PageTable(
        title=title,
        caption=caption,
        columns=tuple(Column(column) if isinstance(column, str) else column for column in columns),
        rows=tuple(tuple(TableCell(cell) if isinstance(cell, str) else cell for cell in row) for row in rows),
        css_class=css_class,
    )
