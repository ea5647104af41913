"""The inline executor: one process for all trials of a sweep."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest
import torch

from simtune.config import Sweep
from simtune.executors import inline
from simtune.executors.base import Job
from simtune.progress import Display
from simtune.training.process_memory import reuse_freed_memory
from sweeps import tiny_fields

MEBIBYTE = 2**20


def test_the_process_does_not_grow_from_trial_to_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resident = []

    def leave_a_model(*_: object) -> bool:
        reuse_freed_memory()
        # As an engine does, whose parts refer to each other: only the collector frees it.
        model: list[object] = [torch.ones(64 * MEBIBYTE // 4)]
        model.append(model)
        resident.append(psutil.Process().memory_info().rss)
        return True

    monkeypatch.setattr(inline, "attempt_trial", leave_a_model)
    monkeypatch.setattr(inline, "describe_outcome", lambda spec: "done")

    class Spec:
        id = "trial"

    jobs = [Job(Spec(), "a trial", "data")] * 6  # type: ignore[arg-type]
    sweep = Sweep.model_validate(tiny_fields(tmp_path))
    inline.InlineExecutor().run(jobs, {"data": None}, sweep, Mock(spec=Display))  # type: ignore[dict-item]
    assert max(resident) - resident[0] < 64 * MEBIBYTE
