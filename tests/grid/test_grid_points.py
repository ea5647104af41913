"""Grid points and what is looked at before their tasks are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simtune.config import Sweep
from simtune.grid import grid_points
from simtune.grid.grid_points import open_tasks


def test_folders_are_looked_at_once_and_not_once_a_grid_point(
    tiny_sweep: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: dict[str, int] = {}
    for name in ("check_encoder", "check_model", "check_tokenizer"):

        def count(value: object, name: str = name) -> None:
            looked_at[name] = looked_at.get(name, 0) + 1

        monkeypatch.setattr(grid_points, name, count)
    grid = {"training.epochs": [1, 2, 3], "model.vocab_size": [600, 700]}
    points = open_tasks(Sweep.model_validate(tiny_sweep | {"grid": grid}), trains=True)
    assert len(points) == 6
    assert looked_at == {"check_encoder": 1, "check_model": 2, "check_tokenizer": 2}
