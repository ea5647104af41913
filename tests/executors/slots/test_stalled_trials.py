"""What is said of a trial that makes no step any more, judged by its own speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from displays import RecordingDisplay

from simtune.executors.slots.stalled_trials import ReportStalledTrials

Pass = Callable[..., None]
TRIAL = SimpleNamespace(config={"trial": "a"})


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> tuple[ReportStalledTrials, RecordingDisplay, Pass]:
    now, display = [100.0], RecordingDisplay()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stalled = ReportStalledTrials({"a": "random, 20 tasks"}, display)
    stalled.on_trial_start(0, [], TRIAL)

    def wait(seconds: int, each: float = 1.0) -> None:
        for _ in range(seconds):
            now[0] += each
            stalled.on_step_begin(0, [])

    return stalled, display, wait


def step(stalled: ReportStalledTrials, completed: int, phase: str = "train", **more: Any) -> None:
    values = {"phase": phase, "completed": completed, "total": 9, "worker": "process 7 on node-b", **more}
    stalled.on_trial_result(0, [], TRIAL, values)


@pytest.mark.parametrize(("each_s", "limit_s"), [(1, 60), (30, 300)])
def test_a_trial_without_a_step_is_reported_once_and_once_more_when_it_goes_on(
    watch: tuple[ReportStalledTrials, RecordingDisplay, Pass], each_s: int, limit_s: int
) -> None:
    stalled, display, wait = watch
    for completed in range(4):
        step(stalled, completed)
        wait(each_s)
    step(stalled, 4)
    wait(limit_s - 1)
    assert display.warnings == []
    wait(limit_s)
    (line,) = display.warnings
    assert line.startswith("random, 20 tasks: no step since ")
    for part in ("(train 4/9)", "process 7 on node-b", "`kill -CONT`", "`kill -KILL`"):
        assert part in line
    step(stalled, 5)
    assert display.notes == [f"random, 20 tasks: goes on after {2 * limit_s - 1} s without a step"]


@pytest.mark.parametrize("before", ["start", "another phase", "other workers", "last step"])
def test_where_its_speed_is_not_known_it_may_take_five_minutes(
    watch: tuple[ReportStalledTrials, RecordingDisplay, Pass], before: str
) -> None:
    stalled, display, wait = watch
    for completed in (7, 8) if before != "start" else ():
        step(stalled, completed)
        wait(1)
    if before == "another phase":
        step(stalled, 1, "evaluate")
    if before == "other workers":
        step(stalled, 1, worker="process 8 on node-c")
    if before == "last step":
        step(stalled, 9)
    wait(299)
    assert display.warnings == []
    wait(1)
    assert len(display.warnings) == 1


def test_a_trial_that_waits_or_has_ended_and_a_driver_that_was_stopped_are_not_reported(
    watch: tuple[ReportStalledTrials, RecordingDisplay, Pass],
) -> None:
    stalled, display, wait = watch
    for completed in (1, 2):
        step(stalled, completed)
        wait(1)
    wait(1, each=10_000.0)
    assert display.warnings == []
    stalled.on_trial_result(0, [], TRIAL, {"phase": "waiting for a host", "completed": 0, "total": 0})
    wait(1000)
    stalled.on_trial_complete(0, [], TRIAL)
    wait(1000)
    assert display.warnings == []
