"""Lengths of a grid's tasks: points that agree in all that affects them share one measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from simtune.config import load_sweep
from simtune.grid.grid_points import PointTasks, open_tasks
from simtune.planning import expected_lengths
from simtune.planning.expected_lengths import ExpectedLengths, LengthsOfPoints
from sweeps import tiny_fields

GRID = {
    "model.vocab_size": [400, 600],
    "training.max_source_tokens": [150, 400],
    "encoding.positive": [0, 1],
    "training.learning_rate": [0.1, 0.2, 0.3],
}


@pytest.fixture
def points(tmp_path: Path) -> list[PointTasks]:
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(tiny_fields(tmp_path) | {"grid": GRID}))
    return open_tasks(load_sweep(path))


def lengths(point: PointTasks, measured: LengthsOfPoints) -> ExpectedLengths:
    tokenizer, _ = measured.tokenizer(point)
    return measured.measure(point.tasks.pool, point.sweep.encoding, point.sweep.training, tokenizer)


def test_each_combination_is_measured_once_and_as_if_it_were_alone(
    points: list[PointTasks], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Any] = []
    real = expected_lengths.train_tokenizer
    monkeypatch.setattr(expected_lengths, "train_tokenizer", lambda *given: trained.append(given) or real(*given))
    measured = LengthsOfPoints()
    found = [lengths(point, measured) for point in points]
    assert (len(points), len(trained)) == (24, 2)
    assert found == [lengths(point, LengthsOfPoints()) for point in points]
    # Cut at 150 tokens, a demonstration may not fit.
    assert len({tuple(each.source.values()) for each in found}) == 6
