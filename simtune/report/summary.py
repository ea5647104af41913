"""The lines under the terminal's table: the best arm, what it cannot be told apart from, baselines that beat it."""

from __future__ import annotations

import pyarrow as pa

from simtune.report.marks import against_best, marks_of
from simtune.report.results_view import GridPoint, grid_points, one_line
from simtune.report.statistics.records import ArmAtSize, PointStatistics, Statistics
from simtune.report.statistics.wording import listed, over, quoted, span
from simtune.wording import counted

_MOST_POINTS = 4


def summary_lines(rows: pa.Table, statistics: Statistics) -> list[str]:
    """One paragraph a grid point.

    Args:
        rows: results.parquet.
        statistics: of the same rows.
    """
    points = grid_points(rows)
    lines = []
    for point, found in zip(points[:_MOST_POINTS], statistics.points, strict=False):
        lines += _lines(point, found)
    if len(points) > _MOST_POINTS:
        lines.append(f"The report has {counted(len(points) - _MOST_POINTS, 'more grid point')}.")
    return lines


def _lines(point: GridPoint, found: PointStatistics) -> list[str]:
    best = against_best(found)
    if best is None:
        return []
    metric, (top, comparisons) = point.headline, best
    where = f"{one_line(point.title)}: " if point.title else ""
    interval = f" (95 % interval {span(top.interval, metric.digits).replace('+', '')})" if top.interval else ""
    lines = [f"{where}best: {_named(top.of)}, {one_line(metric.title)} {metric.text(top.mean)}{interval}."]
    near = [arm for (arm, size), marks in marks_of(found, 1).items() if size == top.of.size and marks.is_near_best]
    if near:
        lines.append(f"  It cannot be told apart from {listed([quoted(arm) for arm in near])} at that size.")
    means = {(score.of.arm, score.of.size): metric.text(score.mean) for score in found.scores}
    baselines = [c for c in comparisons if c.family.startswith("baseline ") and c.interval is not None]
    for better, verb in (("second", "beat it"), (None, "cannot be told apart from it")):
        named = [f"{quoted(c.second.arm)} ({means[c.second.arm, None]})" for c in baselines if c.better == better]
        if named:
            verb = "beats it" if better and len(named) == 1 else verb
            lines.append(f"  {listed(named)}, training on no task, {verb}.")
    if top.interval:
        lines.append(
            f"  Intervals allow for {over(top.covers)}{'' if found.num_seeds > 1 else ', not for other seeds'}."
        )
    return lines


def _named(arm: ArmAtSize) -> str:
    return f"{quoted(arm.arm)} with {counted(arm.num_tasks, 'task')}"
