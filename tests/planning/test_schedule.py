"""The simulated schedule beside what can be computed by hand."""

from __future__ import annotations

import math
import random
from statistics import fmean

import pytest

from simtune.errors import ConfigError
from simtune.planning.schedule import Cluster, Overheads, TrialWork, simulate

OVERHEADS = Overheads(open_s=1.5, start_s=20.0, around_s=2.0, driver_s=0.25, notice_s=20.0)
CHANCE = random.Random(0)
TRIALS = [TrialWork(CHANCE.uniform(50, 500), CHANCE.uniform(5, 50)) for _ in range(200)]
WORK_S = [trial.train_s + trial.evaluate_s for trial in TRIALS]


def test_one_slot_takes_the_sum() -> None:
    found = simulate(TRIALS, Cluster(1, 1), OVERHEADS)
    assert found.wall_s == pytest.approx(1.5 + 20.0 + sum(WORK_S) + len(TRIALS) * (2.0 + 0.25))
    # All but the driver's own seconds, of which the opening is the first trial's.
    assert sum(found.occupied_s) == pytest.approx(found.wall_s - 0.25 * len(TRIALS))
    assert (found.num_losses, found.repeated_s) == (0, 0.0)


def test_a_slot_a_trial_takes_as_long_as_the_longest() -> None:
    found = simulate(TRIALS, Cluster(1000, 1), Overheads(start_s=20.0, around_s=2.0))
    assert found.wall_s == pytest.approx(22.0 + max(WORK_S))
    assert found.occupied_s == pytest.approx([22.0 + work_s for work_s in WORK_S])


@pytest.mark.parametrize("slots", [2, 3, 7, 50])
def test_slots_keep_the_bounds_of_list_scheduling(slots: int) -> None:
    wall_s = simulate(TRIALS, Cluster(slots, 1), Overheads()).wall_s
    share_s = sum(WORK_S) / slots
    assert max(share_s, max(WORK_S)) <= wall_s <= share_s + (1 - 1 / slots) * max(WORK_S)


def test_a_driver_that_opens_slots_one_by_one_bounds_a_large_cluster() -> None:
    found = simulate([TrialWork(1.0, 0.0)] * 500, Cluster(500, 1), Overheads(open_s=2.0))
    # The slot that is opened at 2 s has its trial done at 3 s, and none is opened twice as early.
    assert found.wall_s == pytest.approx(2.0 * 500 + 1.0)


def test_a_driver_that_records_trials_one_by_one_bounds_instant_trials() -> None:
    found = simulate([TrialWork(0.0, 0.0)] * 10_000, Cluster(1000, 1), Overheads(driver_s=0.05))
    assert found.wall_s == pytest.approx(0.05 * 10_000)


@pytest.mark.parametrize(
    ("cluster", "slots"),
    [
        (Cluster(3, 4), 12),
        (Cluster(3, 4, workers_per_trial=8), 1),
        (Cluster(3, 4, workers_per_trial=6), 2),
        (Cluster(3, 4, most_slots=5), 5),
    ],
)
def test_slots_follow_from_workers(cluster: Cluster, slots: int) -> None:
    assert cluster.num_slots == slots
    found = simulate([TrialWork(10.0, 0.0)] * 60, cluster, Overheads())
    assert found.wall_s == pytest.approx(10.0 * math.ceil(60 / slots))


def test_a_trial_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="a trial of 8 workers does not fit: 1 host with 4 workers each"):
        simulate(TRIALS, Cluster(1, 4, workers_per_trial=8), Overheads())


def expected_wall_s(work_s: float, each_way_s: float, losses_per_hour: float) -> float:
    """The mean time to finish uninterrupted work that starts again after each loss, which costs `each_way_s` more."""
    rate = losses_per_hour / 3600
    return (math.exp(rate * work_s) - 1) * (1 / rate + each_way_s)


def test_without_checkpoints_losses_repeat_a_trial_as_often_as_expected() -> None:
    # A replaced host is there before the loss is noticed, so a loss costs 20 s and the start of workers.
    cluster = Cluster(1, 1, losses_per_hour=1.0, replaced_s=5.0)
    walls_s = [
        simulate([TrialWork(3600.0, 0.0)], cluster, Overheads(notice_s=20.0), seed=seed).wall_s for seed in range(4000)
    ]
    assert fmean(walls_s) == pytest.approx(expected_wall_s(3600.0, 20.0, 1.0), rel=0.04)


def test_checkpoints_bound_what_a_loss_repeats() -> None:
    # Each of the 60 minutes is such a trial of its own.
    cluster = Cluster(1, 1, losses_per_hour=2.0, replaced_s=5.0)
    found = [
        simulate([TrialWork(3600.0, 0.0)], cluster, Overheads(notice_s=20.0), checkpoint_s=60.0, seed=seed)
        for seed in range(1000)
    ]
    assert fmean(each.wall_s for each in found) == pytest.approx(60 * expected_wall_s(60.0, 20.0, 2.0), rel=0.02)
    # On average half of the time between two checkpoints.
    losses = sum(each.num_losses for each in found)
    assert sum(each.repeated_s for each in found) / losses == pytest.approx(30.0, rel=0.1)


def test_answers_survive_a_loss_and_a_trial_lost_while_it_answers_trains_on_from_its_checkpoint() -> None:
    cluster = Cluster(1, 1, losses_per_hour=2.0)
    without = simulate([TrialWork(0.0, 7200.0)], cluster, Overheads(), seed=2)
    assert without.num_losses > 0
    assert without.wall_s == pytest.approx(7200.0)
    found = simulate([TrialWork(100.0, 7200.0)], cluster, Overheads(), checkpoint_s=60.0, seed=2)
    assert found.repeated_s == pytest.approx(40.0 * found.num_losses)


def test_a_lost_host_takes_all_of_its_slots_and_a_trial_over_hosts_needs_all_of_them() -> None:
    lost_together = simulate(
        [TrialWork(1e5, 0.0)] * 4, Cluster(1, 4, losses_per_hour=0.5), Overheads(), checkpoint_s=0.0, seed=3
    )
    # Nothing is repeated with a checkpoint each moment, and the four trials have the same losses.
    assert lost_together.num_losses > 5
    assert lost_together.wall_s == pytest.approx(1e5)
    assert lost_together.repeated_s == 0.0
    replaced_s = 1000.0
    spread = simulate(
        [TrialWork(1e5, 0.0)],
        Cluster(4, 1, workers_per_trial=4, losses_per_hour=0.1, replaced_s=replaced_s),
        Overheads(),
        checkpoint_s=0.0,
        seed=3,
    )
    assert spread.num_losses > 0
    assert spread.wall_s == pytest.approx(1e5 + replaced_s * spread.num_losses, rel=0.02)


def test_a_trial_continues_on_another_host_while_its_own_is_gone() -> None:
    trials = [TrialWork(1e6, 0.0)]
    alone, two = (
        simulate(trials, Cluster(hosts, 1, losses_per_hour=0.1, replaced_s=3600.0), Overheads(), 0.0)
        for hosts in (1, 2)
    )
    assert alone.num_losses > 5
    assert alone.wall_s == pytest.approx(1e6 + 3600.0 * alone.num_losses)
    assert two.wall_s < 1e6 + 3600.0 * two.num_losses / 2


def test_the_same_inputs_give_the_same_schedule_and_other_seeds_others() -> None:
    cluster = Cluster(5, 2, losses_per_hour=0.5, replaced_s=300.0)
    first, again, other = (simulate(TRIALS, cluster, OVERHEADS, 60.0, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_a_trial_that_is_never_done_between_two_losses_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"resources.checkpoint_minutes: a trial of 50.0 h was lost 1,000 times"):
        simulate([TrialWork(180_000.0, 0.0)], Cluster(1, 1, losses_per_hour=1.0), Overheads())


def test_ten_thousand_trials_on_a_thousand_hosts_take_each_of_their_events_once() -> None:
    found = simulate([TrialWork(600.0, 60.0)] * 10_000, Cluster(1000, 1, losses_per_hour=0.05), OVERHEADS, 300.0)
    assert len(found.occupied_s) == 10_000
    assert all(seconds >= 660.0 for seconds in found.occupied_s)
