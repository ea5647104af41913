"""What more tasks are worth: a line through an arm's scores, and how many tasks another arm needs for the same score.

The line is least squares through the means of the sizes against the logarithm of the number of tasks. A point on it, a
score, and a share of another score are all weighted sums of arms that depend on one number x; the interval of x has
every value at which the interval of that sum contains 0 (Fieller 1954).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from simtune.report.results_view import GridPoint
from simtune.report.statistics.intervals import Contrast, Intervals, student_reach
from simtune.report.statistics.records import Covers, Equivalent, Fit, Interval, OfFull
from simtune.report.statistics.task_scores import PointScores

_GRID = 801


def lines(point: GridPoint, scores: PointScores, intervals: Intervals) -> list[Fit]:
    """The line of each arm that was trained on at least two numbers of tasks."""
    arms = {arm: found for arm in point.arms if len(found := _by_tasks(scores, arm)) > 1}
    slopes = [_line(found)[1] for found in arms.values()]
    doublings = [{index: factor * math.log(2) for index, factor in slope.items()} for slope in slopes]
    fits = []
    for (arm, by_tasks), estimate in zip(arms.items(), intervals.estimate(doublings), strict=True):
        at_one, slope = (_value(scores, part) for part in _line(by_tasks))
        residuals = [scores.arms[i].mean - at_one - slope * math.log(tasks) for tasks, i in by_tasks.items()]
        fits.append(
            Fit(
                arm=arm,
                num_sizes=len(by_tasks),
                least_tasks=min(by_tasks),
                most_tasks=max(by_tasks),
                intercept=at_one,
                slope=slope,
                per_doubling=estimate.value,
                interval=estimate.interval,
                covers=estimate.covers,
                largest_residual=max(map(abs, residuals)) if len(by_tasks) > 2 else 0.0,
            )
        )
    return fits


def equivalents(point: GridPoint, scores: PointScores, intervals: Intervals, fits: list[Fit]) -> list[Equivalent]:
    """For each arm at each size, how many tasks each other arm needs for its score."""
    found = []
    for index, cell in enumerate(scores.cells):
        if cell.type != "strategy":
            continue
        for fit in fits:
            # A line that falls with more tasks says nothing about how many are needed.
            if fit.arm != cell.arm and point.headline.merit(fit.slope) > 0:
                found.append(_equivalent(scores, intervals, index, fit))
    return found


def shares_of_full(scores: PointScores, intervals: Intervals) -> list[OfFull]:
    """How near each arm comes to the full pool."""
    full = next((i for i, cell in enumerate(scores.cells) if cell.type == "full"), None)
    if full is None or scores.arms[full].mean <= 0:
        return []
    whole = scores.arms[full]
    found = []
    for index, cell in enumerate(scores.cells):
        arm = scores.arms[index]
        if cell.type != "strategy" or not 0 < arm.of.num_tasks < whole.of.num_tasks:
            continue
        share = arm.mean / whole.mean
        at = _share_of(index, full)
        interval, covers = _set_around_zero(scores, intervals, at, (share - 1, share + 1))
        found.append(
            OfFull(
                of=arm.of,
                full_tasks=whole.of.num_tasks,
                times_fewer=whole.of.num_tasks / arm.of.num_tasks,
                change=share - 1,
                interval=interval and Interval(low=_minus_one(interval.low), high=_minus_one(interval.high)),
                covers=covers,
            )
        )
    return found


def _share_of(arm: int, full: int) -> Callable[[float], Contrast]:
    return lambda share: {arm: 1.0, full: -share}


def _minus_one(share: float | None) -> float | None:
    return None if share is None else share - 1


def _by_tasks(scores: PointScores, arm: str) -> dict[int, int]:
    """The positions of an arm's cells by their number of tasks: two sizes above the pool are the same set."""
    found: dict[int, int] = {}
    for index, cell in enumerate(scores.cells):
        if cell.arm == arm and cell.type == "strategy" and cell.num_tasks:
            found.setdefault(cell.num_tasks, index)
    return dict(sorted(found.items()))


def _line(by_tasks: dict[int, int]) -> tuple[Contrast, Contrast]:
    """Intercept and slope as weighted sums of the sizes' scores."""
    x = np.log(np.array(list(by_tasks)))
    slope = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    at_one = 1 / len(x) - x.mean() * slope
    return tuple(dict(zip(by_tasks.values(), map(float, part), strict=True)) for part in (at_one, slope))  # type: ignore[return-value]


def _value(scores: PointScores, contrast: Contrast) -> float:
    return math.fsum(factor * scores.arms[index].mean for index, factor in contrast.items())


def _equivalent(scores: PointScores, intervals: Intervals, index: int, fit: Fit) -> Equivalent:
    arm = scores.arms[index]
    at_one, slope = _line(_by_tasks(scores, fit.arm))

    def at(log_tasks: float) -> Contrast:
        on_line = {i: at_one[i] + slope[i] * log_tasks for i in slope}
        return on_line | {index: -1.0}

    log_tasks = (arm.mean - fit.intercept) / fit.slope
    ends = math.log(fit.least_tasks), math.log(fit.most_tasks)
    interval, covers = _set_around_zero(scores, intervals, at, ends)
    return Equivalent(
        of=arm.of,
        score=arm.mean,
        other=fit.arm,
        num_tasks=math.exp(log_tasks) if ends[0] <= log_tasks <= ends[1] else None,
        beyond="fewer" if log_tasks < ends[0] else "more" if log_tasks > ends[1] else "",
        interval=interval and Interval(low=_exp(interval.low), high=_exp(interval.high)),
        covers=covers,
        least_tasks=fit.least_tasks,
        most_tasks=fit.most_tasks,
    )


def _exp(value: float | None) -> float | None:
    return None if value is None else math.exp(value)


def _set_around_zero(
    scores: PointScores, intervals: Intervals, contrast_at: Callable[[float], Contrast], ends: tuple[float, float]
) -> tuple[Interval | None, Covers]:
    """The values between two ends at which the interval of a contrast contains 0.

    Args:
        scores: of the grid point.
        intervals: of the same.
        contrast_at: linear in its argument, so that its variances are quadratic: three values of x give all others.
        ends: of x.

    Returns:
        The interval, whose ends are None where it goes on beyond `ends`; None where no value is inside.
    """
    contrast = contrast_at(ends[0])
    if intervals.reason(contrast):
        return None, "nothing"
    three = np.array([ends[0], (ends[0] + ends[1]) / 2, ends[1]])
    found = [intervals.spread(contrast_at(float(x))) for x in three]
    freedom, covered = found[1][1], found[1][2]
    grid = np.linspace(*ends, _GRID)
    tasks = np.maximum(np.polyval(np.polyfit(three, [spread.tasks for spread, *_ in found], 2), grid), 0.0)
    seeds = np.polyval(np.polyfit(three, [spread.seeds for spread, *_ in found], 2), grid)
    seeds = np.maximum(seeds, 0.0) if covered else np.zeros(_GRID)
    reach = student_reach(tasks, scores.num_test_tasks - 1, seeds, freedom)
    room = reach**2 * (tasks + seeds)
    values = np.interp(grid, three, [_value(scores, contrast_at(float(x))) for x in three])
    covers: Covers = "test tasks and seeds" if covered else "test tasks"
    inside = np.flatnonzero(values**2 <= room)
    if not inside.size:
        return None, covers
    first, last = int(inside[0]), int(inside[-1])
    distance = values**2 - room
    low = None if first == 0 else _crossing(grid, distance, first - 1)
    high = None if last == _GRID - 1 else _crossing(grid, distance, last)
    return Interval(low=low, high=high), covers


def _crossing(grid: np.ndarray, distance: np.ndarray, before: int) -> float:
    """Where a straight line between two neighbours is 0."""
    left, right = distance[before], distance[before + 1]
    return float(grid[before] + (grid[before + 1] - grid[before]) * left / (left - right))
