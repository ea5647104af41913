"""Drivers that come, report, fall silent and leave: what each may run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import pytest

from simtune.executors.placement import Host, WorkerResources
from simtune.executors.sharing import sweep_registry
from simtune.executors.sharing.sweep_registry import FORGOTTEN_AFTER_S, SweepRegistry


def usage(num_hosts: int, wanted: int, held: int) -> sweep_registry.Usage:
    """Of trials of 1 CPU, on hosts of 1 CPU of which nothing is free."""
    hosts = {f"h{number}": Host(f"h{number}", 1) for number in range(num_hosts)}
    free = {id_: Host(id_, 0) for id_ in hosts}
    return sweep_registry.Usage(WorkerResources(1, 1, 0.0), wanted, held, hosts, free)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(clock: Clock) -> SweepRegistry:
    return SweepRegistry(clock)


def test_a_sweep_alone_may_use_everything_and_a_second_halves_it_until_it_leaves(registry: SweepRegistry) -> None:
    assert registry.report("a", 1.0, usage(4, 9, 0)) == 4
    assert registry.report("b", 1.0, usage(4, 9, 0)) == 2
    assert registry.report("a", 1.0, usage(4, 9, 4)) == 2
    registry.leave("a")
    assert registry.report("b", 1.0, usage(4, 9, 2)) == 4
    registry.leave("never came")


def test_a_sweep_near_its_end_leaves_what_it_does_not_need(registry: SweepRegistry) -> None:
    registry.report("a", 1.0, usage(4, 9, 4))
    assert registry.report("b", 1.0, usage(4, 9, 0)) == 2
    assert registry.report("a", 1.0, usage(4, 1, 1)) == 1
    assert registry.report("b", 1.0, usage(4, 9, 2)) == 3


def test_a_driver_that_no_longer_reports_is_forgotten(registry: SweepRegistry, clock: Clock) -> None:
    registry.report("killed", 1.0, usage(2, 9, 2))
    for clock.now in (1.0, FORGOTTEN_AFTER_S):
        assert registry.report("b", 1.0, usage(2, 9, 1)) == 1
    clock.now += 1
    assert registry.report("b", 1.0, usage(2, 9, 1)) == 2
    # It was only silent.
    assert registry.report("killed", 1.0, usage(2, 9, 1)) == 1


def test_a_registry_instead_of_one_that_was_lost_gives_nothing_away_before_all_have_reported(
    registry: SweepRegistry,
) -> None:
    assert registry.report("b", 1.0, usage(8, 9, 4)) == 4
    assert registry.report("c", 1.0, usage(8, 9, 3)) == 3
    assert [registry.report(name, 1.0, usage(8, 9, held)) for name, held in (("b", 4), ("c", 3))] == [4, 4]


def test_hosts_that_come_and_go_change_the_shares(registry: SweepRegistry) -> None:
    assert registry.report("a", 1.0, usage(2, 9, 2)) == 2
    assert registry.report("b", 3.0, usage(2, 9, 0)) == 1
    registry.report("a", 1.0, usage(8, 9, 1))
    assert registry.report("b", 3.0, usage(8, 9, 1)) == 6
    assert registry.report("a", 1.0, usage(8, 9, 1)) == 2
    registry.report("a", 1.0, usage(2, 9, 1))
    assert registry.report("b", 3.0, usage(2, 9, 6)) == 1


def test_without_a_host_each_sweep_asks_for_one(registry: SweepRegistry) -> None:
    assert registry.report("a", 1.0, usage(0, 9, 0)) == 1
    assert registry.report("b", 1.0, usage(0, 9, 0)) == 1
    assert registry.report("ended", 1.0, usage(0, 0, 0)) == 0


def test_a_new_sweep_has_the_next_turn_whatever_the_first_has_used_and_then_they_alternate(
    registry: SweepRegistry, clock: Clock
) -> None:
    registry.report("a", 1.0, usage(1, 9, 1))
    clock.now = 10.0
    assert registry.report("a", 1.0, usage(1, 9, 1)) == 1
    assert registry.report("b", 1.0, usage(1, 9, 0)) == 1
    assert registry.report("a", 1.0, usage(1, 9, 1)) == 0
    turns = []
    for _ in range(60):
        for name in "ab":
            clock.now += 5.0
            # Whoever has the turn has the workers, at once.
            held = 1 if turns and turns[-1] == name else 0
            if registry.report(name, 1.0, usage(1, 9, held)):
                turns.append(name)
    changes = sum(before != after for before, after in pairwise(turns))
    assert 3 <= changes <= 10
    assert 0.35 < turns.count("a") / len(turns) < 0.65


@dataclass
class Cluster:
    """Hosts on which sweeps start trials wherever there is room, as Ray does: those with most room first.

    Attributes:
        hosts: their CPUs, by their ids.
        others: the CPUs that something occupies which is not a sweep, likewise.
        sweeps: the CPUs of a worker and the length of a trial in seconds, by name.
        running: when the trials of each sweep end, with their hosts.
    """

    hosts: dict[str, int]
    others: dict[str, int]
    sweeps: dict[str, tuple[int, int]]
    running: dict[str, list[tuple[float, str]]]

    def free(self) -> dict[str, int]:
        left = {id_: cpus - self.others.get(id_, 0) for id_, cpus in self.hosts.items()}
        for name, trials in self.running.items():
            for _, id_ in trials:
                left[id_] -= self.sweeps[name][0]
        return left

    def usage(self, name: str, wanted: int) -> sweep_registry.Usage:
        hosts = {id_: Host(id_, cpus) for id_, cpus in self.hosts.items()}
        free = {id_: Host(id_, cpus) for id_, cpus in self.free().items()}
        trials = self.running[name]
        held_on = Counter(id_ for _, id_ in trials)
        each = WorkerResources(1, self.sweeps[name][0], 0.0)
        return sweep_registry.Usage(each, wanted, len(trials), hosts, free, held_on)

    def step(self, name: str, limit: int, now: float) -> None:
        """Ends and starts trials of a sweep that may run so many."""
        cpus, trial_s = self.sweeps[name]
        ended = [id_ for ends, id_ in self.running[name] if ends <= now]
        self.running[name] = [trial for trial in self.running[name] if trial[0] > now]
        # A slot whose trial has ended keeps its workers for the next one.
        keeps = ended[: max(0, limit - len(self.running[name]))]
        self.running[name] += [(now + trial_s, id_) for id_ in keeps]
        while len(self.running[name]) < limit:
            free = self.free()
            id_ = max(free, key=lambda id_: free[id_])
            if free[id_] < cpus:
                break
            self.running[name].append((now + trial_s, id_))


def simulated(
    cluster: Cluster, registry: SweepRegistry, clock: Clock, ends_s: int, wanted: Mapping[str, int]
) -> dict[str, list[int]]:
    """How many trials of each sweep run, every three seconds."""
    found: dict[str, list[int]] = {name: [] for name in wanted}
    begin = int(clock.now)
    for clock.now in range(begin, begin + ends_s, 3):
        for name in wanted:
            limit = registry.report(name, 1.0, cluster.usage(name, wanted[name]))
            cluster.step(name, min(limit, wanted[name]), clock.now)
            found[name].append(len(cluster.running[name]))
    return found


def test_a_sweep_whose_workers_find_no_host_gets_one_as_a_whole(registry: SweepRegistry, clock: Clock) -> None:
    sweeps = {"small": (1, 60), "large": (3, 60)}
    cluster = Cluster({"h1": 4, "h2": 4}, {}, sweeps, {"small": [], "large": []})
    simulated(cluster, registry, clock, 300, {"small": 99})
    found = simulated(cluster, registry, clock, 3000, {"small": 99, "large": 99})
    # Two minutes beside the others, and one until their trials have ended.
    assert found["large"].index(1) * 3 < 240
    # Then nothing is idle: its share is one trial, and what is left beside it is the others'.
    assert (set(found["large"][100:]), set(found["small"][100:])) == ({1}, {5})


@pytest.mark.parametrize("trial_s", [30, 100_000])
@pytest.mark.parametrize("order", ["small, large", "large, small"])
def test_a_sweep_that_has_no_room_even_without_the_others_keeps_no_cpu_idle(
    order: str, trial_s: int, registry: SweepRegistry, clock: Clock
) -> None:
    # Another program is on the only host that is large enough; three CPUs are free.
    sweeps = {"small": (1, trial_s), "large": (3, 60)}
    cluster = Cluster({"h1": 1, "h2": 1, "h3": 1, "h4": 3}, {"h4": 3}, sweeps, {"small": [], "large": []})
    found = simulated(cluster, registry, clock, 6000, dict.fromkeys(order.split(", "), 99))
    assert set(found["small"][1:]) == {3}
    assert set(found["large"]) == {0}
    # The other program ends.
    cluster.others = {}
    found = simulated(cluster, registry, clock, 600, dict.fromkeys(order.split(", "), 99))
    assert max(found["large"]) == 1 or trial_s > 600


def test_a_sweep_that_is_not_placed_even_alone_gives_way_to_the_others_most_of_the_time(
    registry: SweepRegistry, clock: Clock
) -> None:
    # Ray does not place it although there is room, for whatever reason.
    cluster = Cluster({"h1": 2, "h2": 2}, {}, {"small": (1, 9), "large": (2, 60)}, {"small": [], "large": []})
    working_s = waits = 0
    for clock.now in range(0, 6000, 3):
        cluster.step("small", registry.report("small", 1.0, cluster.usage("small", 99)), clock.now)
        working_s += 3 * (len(cluster.running["small"]) >= 2)
        waits += registry.report("large", 1.0, cluster.usage("large", 99)) >= 1
    assert working_s > 0.7 * 6000
    # It has asked nearly all the time, but for the turns of the other.
    assert waits > 1000
