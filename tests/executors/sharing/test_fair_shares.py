"""Whatever sweeps ask for, their shares fit, leave nothing unused, and follow the priorities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtune.executors.placement import Host, WorkerResources, num_fitting
from simtune.executors.sharing import fair_shares as module
from simtune.executors.sharing.fair_shares import TURN_S, Demand

# One host, of which a twelfth, an eleventh, ... is a whole number of CPUs.
CPUS = 27_720 * 13


def fair_shares(demands: Mapping[str, Demand]) -> dict[str, int]:
    """The shares of one host."""
    return module.fair_shares(demands, [Host("h", CPUS)])


def demand(priority: float, fitting: int, wanted: int, **others: Any) -> Demand:
    """Of trials of which so many fit."""
    return Demand(priority, WorkerResources(1, CPUS // fitting, 0.0), wanted, **others)


def fitting_of(demand: Demand) -> int:
    return CPUS // demand.each.cpus_per_worker


@st.composite
def demands(draw: st.DrawFn) -> dict[str, Demand]:
    found = {}
    for name in draw(st.sets(st.sampled_from("abcdef"), min_size=1)):
        fitting = draw(st.integers(1, 12))
        found[name] = demand(
            priority=draw(st.sampled_from([0.1, 1.0, 2.0, 1000.0])),
            fitting=fitting,
            wanted=draw(st.integers(0, fitting)),
            granted=draw(st.integers(0, fitting)),
            used_s=draw(st.floats(0, 1e6)),
        )
    return found


def used(shares: Mapping[str, int], demands: Mapping[str, Demand]) -> Fraction:
    """The part of the cluster that shares take."""
    return sum((Fraction(share, fitting_of(demands[name])) for name, share in shares.items()), Fraction())


@settings(deadline=None)
@given(demands())
def test_shares_fit_together_and_none_is_more_than_wanted_or_could_be_larger(demands: dict[str, Demand]) -> None:
    shares = fair_shares(demands)
    assert shares.keys() == demands.keys()
    assert used(shares, demands) <= 1
    for name, share in shares.items():
        assert 0 <= share <= demands[name].wanted
        assert share == demands[name].wanted or used({**shares, name: share + 1}, demands) > 1


@settings(deadline=None)
@given(demands())
def test_each_sweep_has_a_trial_if_there_is_room_for_one_of_each(demands: dict[str, Demand]) -> None:
    one_each = {name: min(1, demand.wanted) for name, demand in demands.items()}
    if used(one_each, demands) <= 1:
        assert all(fair_shares(demands)[name] >= one for name, one in one_each.items())


@settings(deadline=None)
@given(demands())
def test_the_next_turn_is_of_the_one_that_has_used_least(demands: dict[str, Demand]) -> None:
    demands = {name: replace(demand, granted=0, used_s=float(ord(name))) for name, demand in demands.items()}
    first = min(demands)
    assert fair_shares(demands)[first] >= min(1, demands[first].wanted)


@pytest.mark.parametrize(
    ("priorities", "fitting", "shares"),
    [
        ((1, 1), 2, (1, 1)),
        ((1, 1, 1), 12, (4, 4, 4)),
        ((2, 1), 12, (8, 4)),
        ((3, 1), 4, (3, 1)),
        # At least one each.
        ((1000, 1), 4, (3, 1)),
        ((0.5, 0.25, 0.25), 8, (4, 2, 2)),
    ],
)
def test_shares_follow_priorities(priorities: tuple[float, ...], fitting: int, shares: tuple[int, ...]) -> None:
    demands = {str(number): demand(priority, fitting, fitting) for number, priority in enumerate(priorities)}
    assert tuple(fair_shares(demands).values()) == shares


def test_what_a_sweep_cannot_use_goes_to_the_others_by_their_priorities() -> None:
    demands = {"last trial": demand(10, 13, 1), "twice": demand(2, 13, 13), "once": demand(1, 13, 13)}
    assert fair_shares(demands) == {"last trial": 1, "twice": 8, "once": 4}


def test_trials_of_several_sizes_share_the_cluster_and_not_the_number_of_trials() -> None:
    large, small = WorkerResources(1, 4, 0.0), WorkerResources(1, 1, 0.0)
    shares = module.fair_shares({"large": Demand(1, large, 4), "small": Demand(1, small, 16)}, [Host("h", 8)] * 2)
    assert shares == {"large": 2, "small": 8}


@pytest.mark.parametrize(
    ("hosts", "each", "shares"),
    [
        # The small hosts, and what is left beside a large worker, are of no use to the sweep with large workers.
        ([3, 1, 1, 1], ((1, 3, 0.0), (1, 1, 0.0)), (1, 3)),
        ([4, 4], ((1, 3, 0.0), (1, 1, 0.0)), (1, 5)),
        # A sweep on GPUs leaves the CPUs beside them, and one without leaves hosts with GPUs last.
        ([(16, 1)], ((1, 4, 1.0), (1, 1, 0.0)), (1, 12)),
        ([(4, 1), 4], ((1, 4, 1.0), (1, 1, 0.0)), (1, 4)),
        # Trials over several hosts, and several on one GPU.
        ([2, 2, 2], ((2, 2, 0.0), (1, 1, 0.0)), (1, 2)),
        ([(8, 2)], ((1, 1, 0.5), (1, 1, 1.0)), (2, 1)),
    ],
)
def test_a_trial_takes_its_cpus_and_gpus_of_hosts_and_no_more(
    hosts: list[Any], each: tuple[tuple[int, int, float], ...], shares: tuple[int, ...]
) -> None:
    there = [Host("h", *(host if isinstance(host, tuple) else (host,))) for host in hosts]
    needs = [WorkerResources(*of) for of in each]
    demands = {str(number): Demand(1, of, num_fitting(of, there)) for number, of in enumerate(needs)}
    assert tuple(module.fair_shares(demands, there).values()) == shares


def simulated(demands: dict[str, Demand], trial_s: int, ends_s: int) -> tuple[dict[str, float], int]:
    """What each sweep has used after some seconds with trials of one length, and how often workers were started."""
    running: dict[str, list[int]] = {name: [] for name in demands}
    starts = 0
    for now in range(ends_s):
        shares = fair_shares(demands)
        for name, share in shares.items():
            ended = [end for end in running[name] if end <= now]
            going_on = [end for end in running[name] if end > now]
            # Slots above the share close as their trials end.
            kept = max(0, min(len(ended), share - len(going_on)))
            running[name] = going_on + [now + trial_s] * kept
        for name, share in shares.items():
            free = 1 - used({name: len(ends) for name, ends in running.items()}, demands)
            new = max(0, min(share - len(running[name]), int(free * fitting_of(demands[name]))))
            running[name] += [now + trial_s] * new
            starts += new
        for name, each in demands.items():
            held = len(running[name]) / fitting_of(each)
            used_s = each.used_s + held / each.priority
            demands[name] = replace(each, granted=shares[name], used_s=used_s)
    return {name: each.used_s * each.priority for name, each in demands.items()}, starts


@pytest.mark.parametrize(
    ("priorities", "fitting", "trial_s"), [((1, 1), 1, 300), ((1, 1), 3, 20), ((2, 1), 1, 45), ((1, 1, 1), 2, 200)]
)
def test_where_shares_are_no_whole_trials_turns_give_each_its_part_in_time_and_start_few_workers(
    priorities: tuple[float, ...], fitting: int, trial_s: int
) -> None:
    demands = {str(number): demand(priority, fitting, fitting) for number, priority in enumerate(priorities)}
    ends_s = 20_000
    found, starts = simulated(demands, trial_s, ends_s)
    for name, each in demands.items():
        part = ends_s * each.priority / sum(priorities)
        assert found[name] == pytest.approx(part, abs=4 * max(TURN_S, trial_s))
    assert starts < 2 * ends_s / TURN_S
