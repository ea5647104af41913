"""What Tune's actors do to the slots of trials, without Ray: real slots, and calls that are answered at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from simtune.executors.placement import WorkerResources
from simtune.executors.slots import slot_trainable
from simtune.executors.slots.slot_progress import WorkerHost
from simtune.executors.slots.slot_trainable import SharedBySlots, SlotTrainable
from simtune.executors.slots.trial_slots import TrialSlots


async def never(host: WorkerHost) -> bool:
    return False


class Answered:
    """An actor whose methods answer before `remote` returns."""

    def __init__(self, slots: TrialSlots) -> None:
        self._slots = slots

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._slots, name)
        return SimpleNamespace(remote=lambda *arguments, **named: asyncio.run(method(*arguments, **named)))


def trainable(slots: TrialSlots, trial: str) -> SlotTrainable:
    made = SlotTrainable.__new__(SlotTrainable)
    made.setup({"trial": trial}, [SharedBySlots(Answered(slots), {}, WorkerResources(1, 1, 0.0), 0, 1.0, "")])
    return made


def test_an_actor_that_tune_makes_for_a_trial_and_ends_before_it_runs_leaves_the_one_that_runs_it_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(slot_trainable.ray, "get", lambda answer: answer)
    spec = SimpleNamespace(id="a", lease=None, directory=tmp_path / "trials" / "a")
    jobs: dict[str, Any] = {"a": SimpleNamespace(spec=spec)}
    slots = TrialSlots(jobs, 0, never)
    asyncio.run(slots.assign("running", "a"))
    trainable(slots, "a").cleanup()
    assert asyncio.run(slots.workers_ended("running"))[0] != "closed"
