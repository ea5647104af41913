"""Whatever sweeps ask for, their shares fit, leave nothing unused, and follow the priorities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtune.executors.sharing.fair_shares import TURN_S, Demand, fair_shares


@st.composite
def demands(draw: st.DrawFn) -> dict[str, Demand]:
    found = {}
    for name in draw(st.sets(st.sampled_from("abcdef"), min_size=1)):
        fitting = draw(st.integers(1, 12))
        found[name] = Demand(
            priority=draw(st.sampled_from([0.1, 1.0, 2.0, 1000.0])),
            fitting=fitting,
            wanted=draw(st.integers(0, fitting)),
            granted=draw(st.integers(0, fitting)),
            used_s=draw(st.floats(0, 1e6)),
        )
    return found


def used(shares: Mapping[str, int], demands: Mapping[str, Demand]) -> Fraction:
    """The part of the cluster that shares take."""
    return sum((Fraction(share, demands[name].fitting) for name, share in shares.items()), Fraction())


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
    demands = {str(number): Demand(priority, fitting, fitting) for number, priority in enumerate(priorities)}
    assert tuple(fair_shares(demands).values()) == shares


def test_what_a_sweep_cannot_use_goes_to_the_others_by_their_priorities() -> None:
    demands = {"last trial": Demand(10, 13, 1), "twice": Demand(2, 13, 13), "once": Demand(1, 13, 13)}
    assert fair_shares(demands) == {"last trial": 1, "twice": 8, "once": 4}


def test_trials_of_several_sizes_share_the_cluster_and_not_the_number_of_trials() -> None:
    # Of 16 CPUs, one sweep's trials need four each, the other's one.
    assert fair_shares({"large": Demand(1, 4, 4), "small": Demand(1, 16, 16)}) == {"large": 2, "small": 8}


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
            new = max(0, min(share - len(running[name]), int(free * demands[name].fitting)))
            running[name] += [now + trial_s] * new
            starts += new
        for name, demand in demands.items():
            held = len(running[name]) / demand.fitting
            used_s = demand.used_s + held / demand.priority
            demands[name] = replace(demand, granted=shares[name], used_s=used_s)
    return {name: demand.used_s * demand.priority for name, demand in demands.items()}, starts


@pytest.mark.parametrize(
    ("priorities", "fitting", "trial_s"), [((1, 1), 1, 300), ((1, 1), 3, 20), ((2, 1), 1, 45), ((1, 1, 1), 2, 200)]
)
def test_where_shares_are_no_whole_trials_turns_give_each_its_part_in_time_and_start_few_workers(
    priorities: tuple[float, ...], fitting: int, trial_s: int
) -> None:
    demands = {str(number): Demand(priority, fitting, fitting) for number, priority in enumerate(priorities)}
    ends_s = 20_000
    found, starts = simulated(demands, trial_s, ends_s)
    for name, demand in demands.items():
        part = ends_s * demand.priority / sum(priorities)
        assert found[name] == pytest.approx(part, abs=4 * max(TURN_S, trial_s))
    assert starts < 2 * ends_s / TURN_S
