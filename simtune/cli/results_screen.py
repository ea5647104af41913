"""What `run` and `results` show of a run: the table with intervals, and what it says in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simtune.cli.screen import Screen
from simtune.report.statistics.records import STATISTICS, Statistics
from simtune.report.summary import summary_lines
from simtune.report.tables import results_table
from simtune.storage.files import AnyPath
from simtune.storage.records import read_record_if_present
from simtune.terminal import printable

if TYPE_CHECKING:
    import pyarrow as pa


def show_results(run: AnyPath, rows: pa.Table) -> None:
    """Prints the results of a run.

    Args:
        run: its directory.
        rows: results.parquet. The report's statistics are shown if they are of these rows.
    """
    statistics = read_record_if_present(run / STATISTICS, Statistics, "`simtune report` writes it again")
    if statistics is not None and not _is_of(statistics, rows):
        statistics = None
    screen = Screen()
    screen.print(results_table(rows, is_styled=screen.is_terminal, statistics=statistics))
    for line in summary_lines(rows, statistics) if statistics else ():
        screen.print(printable(line), markup=False, emoji=False)


def _is_of(statistics: Statistics, rows: pa.Table) -> bool:
    """Whether the report was built when these rows had their scores: a run that goes on has more than its report."""
    from simtune.report.results_view import grid_points

    points = grid_points(rows)
    means = [
        [(cell.arm, cell.size, cell.mean(point.headline.column)) for cell in point.cells if cell.done]
        for point in points
    ]
    return means == [[(s.of.arm, s.of.size, s.mean) for s in point.scores] for point in statistics.points]
