"""Intervals and p-values of differences, and of every other weighted sum of arms.

The part that test tasks decide is a bootstrap that draws whole test tasks (Efron and Tibshirani 1993, chapter 8), the
same ones for every arm, so that arms are paired. The part that seeds decide (`crossed`) is added to each draw as a
normal variable of its variance. With one seed there is no second part, and `covers` says so.

Percentiles of a bootstrap with few clusters are too narrow (Cameron, Gelbach and Miller 2008). So the variance of the
first part is the one with T - 1 in the denominator, and the draws are widened by the ratio of Student's quantile to
the normal one. The degrees of freedom are T - 1 for test tasks and S - 1 for seeds; with both parts, the quantile is
the mean of both, weighed by their variances (Cochran and Cox 1957, section 4.14): with three seeds Satterthwaite's
approximation is too narrow. The interval is the basic one (Davison and Hinkley 1997, section 5.2): the estimate minus
the quantiles of draw minus estimate. `benchmarks/interval_coverage.py` measures the coverage.

Legend: A arms (each at one size), B draws, C contrasts, S seeds, T test tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from simtune.report.statistics.crossed import Spread, crossed_spread
from simtune.report.statistics.quantiles import normal_quantile, student_quantile, student_tail
from simtune.report.statistics.records import LEVEL, NUM_DRAWS, Covers, Interval
from simtune.report.statistics.task_scores import PointScores

Contrast = Mapping[int, float]
"""What each arm, by its position, is multiplied with before all are added."""

_SEED = 20_260_101
_CHUNK = 256
_TAIL = (1 - LEVEL) / 2
_RANK = int(_TAIL * NUM_DRAWS)
_RESOLVED = 20
"""Draws beyond the estimate from which on their share is a p-value; below that Student's t gives it."""
_DIGITS = 9


@dataclass(frozen=True)
class Estimate:
    """A weighted sum of arms, and how well it is known."""

    value: float
    interval: Interval | None
    covers: Covers
    standard_error: float | None
    p: float | None
    spread: Spread | None
    reason: str = ""


class Intervals:
    """Estimates of one grid point, all from the same draws of its test tasks."""

    def __init__(self, scores: PointScores) -> None:
        self._arms = scores.arms
        self._weights_T = scores.weights_T
        self._num_test_tasks = scores.num_test_tasks

    def estimate(self, contrasts: Sequence[Contrast]) -> list[Estimate]:
        """Estimates contrasts; the same ones get the same numbers, whatever else is estimated."""
        reasons = [self.reason(contrast) for contrast in contrasts]
        with_interval = [index for index, reason in enumerate(reasons) if not reason]
        estimates = [
            Estimate(self._value(contrast), None, "nothing", None, None, None, reason)
            for contrast, reason in zip(contrasts, reasons, strict=True)
        ]
        for start in range(0, len(with_interval), _CHUNK):
            chunk = with_interval[start : start + _CHUNK]
            for index, found in zip(chunk, self._of_chunk([contrasts[i] for i in chunk]), strict=True):
                estimates[index] = found
        return estimates

    def spread(self, contrast: Contrast) -> tuple[Spread, int, bool]:
        """Variances of a contrast, the degrees of freedom of its seeds, and whether other seeds are covered."""
        arms = [self._arms[index] for index in contrast]
        varying = [arm for arm in arms if arm.depends_on_seed]
        seeds = {arm.seeds for arm in varying}
        fewest = min((arm.num_seeds for arm in varying), default=1)
        if len(seeds) <= 1:
            values_ST = sum(
                factor * (arm.values_ST if arm.depends_on_seed else arm.mean_T[None])
                for arm, factor in zip(arms, contrast.values(), strict=True)
            )
            return (
                crossed_spread(np.asarray(values_ST), self._weights_T),
                max(fewest - 1, 0),
                bool(not varying or fewest > 1),
            )
        return self._unpaired(contrast, fewest)

    def _unpaired(self, contrast: Contrast, fewest: int) -> tuple[Spread, int, bool]:
        """The spread where arms have other seeds, so that their parts are independent."""
        mean_T = sum(factor * self._arms[index].mean_T for index, factor in contrast.items())
        tasks = crossed_spread(np.asarray(mean_T)[None], self._weights_T).tasks
        own = [
            (factor**2, crossed_spread(self._arms[index].values_ST, self._weights_T), self._arms[index].num_seeds - 1)
            for index, factor in contrast.items()
            if self._arms[index].num_seeds > 1
        ]
        seeds = sum(factor * max(spread.seeds, 0.0) for factor, spread, _ in own)
        rest = sum(factor * spread.rest for factor, spread, _ in own)
        # Welch and Satterthwaite's degrees of freedom of a sum of independent variances.
        below = sum((factor * max(spread.seeds, 0.0)) ** 2 / freedom for factor, spread, freedom in own)
        freedom = int(seeds**2 / below) if below else max(fewest - 1, 1)
        return Spread(tasks, seeds, rest, fewest, self._num_test_tasks), max(freedom, 1), fewest > 1

    def reason(self, contrast: Contrast) -> str:
        """Why a contrast has no interval; empty where it has one."""
        for index in contrast:
            if self._arms[index].reason:
                return f"{self._arms[index].of.arm}: {self._arms[index].reason}"
        return "" if self._num_test_tasks > 1 else "there is one test task only"

    def _value(self, contrast: Contrast) -> float:
        return math.fsum(factor * self._arms[index].mean for index, factor in contrast.items())

    def _of_chunk(self, contrasts: Sequence[Contrast]) -> list[Estimate]:
        spreads = [self.spread(contrast) for contrast in contrasts]
        factors_CA = np.zeros((len(contrasts), len(self._arms)))
        for row, contrast in enumerate(contrasts):
            factors_CA[row, list(contrast)] = list(contrast.values())
        seeds_C = np.array([math.sqrt(max(s.seeds, 0.0)) if covered else 0.0 for s, _, covered in spreads])
        roots_CB = factors_CA @ self._roots_AB + seeds_C[:, None] * _normal_B()
        wider_C = [
            student_reach(s.tasks, s.num_test_tasks - 1, error**2, freedom) / normal_quantile(1 - _TAIL)
            for (s, freedom, _), error in zip(spreads, seeds_C, strict=True)
        ]
        roots_CB *= np.array(wider_C)[:, None]
        values_C = np.array([self._value(contrast) for contrast in contrasts])
        # A difference that is the same on every test task has rounding errors for roots.
        scale_C = np.abs(factors_CA) @ np.array([abs(arm.mean) for arm in self._arms])
        roots_CB[np.abs(roots_CB) < 1e-12 * (1 + scale_C[:, None])] = 0.0
        above_C = (roots_CB >= values_C[:, None]).sum(axis=1)
        below_C = (roots_CB <= values_C[:, None]).sum(axis=1)
        roots_CB.partition((_RANK - 1, NUM_DRAWS - _RANK), axis=1)
        low_C, high_C = values_C - roots_CB[:, NUM_DRAWS - _RANK], values_C - roots_CB[:, _RANK - 1]
        found = []
        for row, (spread, freedom, covered) in enumerate(spreads):
            beyond, error = min(int(above_C[row]), int(below_C[row])), float(seeds_C[row])
            found.append(
                Estimate(
                    value=float(values_C[row]),
                    interval=Interval(low=_rounded(low_C[row]), high=_rounded(high_C[row])),
                    covers="test tasks and seeds" if covered else "test tasks",
                    standard_error=_rounded(math.sqrt(spread.tasks + error**2)),
                    p=_p_value(float(values_C[row]), beyond, spread, error, freedom),
                    spread=spread,
                )
            )
        return found

    @cached_property
    def _roots_AB(self) -> np.ndarray:
        """Draw minus estimate of each arm, widened for the number of test tasks."""
        number = self._num_test_tasks
        weighed_BT = _draws_BT(number) * self._weights_T
        weighed_BT /= weighed_BT.sum(axis=1, keepdims=True)
        mean_TA = np.stack([arm.mean_T if not arm.reason else np.zeros(number) for arm in self._arms], axis=1)
        # Centred first: the difference of two large and equal numbers has no digits left.
        mean_TA = mean_TA - self._weights_T @ mean_TA
        return np.ascontiguousarray((weighed_BT @ mean_TA).T) * math.sqrt(number / (number - 1))


@lru_cache(maxsize=2)
def _draws_BT(num_test_tasks: int) -> np.ndarray:
    """How often each draw has each test task."""
    shares_T = np.full(num_test_tasks, 1 / num_test_tasks)
    return np.random.default_rng(_SEED).multinomial(num_test_tasks, shares_T, size=NUM_DRAWS)


@lru_cache(maxsize=1)
def _normal_B() -> np.ndarray:
    """Every quantile of the normal distribution once, in an order that has nothing to do with the test tasks."""
    quantiles = np.array([normal_quantile((draw + 0.5) / NUM_DRAWS) for draw in range(NUM_DRAWS)])
    return np.random.default_rng(_SEED + 1).permutation(quantiles)


def student_reach(
    tasks: float | np.ndarray, tasks_freedom: int, seeds: float | np.ndarray, seeds_freedom: int
) -> np.ndarray:
    """How many standard errors an interval reaches: the mean of two Student's quantiles, weighed by variances.

    Args:
        tasks: variance of the part of the test tasks; at least 0.
        tasks_freedom: its degrees of freedom.
        seeds: variance of the part of the seeds; 0 where it is not covered.
        seeds_freedom: its degrees of freedom.
    """
    of_tasks = student_quantile(1 - _TAIL, tasks_freedom)
    of_seeds = student_quantile(1 - _TAIL, max(seeds_freedom, 1))
    total = np.asarray(tasks) + seeds
    share = np.divide(seeds, total, out=np.zeros_like(total, dtype=np.float64), where=total > 0)
    return np.asarray(of_tasks + (of_seeds - of_tasks) * share)


def _rounded(value: float) -> float:
    """Without the last digits, which the order of sums decides."""
    return round(float(value), _DIGITS)


def _p_value(value: float, beyond: int, spread: Spread, seed_error: float, freedom: int) -> float:
    """Two-sided, from the draws that are at least as far as the value, or in the tails from Student's t.

    Args:
        value: the estimate.
        beyond: draws beyond it.
        spread: its variances.
        seed_error: standard error of the part of the seeds; 0 where it is not covered.
        freedom: of that part.
    """
    if beyond >= _RESOLVED:
        return min(1.0, 2 * (beyond + 1) / (NUM_DRAWS + 1))
    most = 2 * (_RESOLVED + 1) / (NUM_DRAWS + 1)
    variance = spread.tasks + seed_error**2
    if variance == 0:
        return 1.0 if value == 0 else 0.0
    errors = abs(value) / math.sqrt(variance)
    tail = spread.tasks * float(student_tail(errors, spread.num_test_tasks - 1))
    if seed_error:
        tail += seed_error**2 * float(student_tail(errors, freedom))
    return min(most, 2 * tail / variance)
