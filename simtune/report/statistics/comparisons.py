"""Every pair of arms at one size, and every arm against the full pool and each baseline, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from simtune.report.best_arms import best_arms
from simtune.report.results_view import GridPoint
from simtune.report.statistics.intervals import Contrast, Estimate, Intervals
from simtune.report.statistics.multiple import benjamini_hochberg, holm
from simtune.report.statistics.quantiles import normal_quantile
from simtune.report.statistics.records import LEVEL, ArmScore, Comparison, Interval
from simtune.report.statistics.task_scores import PointScores, TaskScores

POWER = 0.8
_VISIBLE = 1 + normal_quantile(POWER) / normal_quantile((1 + LEVEL) / 2)
"""A difference of this many half widths of its interval excludes 0 in `POWER` of all runs."""


@dataclass(frozen=True)
class Pair:
    """Two arms that are compared, by their positions, and what they are corrected with."""

    family: str
    first: int
    second: int

    @property
    def contrast(self) -> Contrast:
        """First minus second."""
        return {self.first: 1.0, self.second: -1.0}


def pairs(scores: PointScores) -> list[Pair]:
    """All pairs that a grid point compares, family by family."""
    strategies = [i for i, cell in enumerate(scores.cells) if cell.type == "strategy"]
    full = [i for i, cell in enumerate(scores.cells) if cell.type == "full"]
    found = []
    for size in sorted({scores.cells[i].size or 0 for i in strategies}):
        of_size = [i for i in strategies if scores.cells[i].size == size]
        found += [Pair(f"size {size}", first, second) for first, second in combinations(of_size, 2)]
    found += [Pair("full", arm, whole) for whole in full for arm in strategies]
    for baseline, cell in enumerate(scores.cells):
        if cell.type == "baseline":
            found += [Pair(f"baseline {cell.arm}", arm, baseline) for arm in [*strategies, *full]]
    return found


def arm_scores(point: GridPoint, scores: PointScores, estimates: Sequence[Estimate]) -> list[ArmScore]:
    """The score of each arm; `estimates` are those of the arms alone."""
    best = {id(cell) for size in point.sizes for cell in best_arms(point.at(size), point.headline)}
    found = []
    for cell, arm, estimate in zip(scores.cells, scores.arms, estimates, strict=True):
        values = cell.values(point.headline.column)
        spread = (sum((value - arm.mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5 if values[1:] else None
        found.append(
            ArmScore(
                of=arm.of,
                type=cell.type,
                mean=arm.mean,
                num_seeds=arm.num_seeds,
                lowest=min(values),
                highest=max(values),
                standard_deviation=spread,
                interval=_within_task_scores(estimate.interval, arm),
                covers=estimate.covers,
                is_best=id(cell) in best,
            )
        )
    return found


def _within_task_scores(interval: Interval | None, arm: TaskScores) -> Interval | None:
    """An interval of a mean without what no test task scored: a ROUGE-L below 0 is no score."""
    if interval is None or interval.low is None or interval.high is None:
        return interval
    low, high = float(arm.mean_T.min()), float(arm.mean_T.max())
    return Interval(low=max(interval.low, min(low, arm.mean)), high=min(interval.high, max(high, arm.mean)))


def compared(point: GridPoint, scores: PointScores, intervals: Intervals) -> list[Comparison]:
    """All comparisons of a grid point."""
    found = pairs(scores)
    estimates = intervals.estimate([pair.contrast for pair in found])
    estimates = [
        _of_same_trials(estimate) if same_trials(scores, pair) else estimate
        for pair, estimate in zip(found, estimates, strict=True)
    ]
    corrected: dict[int, tuple[float, float]] = {}
    for family in dict.fromkeys(pair.family for pair in found):
        known = {i: p for i, e in enumerate(estimates) if found[i].family == family and (p := e.p) is not None}
        values = list(known.values())
        corrected |= dict(zip(known, zip(holm(values), benjamini_hochberg(values), strict=True), strict=True))
    higher = point.headline.higher_is_better
    return [
        _comparison(scores, pair, estimate, corrected.get(index, (None, None)), higher)
        for index, (pair, estimate) in enumerate(zip(found, estimates, strict=True))
    ]


def same_trials(scores: PointScores, pair: Pair) -> bool:
    """Whether two arms are one result under two names."""
    first, second = ({row["trial"] for row in scores.cells[i].done} for i in (pair.first, pair.second))
    return first == second


def _of_same_trials(estimate: Estimate) -> Estimate:
    """Equal by construction, which is no finding: without a p-value, it is not corrected for either."""
    return replace(estimate, p=None, reason="both trained on the same set of tasks with the same seeds")


def _comparison(
    scores: PointScores,
    pair: Pair,
    estimate: Estimate,
    corrected: tuple[float | None, float | None],
    higher_is_better: bool,
) -> Comparison:
    first, second = scores.arms[pair.first], scores.arms[pair.second]
    p_holm, p_fdr = corrected
    better: Literal["first", "second"] | None = None
    if p_holm is not None and p_holm <= 1 - LEVEL and estimate.value:
        better = "first" if (estimate.value > 0) == higher_is_better else "second"
    return Comparison(
        family=pair.family,
        first=first.of,
        second=second.of,
        difference=estimate.value,
        interval=estimate.interval,
        covers=estimate.covers,
        standard_error=estimate.standard_error,
        p=estimate.p,
        p_holm=p_holm,
        p_fdr=p_fdr,
        smallest_visible=None if estimate.p is None else _smallest_visible(estimate),
        num_seeds=min(first.num_seeds, second.num_seeds),
        num_test_tasks=scores.num_test_tasks if estimate.interval else 0,
        same_trials=same_trials(scores, pair),
        better=better,
        reason=estimate.reason,
    )


def _smallest_visible(estimate: Estimate) -> float | None:
    interval = estimate.interval
    if interval is None or interval.low is None or interval.high is None:
        return None
    return _VISIBLE * (interval.high - interval.low) / 2
