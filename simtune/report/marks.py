"""What tables show beside a mean: its interval, and whether an arm can be told apart from the best of its size."""

from __future__ import annotations

from dataclasses import dataclass

from simtune.report.statistics.records import ArmScore, Comparison, PointStatistics


@dataclass(frozen=True)
class Marks:
    """Of one arm at one size."""

    interval: str
    """Such as "16.3–36.0"; empty where there is none."""
    is_near_best: bool
    """Not the best of its size, but not told apart from it, with Holm's correction."""


def marks_of(found: PointStatistics, digits: int) -> dict[tuple[str, int | None], Marks]:
    """The marks of every arm of a grid point, by name and size.

    Args:
        found: its statistics.
        digits: decimals of intervals.
    """
    near = _near_best(found)
    return {
        (score.of.arm, score.of.size): Marks(_interval(score, digits), (score.of.arm, score.of.size) in near)
        for score in found.scores
    }


def _interval(score: ArmScore, digits: int) -> str:
    interval = score.interval
    if interval is None or interval.low is None or interval.high is None or interval.low == interval.high:
        return ""
    return f"{interval.low:.{digits}f}–{interval.high:.{digits}f}".replace("-", "−")


def _near_best(found: PointStatistics) -> set[tuple[str, int | None]]:
    best = {(score.of.arm, score.of.size) for score in found.scores if score.is_best}
    near = set()
    for comparison in found.comparisons:
        sides = [(arm.arm, arm.size) for arm in (comparison.first, comparison.second)]
        if comparison.family.startswith("size ") and comparison.interval is not None and comparison.better is None:
            near |= {other for own, other in (sides, sides[::-1]) if own in best and other not in best}
    return near


def against_best(found: PointStatistics) -> tuple[ArmScore, list[Comparison]] | None:
    """The best trained arm of all sizes below the full pool's, and what it was compared with.

    Returns:
        The arm and its comparisons with baselines and the full pool; None where no arm of a size is the best.
    """
    best = [score for score in found.scores if score.is_best]
    if not best:
        return None
    sizes = {score.of.size or 0 for score in best}
    top = next(score for score in best if score.of.size == max(sizes))
    return top, [c for c in found.comparisons if c.first == top.of and not c.family.startswith("size ")]
