"""Tables of the page as plain data; `templates/tables.html` turns them into markup and escapes every text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Column:
    """A column and its heading."""

    title: str
    is_text: bool = False
    """Text is aligned at the left and wraps, numbers are aligned at the right."""


class TableCell(NamedTuple):
    """One cell; a tuple, because a run can have a million of them."""

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
    """A table from headings and cells that are mostly plain texts.

    Args:
        caption: the sentences above the table.
        columns: headings.
        rows: the first cell of each is its heading.
        title: the first words of the caption, in bold.
        css_class: of the table.
    """
    heads = tuple(Column(column) if isinstance(column, str) else column for column in columns)
    # Not the first one, which is a heading in each row.
    text_columns = {number for number, head in enumerate(heads) if head.is_text and number}

    def cell(number: int, given: str | TableCell) -> TableCell:
        css_class = "text" if number in text_columns else ""
        if isinstance(given, str):
            return TableCell(given, css_class=css_class)
        return given if given.css_class or not css_class else given._replace(css_class=css_class)

    return PageTable(
        title=title,
        caption=caption,
        columns=heads,
        rows=tuple(tuple(cell(number, given) for number, given in enumerate(row)) for row in rows),
        css_class=css_class,
    )
