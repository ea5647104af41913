"""How many trials Ray Tune gives out as the share of the sweep changes, and what is shown of trials that wait."""

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
from simtune.executors.ray_tune_callbacks import DisplayTrials, FollowShare
from simtune.executors.sharing.ray_share import WholeMachine
from simtune.trial.spec import TrialSpec


def test_as_many_trials_are_given_out_as_the_share_says_and_slots_learn_of_each_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now, share, limits = [100.0], WholeMachine(2), list[int]()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    slots = SimpleNamespace(set_limit=SimpleNamespace(remote=limits.append))
    grid = BasicVariantGenerator()
    config = {"trial": tune.grid_search([*"abcdef"])}
    grid.add_configurations(tune.Experiment("x", lambda config: None, config=config, storage_path=str(tmp_path)))
    follow = FollowShare(grid, slots, share)

    def given(number: int) -> list[Any]:
        monkeypatch.setattr(share, "_num_units", number)
        now[0] += 10.0
        follow.on_step_begin(0, [])
        trials = []
        while (trial := grid.next_trial()) is not None:
            trials.append(trial)
        return trials

    first, second = given(2)
    assert len(given(3)) == 1
    # Another sweep comes. The slot whose trial ends first is closed, and gets no other.
    assert given(2) == []
    grid.on_trial_complete(first.trial_id)
    assert given(2) == []
    grid.on_trial_complete(second.trial_id)
    assert [trial.config["trial"] for trial in given(2)] == ["d"]
    # Tune takes 0 for no limit. Slots know better.
    assert given(0) == []
    assert limits == [2, 3, 2, 0]


def trials_shown(tmp_path: Path) -> tuple[DisplayTrials, RecordingDisplay, dict[str, Any]]:
    display = RecordingDisplay()
    specs = {id_: TrialSpec.__new__(TrialSpec) for id_ in "ab"}
    for id_, spec in specs.items():
        vars(spec).update(id=id_, directory=tmp_path / id_, scores=())
    shown = DisplayTrials({id_: Job(spec, f"trial {id_}", "data") for id_, spec in specs.items()}, display)
    return shown, display, {id_: SimpleNamespace(config={"trial": id_}) for id_ in "ab"}


def test_trials_that_wait_at_the_same_time_are_one_line_and_a_later_wait_is_another(tmp_path: Path) -> None:
    shown, display, trials = trials_shown(tmp_path)
    began = time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, -1))
    waiting = {"phase": "waiting for a host with 4 CPUs", "completed": 0, "total": 0, "since": began}
    for id_ in "aba":
        shown.on_trial_result(0, [], trials[id_], waiting)
    (note,) = display.notes
    assert note == "trial a: waiting for a host with 4 CPUs since 03:04:05; others may be, too"
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
