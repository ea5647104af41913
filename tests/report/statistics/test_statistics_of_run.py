"""The statistics of a run's rows: exact differences, families, data efficiency, claims and power."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_report import row, table, task_scores
from made_scores import point

from simtune.report.results_view import grid_points
from simtune.report.statistics.intervals import Intervals
from simtune.report.statistics.multiple import benjamini_hochberg, holm
from simtune.report.statistics.of_run import point_statistics, run_statistics
from simtune.report.statistics.power import Variances
from simtune.report.statistics.records import PointStatistics
from simtune.storage.records import record_bytes


def sweep(seeds: int = 3, lead: float = 4.0, slope: float = 5.0) -> list[dict]:
    """`different` leads `random` and `similar`; every doubling of tasks adds `slope`; a full pool and two baselines."""
    rng = np.random.default_rng(0)
    rows = [
        row(arm, size, seed, 20 + above + slope * math.log2(size / 50) + rng.normal(0, 0.2), mean_similarity=similarity)
        for arm, above, similarity in (("different", lead, 0.1), ("random", 0.0, 0.2), ("similar", -lead, 0.4))
        for size in (50, 100, 200)
        for seed in range(seeds)
    ]
    rows += [row("full", 400, seed, 35 + lead + rng.normal(0, 0.2)) for seed in range(seeds)]
    return [*rows, row("untuned", None, None, 2.0), row("copy-input", None, None, 24.0)]


def found(rows: list[dict], spread: float = 1.0) -> PointStatistics:
    (only,) = run_statistics(table(rows), task_scores(rows, spread=spread)).points
    return only


def test_differences_are_exactly_those_of_the_table_and_each_family_is_corrected_alone() -> None:
    rows = sweep()
    statistics = found(rows)
    means = {(score.of.arm, score.of.size): score.mean for score in statistics.scores}
    (read,) = grid_points(table(rows))
    assert means == {(cell.arm, cell.size): cell.mean("rouge_l") for cell in read.cells}
    families: dict[str, list] = {}
    for comparison in statistics.comparisons:
        first, second = ((arm.arm, arm.size) for arm in (comparison.first, comparison.second))
        assert comparison.difference == means[first] - means[second]
        families.setdefault(comparison.family, []).append(comparison)
    assert {name: len(members) for name, members in families.items()} == {
        **dict.fromkeys(("size 50", "size 100", "size 200"), 3),
        **{"full": 9, "baseline untuned": 10, "baseline copy-input": 10},
    }
    for members in families.values():
        p = [member.p for member in members]
        assert [member.p_holm for member in members] == pytest.approx(holm(p))
        assert [member.p_fdr for member in members] == pytest.approx(benjamini_hochberg(p))


def test_the_interval_of_a_mean_stays_within_the_scores_of_single_tasks() -> None:
    rows = [row("a", 10, 0, 3.0)]
    scores = task_scores(rows, spread=0.0).to_pylist()
    total = sum(score["num_instances"] for score in scores)
    for number, score in enumerate(scores):
        score["value"] = 0.0 if number else 3.0 * total / score["num_instances"]
    (point_,) = grid_points(table(rows))
    (only,) = point_statistics(point_, task_scores(rows).from_pylist(scores)).scores
    assert only.interval.low == 0.0


def test_the_same_rows_in_any_order_give_the_same_bytes() -> None:
    rows = sweep()
    scores = task_scores(rows)
    backwards = scores.take(list(range(len(scores)))[::-1])
    assert record_bytes(run_statistics(table(rows), scores)) == record_bytes(
        run_statistics(table(rows[::-1]), backwards)
    )


def test_arms_that_share_their_trials_are_equal_by_construction_and_not_corrected_for() -> None:
    rows = [row(arm, 400, seed, 30.0 + seed, trial=f"full {seed}") for arm in ("a", "b") for seed in (0, 1)]
    rows += [row("c", 400, seed, 31.0 + seed) for seed in (0, 1)]
    for made in rows:
        made["score"] = made["trial"]
    statistics = found(rows)
    shared, *others = statistics.comparisons
    assert (shared.same_trials, shared.difference, shared.p, shared.better) == (True, 0.0, None, None)
    assert (shared.interval.low, shared.interval.high) == (0.0, 0.0)
    assert [other.p_holm for other in others] == pytest.approx(holm([other.p for other in others]))


def test_a_line_is_the_least_squares_line_and_says_what_another_arm_needs() -> None:
    statistics = found(sweep(), spread=0.5)
    (fit,) = [fit for fit in statistics.fits if fit.arm == "random"]
    means = [score.mean for score in statistics.scores if score.of.arm == "random"]
    slope, at_one = np.polyfit(np.log([50, 100, 200]), means, 1)
    assert (fit.slope, fit.intercept) == pytest.approx((slope, at_one))
    assert fit.per_doubling == pytest.approx(slope * math.log(2))
    assert fit.interval.low < 5.0 < fit.interval.high
    needed = {(e.of.arm, e.of.size, e.other): e for e in statistics.equivalents}
    # `different` is 4 points above `random`, which are 4 / 5 of a doubling: 50 tasks are worth 87 of the other's.
    equal = needed["different", 50, "random"]
    assert equal.num_tasks == pytest.approx(50 * 2 ** (4 / 5), rel=0.05)
    assert equal.interval.low < equal.num_tasks < equal.interval.high
    beyond = needed["different", 200, "random"]
    assert (beyond.num_tasks, beyond.beyond) == (None, "more")
    assert needed["similar", 50, "random"].beyond == "fewer"


def test_claims_are_supported_contradicted_or_open() -> None:
    verdicts = {claim.name: claim.verdict for claim in found(sweep()).claims}
    assert verdicts == {
        "different tasks beat similar ones": "supported",
        "more tasks beat fewer": "supported",
        "a small set of different tasks comes within 5 % of the full pool": "contradicted",
        "training beats untuned": "supported",
        "training beats copy-input": "contradicted",
    }
    turned = {claim.name: claim.verdict for claim in found(sweep(lead=-4.0, slope=-5.0)).claims}
    assert turned["different tasks beat similar ones"] == turned["more tasks beat fewer"] == "contradicted"


def test_with_one_seed_claims_stay_open_and_ask_for_seeds() -> None:
    claim = found(sweep(seeds=1)).claims[0]
    assert (claim.verdict, claim.covers) == ("open", "test tasks")
    assert claim.settles.startswith("What would settle it: two more seeds")
    assert "one seed does not show what other seeds would give" in claim.sentence


def test_an_open_claim_says_how_many_seeds_or_test_tasks_would_settle_it() -> None:
    close = found(sweep(lead=0.3), spread=3.0).claims[0]
    assert close.verdict == "open"
    assert "more test tasks" in close.settles or "more seed" in close.settles


def test_the_near_full_claim_names_the_smallest_size_that_supports_it() -> None:
    rows = [row("different", n, s, 30.0 + s / 50, mean_similarity=0.1) for n in (50, 100, 200) for s in (0, 1, 2)]
    rows += [row("similar", n, s, 20.0 + s / 50, mean_similarity=0.4) for n in (50, 100, 200) for s in (0, 1, 2)]
    rows += [row("full", 400, s, 30.0 + s / 50) for s in (0, 1, 2)]
    (claim,) = [claim for claim in found(rows, spread=0.3).claims if "full pool" in claim.name]
    assert claim.verdict == "supported"
    assert "with 50 tasks, 8.0 times fewer" in claim.sentence.lower()


@pytest.mark.parametrize("problem", ["missing", "not a number", "other tasks", "does not add up", "no scores"])
def test_scores_that_cannot_be_used_give_a_reason_and_no_interval(problem: str) -> None:
    rows = [row(arm, 10, seed, 20.0 + seed) for arm in ("a", "b", "c") for seed in (0, 1)]
    scores = task_scores(rows).to_pylist()
    own = [score for score in scores if score["score"] == rows[0]["score"]]
    if problem == "missing":
        scores.remove(own[0])
    elif problem == "not a number":
        own[0]["value"] = math.nan
    elif problem == "other tasks":
        own[0]["name"] = "another"
    elif problem == "does not add up":
        own[0]["value"] += 1
    else:
        scores = [score for score in scores if score not in own]
    (point_,) = grid_points(table(rows))
    statistics = point_statistics(point_, task_scores(rows).from_pylist(scores))
    with_a, without_a = statistics.comparisons[:2], statistics.comparisons[2]
    assert all(c.interval is None and c.p is None and c.reason.startswith("a: ") for c in with_a)
    assert without_a.interval is not None


def test_trials_that_did_not_finish_leave_what_there_is_and_nothing_is_no_error() -> None:
    rows = sweep()
    rows[0] = row("different", 50, 0, None)
    pair = next(c for c in found(rows).comparisons if c.family == "size 50")
    assert (pair.num_seeds, pair.covers) == (2, "test tasks and seeds")
    (nothing,) = run_statistics(table([row("a", 10, 0, None)]), None).points
    assert (nothing.scores, nothing.comparisons, nothing.claims) == ((), (), ())


def test_the_difference_that_power_names_is_seen_in_four_of_five_runs() -> None:
    # Of a difference: the variances of two arms.
    truth = Variances(task=2 * 4.0**2, seed=2 * 0.7**2, rest=2 * 3.0**2)
    visible = truth.visible(5, 60)
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(300):
        arms = [rng.normal(0, 4.0, 60) + rng.normal(0, 0.7, (5, 1)) + rng.normal(0, 3.0, (5, 60)) for _ in range(2)]
        (estimate,) = Intervals(point([arms[0] + visible, arms[1]])).estimate([{0: 1.0, 1: -1.0}])
        seen += not estimate.interval.low <= 0 <= estimate.interval.high
    assert 0.7 <= seen / 300 <= 0.9
    assert truth.test_tasks_for(visible, 5) == pytest.approx(60, abs=1)
    assert truth.seeds_for(visible, 60) == 5
    assert truth.test_tasks_for(0.01, 5) is None
