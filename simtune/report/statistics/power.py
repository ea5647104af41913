"""How many seeds and test tasks it takes to see a difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simtune.report.statistics.comparisons import POWER, pairs, same_trials
from simtune.report.statistics.crossed import Spread
from simtune.report.statistics.intervals import Intervals, student_reach
from simtune.report.statistics.quantiles import normal_quantile
from simtune.report.statistics.records import Power as PowerRow
from simtune.report.statistics.task_scores import PointScores

MOST_TEST_TASKS, MOST_SEEDS = 100_000, 50
_DIFFERENCES, _SEEDS = (0.5, 1.0, 2.0, 5.0), (2, 3, 5, 10)


@dataclass(frozen=True)
class Variances:
    """Of one test task, one seed, and the rest of one seed on one test task, for a difference."""

    task: float
    seed: float | None
    """None: one seed shows nothing about others. Then `task` includes the rest."""
    rest: float

    @staticmethod
    def of(spreads: Sequence[Spread]) -> Variances:
        """The mean over differences."""
        has_seeds = all(spread.num_seeds > 1 for spread in spreads)
        task = float(np.mean([(spread.tasks - spread.rest) * spread.num_test_tasks for spread in spreads]))
        seed = float(np.mean([spread.seeds * spread.num_seeds for spread in spreads]))
        rest = float(np.mean([spread.rest * spread.num_seeds * spread.num_test_tasks for spread in spreads]))
        return Variances(max(task, 0.0), max(seed, 0.0) if has_seeds else None, rest)

    def visible(self, num_seeds: int, num_test_tasks: int) -> float:
        """The difference whose interval excludes 0 in `POWER` of all runs."""
        of_tasks = (self.task + self.rest / num_seeds) / num_test_tasks
        of_seeds = (self.seed or 0.0) / num_seeds
        reach = float(student_reach(of_tasks, num_test_tasks - 1, of_seeds, num_seeds - 1))
        return (reach + normal_quantile(POWER)) * math.sqrt(of_tasks + of_seeds)

    def test_tasks_for(self, difference: float, num_seeds: int) -> int | None:
        """The least number of test tasks that shows a difference; None where none does."""
        if self.visible(num_seeds, MOST_TEST_TASKS) > difference:
            return None
        low, high = 2, MOST_TEST_TASKS
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.visible(num_seeds, middle) <= difference else (middle + 1, high)
        return low

    def seeds_for(self, difference: float, num_test_tasks: int) -> int | None:
        """The least number of seeds that shows a difference; None where none does, or nothing is known about seeds."""
        if self.seed is None:
            return None
        return next((s for s in range(2, MOST_SEEDS + 1) if self.visible(s, num_test_tasks) <= difference), None)


def typical_variances(scores: PointScores, intervals: Intervals) -> Variances | None:
    """The mean over all pairs of arms at equal size; None where there is no such pair with an interval."""
    spreads = [
        intervals.spread(pair.contrast)[0]
        for pair in pairs(scores)
        if pair.family.startswith("size ") and not same_trials(scores, pair) and not intervals.reason(pair.contrast)
    ]
    return Variances.of(spreads) if spreads else None


def power_rows(variances: Variances | None) -> list[PowerRow]:
    """The test tasks that differences of some sizes need, with some numbers of seeds."""
    if variances is None:
        return []
    seeds = _SEEDS if variances.seed is not None else (1,)
    return [
        PowerRow(difference=d, num_seeds=s, num_test_tasks=variances.test_tasks_for(d, s))
        for d in _DIFFERENCES
        for s in seeds
    ]
