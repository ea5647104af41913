"""What is said of a trial that waits for its workers."""

from __future__ import annotations

import math
import time

import pytest

from simtune.executors.slots.trial_wait import TrialWait

NOW = 1e9
WAITING = {"phase": "waiting for a host with 4 CPUs", "completed": 0, "total": 0}


@pytest.fixture(autouse=True)
def _time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


def since(waited_s: float) -> dict[str, object]:
    """A report of a wait that has lasted so long, with the moment at which it began."""
    return {**WAITING, "since": NOW - waited_s}


def test_each_wait_is_reported_once_and_not_before_workers_could_have_started() -> None:
    wait = TrialWait("a host with 4 CPUs", math.inf)
    assert [wait.report(waited_s) for waited_s in (0.0, 29.0, 31.0, 32.0, 9e9)] == [None, None, since(31.0), None, None]
    # The workers started and were lost.
    assert [wait.report(waited_s) for waited_s in (0.0, 31.0, 32.0)] == [None, since(31.0), None]
    # Another trial that waits from its assignment on.
    wait.start()
    assert wait.report(31.0) == since(31.0)


def test_each_trial_is_left_out_at_the_limit_of_its_own_wait() -> None:
    wait = TrialWait("a host with 4 CPUs", 120.0)
    left_out = {**since(120.0), "done": True, "left_out": "a host with 4 CPUs was not free for 2 min"}
    assert [wait.report(waited_s) for waited_s in (31.0, 119.0, 120.0)] == [since(31.0), None, left_out]
    wait.start()
    assert [wait.report(waited_s) for waited_s in (0.0, 119.0, 120.0)] == [None, since(119.0), left_out]


@pytest.mark.parametrize(("limit_s", "words"), [(6.0, "6 s"), (45.0, "45 s"), (90.0, "90 s"), (150.0, "2.5 min")])
def test_the_reason_names_the_time_that_was_waited_also_if_it_is_short(limit_s: float, words: str) -> None:
    wait = TrialWait("a host with 4 CPUs", limit_s)
    assert wait.report(limit_s - 1) in (None, since(limit_s - 1))
    assert (wait.report(limit_s) or {})["left_out"] == f"a host with 4 CPUs was not free for {words}"


def test_a_wait_for_the_sweeps_turn_is_reported_once_and_has_the_same_limit() -> None:
    now = [0.0]
    wait = TrialWait("a host with 4 CPUs", 300.0, lambda: now[0])
    said = []
    for now[0] in (100.0, 129.0, 131.0, 390.0):
        said.append(wait.report_turn())
    assert said == [None, None, {**since(31.0), "phase": "waiting for its turn on the cluster"}, None]
    # Its turn has come, and hosts are waited for.
    assert [wait.report(waited_s) for waited_s in (0.0, 31.0, 119.0)] == [None, since(31.0), None]
    # The hosts were lost, and with them its turn.
    for now[0] in (700.0, 999.0):
        assert "left_out" not in (wait.report_turn() or {})
    now[0] = 1000.0
    reason = "its sweep's turn on the cluster did not come for 5 min"
    assert (wait.report_turn() or {})["left_out"] == reason
