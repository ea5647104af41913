from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from simtune.sweep.trial_label import trial_label


@pytest.mark.parametrize(
    ("fields", "label"),
    [
        ({"size": 12, "seed": 0}, "random, 2 tasks, seed 0"),
        ({"size": None, "seed": None}, "random"),
        (
            {"size": 12, "seed": 1, "grid": (("model.name", "small"), ("training.epochs", None), ("x.y.epochs", 2))},
            "random, 2 tasks, seed 1, name=small, epochs=2",
        ),
    ],
)
def test_a_trial_is_named_by_its_arm_its_tasks_its_seed_and_what_decides_it(fields: dict[str, Any], label: str) -> None:
    # As many tasks as it has, which are fewer than were asked for where the pool is small.
    row = {"arm": "random", "trial": SimpleNamespace(tasks=("a", "b")), "grid": (), **fields}
    assert trial_label(SimpleNamespace(**row)) == label
