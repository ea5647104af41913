"""Drivers that come, report, fall silent and leave: what each may run."""

from __future__ import annotations

from itertools import pairwise

import pytest

from simtune.executors.sharing.sweep_registry import FORGOTTEN_AFTER_S, SweepRegistry, Usage


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
    assert registry.report("a", 1.0, Usage(4, 9, 0)) == 4
    assert registry.report("b", 1.0, Usage(4, 9, 0)) == 2
    assert registry.report("a", 1.0, Usage(4, 9, 4)) == 2
    registry.leave("a")
    assert registry.report("b", 1.0, Usage(4, 9, 2)) == 4
    registry.leave("never came")


def test_a_sweep_near_its_end_leaves_what_it_does_not_need(registry: SweepRegistry) -> None:
    registry.report("a", 1.0, Usage(4, 9, 4))
    assert registry.report("b", 1.0, Usage(4, 9, 0)) == 2
    assert registry.report("a", 1.0, Usage(4, 1, 1)) == 1
    assert registry.report("b", 1.0, Usage(4, 9, 2)) == 3


def test_a_driver_that_no_longer_reports_is_forgotten(registry: SweepRegistry, clock: Clock) -> None:
    registry.report("killed", 1.0, Usage(2, 9, 2))
    for clock.now in (1.0, FORGOTTEN_AFTER_S):
        assert registry.report("b", 1.0, Usage(2, 9, 1)) == 1
    clock.now += 1
    assert registry.report("b", 1.0, Usage(2, 9, 1)) == 2
    # It was only silent.
    assert registry.report("killed", 1.0, Usage(2, 9, 1)) == 1


def test_a_registry_instead_of_one_that_was_lost_gives_nothing_away_before_all_have_reported(
    registry: SweepRegistry,
) -> None:
    assert registry.report("b", 1.0, Usage(8, 9, 4)) == 4
    assert registry.report("c", 1.0, Usage(8, 9, 3)) == 3
    assert [registry.report(name, 1.0, Usage(8, 9, held)) for name, held in (("b", 4), ("c", 3))] == [4, 4]


def test_hosts_that_come_and_go_change_the_shares(registry: SweepRegistry) -> None:
    assert registry.report("a", 1.0, Usage(2, 9, 2)) == 2
    assert registry.report("b", 3.0, Usage(2, 9, 0)) == 1
    registry.report("a", 1.0, Usage(8, 9, 1))
    assert registry.report("b", 3.0, Usage(8, 9, 1)) == 6
    assert registry.report("a", 1.0, Usage(8, 9, 1)) == 2
    registry.report("a", 1.0, Usage(1, 9, 1))
    assert registry.report("b", 3.0, Usage(2, 9, 6)) == 0


def test_without_a_host_each_sweep_asks_for_one(registry: SweepRegistry) -> None:
    assert registry.report("a", 1.0, Usage(0, 9, 0)) == 1
    assert registry.report("b", 1.0, Usage(0, 9, 0)) == 1
    assert registry.report("ended", 1.0, Usage(0, 0, 0)) == 0


def test_a_new_sweep_has_the_next_turn_whatever_the_first_has_used_and_then_they_alternate(
    registry: SweepRegistry, clock: Clock
) -> None:
    registry.report("a", 1.0, Usage(1, 9, 1))
    clock.now = 10.0
    assert registry.report("a", 1.0, Usage(1, 9, 1)) == 1
    assert registry.report("b", 1.0, Usage(1, 9, 0)) == 1
    assert registry.report("a", 1.0, Usage(1, 9, 1)) == 0
    turns = []
    for _ in range(60):
        for name in "ab":
            clock.now += 5.0
            # Whoever has the turn has the workers, at once.
            held = 1 if turns and turns[-1] == name else 0
            if registry.report(name, 1.0, Usage(1, 9, held)):
                turns.append(name)
    changes = sum(before != after for before, after in pairwise(turns))
    assert 3 <= changes <= 10
    assert 0.35 < turns.count("a") / len(turns) < 0.65


def test_a_sweep_whose_workers_find_no_host_gets_hosts_as_a_whole(registry: SweepRegistry, clock: Clock) -> None:
    # Two hosts of four CPUs. The first sweep's workers have one each, two on either host; the second's need three.
    granted, held, placed = 8, 8, 0
    for clock.now in range(0, 400, 3):
        granted = registry.report("small", 1.0, Usage(8, 99, held))
        # As trials end; some of each host.
        held = max(held - 1, granted) if held > granted else min(granted, held + 1)
        if registry.report("large", 1.0, Usage(2, 99, placed)) and held < 3:
            placed = 1
    assert placed == 1
    # Then both have their share.
    assert (granted, held) == (4, 4)


def test_a_sweep_that_finds_no_place_even_alone_does_not_keep_others_from_working(
    registry: SweepRegistry, clock: Clock
) -> None:
    # Something that is not a sweep occupies what the second one's workers need.
    held, working_s = 4, 0
    waits = []
    for clock.now in range(0, 6000, 3):
        held = registry.report("small", 1.0, Usage(4, 99, held))
        waits.append(registry.report("large", 1.0, Usage(1, 99, 0)))
        working_s += 3 * (held == 4)
    assert working_s > 0.6 * 6000
    # It has asked all the time, but for the turns of the other.
    assert waits[-1] == 1
