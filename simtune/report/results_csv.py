"""A table as CSV for spreadsheets: floats in full precision, text that no spreadsheet runs as a formula."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pyarrow as pa

from simtune.report.results_view import columns, sorted_rows

# Some spreadsheets drop blanks, invisible marks and line ends first, and read full-width signs as the usual ones.
_FORMULA = re.compile(r"[\t\r\n]|[\s\x00-\x1f\u200b-\u200f\u2060\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def results_csv(rows: pa.Table) -> str:
    """All rows and columns of a run's results."""
    names = columns(rows)
    return csv_text([names, *[[row[name] for name in names] for row in sorted_rows(rows)]])


def csv_text(lines: Iterable[Sequence[object]]) -> str:
    """Lines of cells as CSV."""
    return "".join(",".join(map(_cell, line)) + "\n" for line in lines)


def _cell(value: object) -> str:
    """A cell, with an apostrophe in front of text that a spreadsheet would run; text that is a number stays.

    Quoted here because Python 3.11's csv module leaves a lone carriage return unquoted when lines end in LF.
    """
    text = "" if value is None else str(value)
    if isinstance(value, str) and _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        text = "'" + text
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text
