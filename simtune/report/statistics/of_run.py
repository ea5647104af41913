"""The statistics of a run, from its rows of `results.parquet` and `scores.parquet`."""

from __future__ import annotations

import pyarrow as pa

from simtune.report.results_view import GridPoint, grid_points
from simtune.report.statistics.claims import claims
from simtune.report.statistics.comparisons import arm_scores, compared
from simtune.report.statistics.intervals import Intervals
from simtune.report.statistics.power import power_rows, typical_variances
from simtune.report.statistics.records import PointStatistics, Statistics
from simtune.report.statistics.scaling import equivalents, lines, shares_of_full
from simtune.report.statistics.task_scores import point_scores


def run_statistics(results: pa.Table, scores: pa.Table | None) -> Statistics:
    """All statistics of a run; the same rows give the same records.

    Args:
        results: rows of `results.parquet`.
        scores: rows of `scores.parquet`; without them nothing has an interval.

    Raises:
        RunError: a column is missing, or a table is of another version.
    """
    return Statistics(points=tuple(point_statistics(point, scores) for point in grid_points(results)))


def point_statistics(point: GridPoint, scores: pa.Table | None) -> PointStatistics:
    """All statistics of a grid point's headline metric."""
    read = point_scores(point, scores)
    intervals = Intervals(read)
    comparisons = compared(point, read, intervals)
    fits = lines(point, read, intervals)
    of_full = shares_of_full(read, intervals)
    return PointStatistics(
        title=point.title,
        metric=point.headline.column,
        num_test_tasks=read.num_test_tasks,
        num_seeds=max((arm.num_seeds for arm in read.arms), default=0),
        scores=tuple(arm_scores(point, read, intervals.estimate([{i: 1.0} for i in range(len(read.arms))]))),
        comparisons=tuple(comparisons),
        fits=tuple(fits),
        equivalents=tuple(equivalents(point, read, intervals, fits)),
        of_full=tuple(of_full),
        power=tuple(power_rows(typical_variances(read, intervals))),
        claims=tuple(claims(point, read, intervals, of_full, comparisons)),
    )
