"""Results as tables: every row for machines (CSV) and readers (Markdown), arms by size for the terminal.

Seeds are aggregated as the mean. Below it is its interval, or the lowest and highest seed where none is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
from rich.text import Text

from simtune.report.best_arms import best_arms
from simtune.report.marks import Marks, marks_of
from simtune.report.results_view import (
    SET_STATISTICS,
    Cell,
    GridPoint,
    Row,
    clean,
    columns,
    grid_points,
    number_columns,
    one_line,
    range_over_seeds,
    sorted_rows,
)
from simtune.report.statistics.records import Statistics
from simtune.report.table_metadata import MetricInfo, NumberColumn
from simtune.tables import TextTable
from simtune.wording import counted

_MAX_UNFINISHED_LINES = 12
_MOST_WITH_DECIMALS = 5
"""More columns with decimals in their intervals do not fit into 80 characters."""


@dataclass(frozen=True)
class Entry:
    """One printed cell: the mean over seeds and what a reader needs to judge it."""

    mean: str
    """The mean, or the status of the rows where none finished."""
    spread: str
    """Lowest to highest seed; empty with one seed."""
    seeds: str
    """"2/3 seeds" where some did not finish, else empty."""
    is_best: bool = False
    finished: bool = True
    """Whether there is a number."""


def entry(cell: Cell, column: NumberColumn, is_best: bool = False, spread_digits: int | None = None) -> Entry:
    """A cell's numbers in one column, as text; the range with its own digits where space is short."""
    values = cell.values(column.column)
    if not values:
        states = sorted({row["status"] for row in cell.rows if row["status"] != "done"})
        return Entry(one_line(" + ".join(states)) or "–", "", "", finished=False)
    digits = column.digits if spread_digits is None else spread_digits
    spread = range_over_seeds(values, digits)
    if column in SET_STATISTICS and min(values) == max(values):
        # Arms that draw nothing at random have the same set under every seed: not a measured spread of zero.
        spread = ""
    num_done = len(cell.rows) - len(cell.unfinished)
    seeds = f"{num_done}/{counted(len(cell.rows), 'seed')}" if cell.unfinished else ""
    return Entry(column.text(cell.mean(column.column)), spread, seeds, is_best)


@dataclass(frozen=True)
class SizeColumn:
    """A column of a pivot: a number of training tasks as asked for, and how it is printed."""

    size: int
    label: str


@dataclass(frozen=True)
class Pivot:
    """Arms against numbers of training tasks, for one grid point and one metric."""

    columns: tuple[SizeColumn, ...]
    """In ascending order."""
    lines: tuple[tuple[str, tuple[Entry | None, ...]], ...]
    """(arm, one entry per column; None where the arm was not planned at that size)."""

    @property
    def has_spread(self) -> bool:
        """Whether any cell has more than one seed."""
        return any(e is not None and e.spread for _, entries in self.lines for e in entries)


def size_label(cells: list[Cell], size: int) -> str:
    """The size, with the number of tasks there really were where the pool was smaller."""
    counts = {c.num_tasks for c in cells if c.size == size}
    if len(counts) == 1 and counts != {size}:
        return f"{size:,} → {counts.pop():,}"
    return f"{size:,}"


def pivot(point: GridPoint, metric: MetricInfo, spread_digits: int | None = None) -> Pivot:
    """Arranges a grid point's cells. Baselines are in column 0: they trained on no tasks."""
    sizes = {_column(cell) for cell in point.cells}
    ordered = sorted(sizes)
    tops = {id(cell) for size in point.sizes for cell in best_arms(point.at(size), metric)}
    lines: dict[str, list[Entry | None]] = {}
    for cell in point.cells:
        line = lines.setdefault(cell.arm, [None] * len(ordered))
        line[ordered.index(_column(cell))] = entry(cell, metric, id(cell) in tops, spread_digits)
    headings = tuple(SizeColumn(size, size_label(list(point.strategies), size)) for size in ordered)
    return Pivot(headings, tuple((arm, tuple(entries)) for arm, entries in lines.items()))


def _column(cell: Cell) -> int:
    return cell.num_tasks if cell.size is None else cell.size


def unfinished_line(row: Row) -> str:
    """A line about a trial that did not finish: what it was, its status and the reason."""
    parts = [row["arm"]]
    parts += [f"{name} {row[name]}" for name in ("size", "seed") if row[name] is not None]
    reason = one_line(row["error"] or "")
    if row.get("log"):
        on = f" on {one_line(row['host'])}" if row.get("host") else ""
        reason += f"; {counted(row['attempts'], 'attempt')}, {one_line(row['log'])}{on}"
    return one_line(", ".join(parts)) + f": {one_line(row['status'])}" + (f" ({reason})" if reason else "")


def results_table(rows: pa.Table, is_styled: bool = True, statistics: Statistics | None = None) -> TextTable:
    """The terminal's table of the headline metric: arms against numbers of training tasks, with the best of each size.

    Args:
        rows: results.parquet.
        is_styled: whether the best are in bold; otherwise they have an asterisk.
        statistics: of the same rows, for intervals; without them a mean has the range of its seeds below it.

    Returns:
        A table in which no text of the run is read as rich markup.
    """
    points = grid_points(rows)
    headlines = {point.headline.title for point in points}
    # Six sizes with their ranges must fit into 80 columns, so ranges have one digit here.
    pivots = [pivot(point, point.headline, spread_digits=1) for point in points]
    headings = list(dict.fromkeys(heading for shape in pivots for heading in shape.columns))
    digits = 1 if len(headings) <= _MOST_WITH_DECIMALS else 0
    marks = [marks_of(found, digits) for found in statistics.points] if statistics else [{}] * len(points)
    headings.sort(key=lambda heading: heading.size)
    table = TextTable(
        title=f"{headlines.pop() if len(headlines) == 1 else 'Scores'} by number of training tasks",
        collapse_padding=True,
    )
    table.add_columns("arm", max_width=30, overflow="fold")
    table.add_number_columns(*(heading.label for heading in headings))
    for point, shape, of_point in zip(points, pivots, marks, strict=True):
        if point.title:
            table.add_section()
            settings = [*map(one_line, point.differs), *([point.headline.title] if headlines else [])]
            table.add_row(Text("\n".join(settings), style="italic"))
        for arm, entries in shape.lines:
            by_column = dict(zip(shape.columns, entries, strict=True))
            of_arm = {size: found for (name, size), found in of_point.items() if name == arm}
            # A baseline has no size, and is in the column of 0 tasks.
            cells = [
                _terminal_cell(by_column.get(heading), of_arm.get(heading.size or None), is_styled)
                for heading in headings
            ]
            table.add_row(one_line(arm, 30), *cells)
    has_intervals = any(found.interval for of_point in marks for found in of_point.values())
    has_spread = any(p.has_spread for p in pivots)
    table.caption = _terminal_caption(points, _how_to_read(has_intervals, has_spread, is_styled))
    return table


def _terminal_cell(shown: Entry | None, marks: Marks | None, is_styled: bool) -> Text:
    if shown is None:
        return Text("")
    # A space keeps the decimal points in line.
    mark = "*" if shown.is_best and not is_styled else "~" if marks and marks.is_near_best else " "
    text = Text(
        shown.mean.replace(" + ", "\n") + mark, style="bold" if shown.is_best else ("" if shown.finished else "red")
    )
    for extra in ((marks.interval if marks else "") or shown.spread, shown.seeds):
        if extra:
            text.append(f"\n{extra}", style="dim not bold")
    return text


def _how_to_read(has_intervals: bool, has_spread: bool, is_styled: bool) -> str:
    best = f"{'Bold' if is_styled else '*'}: best mean of a size."
    if has_intervals:
        return f"Below a mean: its 95 % interval. {best} ~: cannot be told apart from it, paired by test task."
    return f"{'Mean over seeds, below it lowest–highest seed.' if has_spread else 'One seed.'} {best}"


def _terminal_caption(points: list[GridPoint], how_to_read: str) -> Text:
    lines = [how_to_read]
    unfinished = [(point.title, row) for point in points for row in point.unfinished]
    for title, row in unfinished[:_MAX_UNFINISHED_LINES]:
        lines.append(unfinished_line(row) + (f" [{one_line(title)}]" if title else ""))
    if len(unfinished) > _MAX_UNFINISHED_LINES:
        lines.append(f"and {len(unfinished) - _MAX_UNFINISHED_LINES} more that did not finish: see results.md")
    return Text("\n".join(lines))


def results_markdown(rows: pa.Table) -> str:
    """All rows and columns as one GitHub table; numbers right-aligned and in fixed formats."""
    names, numbers = columns(rows), number_columns(rows)
    numeric = {f.name for f in rows.schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)}
    lines = [
        "| " + " | ".join(markdown_text(name) for name in names) + " |",
        "|" + "|".join(" ---: " if name in numeric else " --- " for name in names) + "|",
    ]
    lines += [
        "| " + " | ".join(raw_text(row[name], numbers.get(name), markdown_text) for name in names) + " |"
        for row in sorted_rows(rows)
    ]
    return "\n".join(lines) + "\n"


def raw_text(value: object, column: NumberColumn | None, escape: Callable[[str], str] = str) -> str:
    """One value of a table as text.

    Args:
        value: as read; null gives an empty text.
        column: the format of a column of floats; None prints them in full.
        escape: applied to everything that is not formatted by `column`.
    """
    if value is None:
        return ""
    if isinstance(value, float) and column is not None:
        return column.text(value)
    return escape(str(value))


def markdown_text(text: str) -> str:
    """A text of a run as it stands in a GitHub table, with nothing that is read as markup."""
    escaped = re.sub(r"([\\`*\[\]~|$]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(clean(text).split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
