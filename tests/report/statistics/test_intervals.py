"""Intervals against Student's t, the bootstrap of scipy, and the truth of simulated sweeps."""

from __future__ import annotations

import numpy as np
import pytest
from interval_coverage import Setting, coverage, simulated
from made_scores import point
from scipy import stats

from simtune.report.statistics.intervals import Intervals

DIFFERENCE = {0: 1.0, 1: -1.0}


def two_arms(rng: np.random.Generator, seeds: int = 1, tasks: int = 119) -> list[np.ndarray]:
    base_T = rng.normal(40, 15, tasks)
    return [base_T + rng.normal(0, 4, tasks) + rng.normal(0, 2, (seeds, tasks)) for _ in range(2)]


def test_with_one_seed_and_many_tasks_it_is_the_paired_t_interval_and_scipys_bootstrap() -> None:
    first, second = two_arms(np.random.default_rng(3))
    (found,) = Intervals(point([first, second])).estimate([DIFFERENCE])
    assert found.interval is not None
    assert found.covers == "test tasks"
    paired = stats.ttest_rel(first[0], second[0])
    expected = paired.confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high), abs=0.06)
    assert found.standard_error == pytest.approx(stats.sem(first[0] - second[0]), abs=1e-8)
    assert found.p == pytest.approx(paired.pvalue, rel=0.1)
    drawn = stats.bootstrap(
        ((first - second)[0],), np.mean, method="basic", n_resamples=10_000, rng=np.random.default_rng(0)
    ).confidence_interval
    assert (found.interval.low, found.interval.high) == pytest.approx((drawn.low, drawn.high), abs=0.06)


def test_a_difference_that_draws_do_not_reach_has_the_p_value_of_student() -> None:
    first, second = two_arms(np.random.default_rng(3))
    (found,) = Intervals(point([first + 4, second])).estimate([DIFFERENCE])
    expected = stats.ttest_rel(first[0] + 4, second[0]).pvalue
    assert expected < 1e-6
    assert found.p == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seeds", [1, 3])
def test_an_interval_excludes_zero_where_its_p_value_is_below_five_percent_and_turns_with_the_sign(seeds: int) -> None:
    for number in range(40):
        arms = two_arms(np.random.default_rng(number), seeds, tasks=12)
        arms[0] += number / 8
        found, turned = Intervals(point(arms)).estimate([DIFFERENCE, {0: -1.0, 1: 1.0}])
        low, high = found.interval.low, found.interval.high
        assert (found.p <= 0.05) == (not low <= 0 <= high)
        assert (turned.interval.low, turned.interval.high) == pytest.approx((-high, -low), abs=0.02 * (high - low))


def test_tasks_weigh_as_in_the_score_and_the_same_rows_give_the_same_numbers() -> None:
    scores, _ = simulated(Setting("", 30, 3, instances=(5, 100)), np.random.default_rng(1))
    one = Intervals(scores).estimate([DIFFERENCE])[0]
    again = Intervals(scores).estimate([{2: 1.0, 4: -1.0}, DIFFERENCE])[1]
    assert one == again
    assert one.value == scores.arms[0].mean - scores.arms[1].mean


def test_equal_scores_have_an_interval_of_width_zero() -> None:
    values = np.random.default_rng(0).normal(40, 10, (1, 12))
    same, shifted = Intervals(point([values, values, values + 2])).estimate([DIFFERENCE, {2: 1.0, 0: -1.0}])
    assert (same.interval.low, same.interval.high, same.p) == (0.0, 0.0, 1.0)
    assert (shifted.interval.low, shifted.interval.high, shifted.p) == (2.0, 2.0, 0.0)


def test_seeds_that_do_not_match_are_not_paired_and_fixed_baselines_need_none() -> None:
    arms = two_arms(np.random.default_rng(5), seeds=3)
    paired, unpaired, one_seed, fixed = (
        Intervals(point([arms[0], second], seeds=[(0, 1, 2), own])).estimate([DIFFERENCE])[0]
        for second, own in (
            (arms[1], (0, 1, 2)),
            (arms[1], (3, 4, 5)),
            (arms[1][:1], (0,)),
            (arms[1][:1], (None,)),
        )
    )
    assert [e.covers for e in (paired, unpaired, one_seed, fixed)] == [
        *("test tasks and seeds", "test tasks and seeds", "test tasks", "test tasks and seeds"),
    ]
    assert paired.value == unpaired.value
    assert paired.interval != unpaired.interval


def test_one_test_task_gives_no_interval_but_the_reason() -> None:
    (found,) = Intervals(point([np.ones((1, 1)), np.zeros((1, 1))])).estimate([DIFFERENCE])
    assert (found.value, found.interval, found.reason) == (1.0, None, "there is one test task only")


@pytest.mark.parametrize(("tasks", "seeds"), [(12, 1), (12, 3), (30, 5)])
def test_intervals_cover_the_truth_of_simulated_sweeps(tasks: int, seeds: int) -> None:
    # 95 % of 250 sweeps, give or take 1.4; `benchmarks/interval_coverage.py` has 2,000 and more kinds of sweeps.
    found = coverage(Setting("usual", tasks, seeds), 250)
    assert all(91.0 <= percent <= 99.0 for percent in found.values()), found
