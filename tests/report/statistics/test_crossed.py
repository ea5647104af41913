"""Variances of crossed factors, against a two-way analysis of variance done by hand and against known truth."""

from __future__ import annotations

import numpy as np
import pytest

from simtune.report.statistics.crossed import crossed_spread


def test_a_small_table_worked_by_hand() -> None:
    # Means of seeds 2 and 4, of tasks 2, 3.5 and 3.5; residuals 0, 0.5, -0.5 and their negatives. So the mean squares
    # are 6 (one degree of freedom), 1.5 and 0.5 (two each).
    found = crossed_spread(np.array([[1.0, 3.0, 2.0], [3.0, 4.0, 5.0]]), np.full(3, 1 / 3))
    assert (found.tasks, found.seeds, found.rest) == pytest.approx((1.5 / 6, (6 - 0.5) / 6, 0.5 / 6))


@pytest.mark.parametrize("is_even", [True, False])
def test_the_estimates_are_those_of_the_truth_on_average(is_even: bool) -> None:
    rng = np.random.default_rng(0)
    weights_T = np.full(20, 1 / 20) if is_even else np.linspace(1, 3, 20) / np.linspace(1, 3, 20).sum()
    task_sd, seed_sd, rest_sd, seeds = 4.0, 1.5, 3.0, 4
    found = [
        crossed_spread(
            rng.normal(0, task_sd, 20) + rng.normal(0, seed_sd, (seeds, 1)) + rng.normal(0, rest_sd, (seeds, 20)),
            weights_T,
        )
        for _ in range(3000)
    ]
    share = (weights_T**2).sum()
    rest = rest_sd**2 * share / seeds
    expected = (task_sd**2 * share + rest, seed_sd**2 / seeds, rest)
    means = [np.mean([getattr(spread, name) for spread in found]) for name in ("tasks", "seeds", "rest")]
    assert means == pytest.approx(expected, rel=0.06)
