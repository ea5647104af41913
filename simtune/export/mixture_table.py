"""The mixture of a sweep as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simtune.config import Sweep
from simtune.tables import TextTable
from simtune.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_ROWS = 30


def mixture_summary(table: pa.Table, sweep: Sweep) -> TextTable:
    """A mixture for a terminal: the tasks with most examples first, not all of them where there are many."""
    rows = sorted(table.to_pylist(), key=lambda row: (row["grid"], -row["examples"], row["task"]))
    points = len({row["grid"] for row in rows})
    total = sum(row["examples"] for row in rows)
    several = f" at {counted(points, 'grid point')}" if points > 1 else ""
    left = len(rows) - _MOST_ROWS
    shown = TextTable(
        title=f"mixture: {sweep.mixture.rule}; {counted(total, 'example')} per epoch of "
        f"{counted(len(rows), 'task')}{several}",
        caption=(f"and {counted(left, 'more row')}, in the file. " if left > 0 else "")
        + "Shares are those of a training on the whole pool; a subset's examples are shared out among its own tasks.",
    )
    columns = [name for name in table.column_names if name != "grid" or points > 1]
    for name in columns:
        shown.add_column(name, justify="left" if name in {"grid", "task", "category"} else "right")
    for row in rows[:_MOST_ROWS]:
        cells = {**row, "share": f"{100 * row['share']:.2f} %", "passes": f"{row['passes']:.2f}"}
        shown.add_row(*(f"{cells[name]:,}" if isinstance(cells[name], int) else str(cells[name]) for name in columns))
    return shown
