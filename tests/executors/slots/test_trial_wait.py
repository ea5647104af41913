"""What is said of a trial that waits for its workers."""

from __future__ import annotations

import math

from simtune.executors.slots.trial_wait import TrialWait

WAITING = {"phase": "waiting for a host with 4 CPUs", "completed": 0, "total": 0}


def test_each_wait_is_reported_once_and_not_before_workers_could_have_started() -> None:
    wait = TrialWait("a host with 4 CPUs", math.inf)
    assert [wait.report(waited_s) for waited_s in (0.0, 29.0, 31.0, 32.0, 9e9)] == [None, None, WAITING, None, None]
    # The workers started and were lost.
    assert [wait.report(waited_s) for waited_s in (0.0, 31.0, 32.0)] == [None, WAITING, None]
    # Another trial that waits from its assignment on.
    wait.start()
    assert wait.report(31.0) == WAITING


def test_each_trial_is_left_out_at_the_limit_of_its_own_wait() -> None:
    wait = TrialWait("a host with 4 CPUs", 120.0)
    left_out = {**WAITING, "done": True, "left_out": "a host with 4 CPUs was not free for 2 min"}
    assert [wait.report(waited_s) for waited_s in (31.0, 119.0, 120.0)] == [WAITING, None, left_out]
    wait.start()
    assert [wait.report(waited_s) for waited_s in (0.0, 119.0, 121.0)] == [None, WAITING, left_out]


def test_a_wait_for_the_sweeps_turn_is_reported_once_and_has_no_limit() -> None:
    now = [0.0]
    wait = TrialWait("a host with 4 CPUs", 120.0, lambda: now[0])
    said = []
    for now[0] in (100.0, 129.0, 131.0, 400.0):
        said.append(wait.report_turn())
    assert said == [None, None, {**WAITING, "phase": "waiting for its turn on the cluster"}, None]
    # Its turn has come, and hosts are waited for.
    assert [wait.report(waited_s) for waited_s in (0.0, 31.0, 119.0)] == [None, WAITING, None]
