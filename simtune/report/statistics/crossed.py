"""What a difference of arms varies with: test tasks, seeds, and both together, as crossed random effects.

Each difference d of seed s and test task t is delta + task_t + seed_s + rest_st. The analysis of variance of two
crossed factors (Searle, Casella and McCulloch 1992, chapter 4) estimates each part without bias from three mean
squares. Where tasks weigh differently, each deviation is multiplied by its task's weight over the mean weight, which
is the linearisation of a ratio of two sums (Cochran 1977, chapter 6).

Legend: S seeds, T test tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Variances of a mean over seeds and test tasks."""

    tasks: float
    """What other test tasks, with the same seeds, would change: includes the rest."""
    seeds: float
    """What other seeds would add; may be negative, as estimates of a variance near 0 are."""
    rest: float
    """The part of `tasks` that more seeds make smaller, too."""
    num_seeds: int
    num_test_tasks: int


def crossed_spread(values_ST: np.ndarray, weights_T: np.ndarray) -> Spread:
    """Estimates the variances of the weighted mean of values.

    Args:
        values_ST: at least two test tasks; with one seed its part and the rest are 0, because they cannot be estimated.
        weights_T: of test tasks; their sum is 1.
    """
    num_seeds, num_tasks = values_ST.shape
    relative_T = weights_T * num_tasks
    of_seed_S = values_ST @ weights_T
    mean = of_seed_S.mean()
    of_task_T = values_ST.mean(axis=0)
    between_tasks = num_seeds * ((relative_T * (of_task_T - mean)) ** 2).sum() / (num_tasks - 1)
    number = num_seeds * num_tasks
    if num_seeds == 1:
        return Spread(float(between_tasks / number), 0.0, 0.0, num_seeds, num_tasks)
    between_seeds = num_tasks * ((of_seed_S - mean) ** 2).sum() / (num_seeds - 1)
    rest_ST = relative_T * (values_ST - of_seed_S[:, None] - of_task_T + mean)
    rest = (rest_ST**2).sum() / ((num_seeds - 1) * (num_tasks - 1))
    return Spread(
        tasks=float(between_tasks / number),
        seeds=float((between_seeds - rest) / number),
        rest=float(rest / number),
        num_seeds=num_seeds,
        num_test_tasks=num_tasks,
    )
