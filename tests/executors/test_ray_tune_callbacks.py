"""How many trials Ray Tune gives out as hosts come and go, and what is shown of trials that wait."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from displays import RecordingDisplay
from ray import tune
from ray.tune.search.basic_variant import BasicVariantGenerator

from simtune.executors.base import Job
from simtune.executors.ray_tune_callbacks import DisplayTrials, FollowHosts
from simtune.trial.spec import TrialSpec


def test_more_trials_run_when_hosts_join_and_no_fewer_are_given_out_when_one_is_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now, fitting = [100.0], [2]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    grid = BasicVariantGenerator(max_concurrent=2)
    config = {"trial": tune.grid_search([*"abcdef"])}
    grid.add_configurations(tune.Experiment("x", lambda config: None, config=config, storage_path=str(tmp_path)))
    follow = FollowHosts(grid, lambda: fitting[0])

    def given(number: int) -> list[Any]:
        fitting[0] = number
        now[0] += 10.0
        follow.on_step_begin(0, [])
        trials = []
        while (trial := grid.next_trial()) is not None:
            trials.append(trial)
        return trials

    first, lost = given(2)
    assert len(given(3)) == 1
    # Two of three hosts are lost with their trials, which wait. The workers of the last host get the next trial.
    assert given(1) == []
    grid.on_trial_complete(first.trial_id)
    assert [trial.config["trial"] for trial in given(1)] == ["d"]
    assert lost.trial_id


def trials_shown(tmp_path: Path) -> tuple[DisplayTrials, RecordingDisplay, dict[str, Any]]:
    display = RecordingDisplay()
    specs = {id_: TrialSpec.__new__(TrialSpec) for id_ in "ab"}
    for id_, spec in specs.items():
        vars(spec).update(id=id_, directory=tmp_path / id_, scores=())
    shown = DisplayTrials({id_: Job(spec, f"trial {id_}", "data") for id_, spec in specs.items()}, display)
    return shown, display, {id_: SimpleNamespace(config={"trial": id_}) for id_ in "ab"}


def test_trials_that_wait_at_the_same_time_are_one_line_and_a_later_wait_is_another(tmp_path: Path) -> None:
    shown, display, trials = trials_shown(tmp_path)
    waiting = {"phase": "waiting for a host with 4 CPUs", "completed": 0, "total": 0}
    for id_ in "aba":
        shown.on_trial_result(0, [], trials[id_], waiting)
    (note,) = display.notes
    assert note.startswith("trial a: waiting for a host with 4 CPUs since ")
    for id_ in "ab":
        shown.on_trial_result(0, [], trials[id_], {"phase": "train", "completed": 1, "total": 2})
    # Their hosts are lost.
    shown.on_trial_result(0, [], trials["b"], waiting)
    assert [note[:7] for note in display.notes] == ["trial a", "trial b"]


def test_a_trial_that_is_left_out_is_shown_and_kept_with_the_reason(tmp_path: Path) -> None:
    shown, display, trials = trials_shown(tmp_path)
    ended: list[tuple[str, str]] = []
    display.trial_ended = lambda *of: ended.append(of)
    reason = "a host with 4 CPUs was not free for 2 min"
    left_out = {"phase": "waiting for a host with 4 CPUs", "completed": 0, "total": 0, "left_out": reason}
    shown.on_trial_result(0, [], trials["b"], left_out)
    shown.on_trial_complete(0, [], trials["b"])
    assert ended == [("b", f"left out: {reason}")]
    assert shown.left_out == {"b": f"left out: {reason}"}
