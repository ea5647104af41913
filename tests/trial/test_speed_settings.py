from __future__ import annotations

from typing import Any

import pytest

from simtune.config import Sweep
from simtune.trial.speed_settings import speed_fingerprint


def of(**sections: Any) -> str:
    return speed_fingerprint(Sweep.model_validate({"name": "s", **sections}))


@pytest.mark.parametrize(
    "sections",
    [
        {"training": {"learning_rate": 1e-3}},
        {"training": {"epochs": 7}},
        {"training": {"keep": "last"}},
        {"selection": {"sizes": [5]}},
        {"resources": {"gpus_per_worker": 1}},
        {"resources": {"trial_minutes": 5}},
    ],
    ids=str,
)
def test_what_changes_no_speed_is_left_out(sections: dict[str, Any]) -> None:
    assert of(**sections) == of()


@pytest.mark.parametrize(
    "sections",
    [
        {"model": {"name": "google-t5/t5-base"}},
        {"training": {"precision": "fp32"}},
        {"training": {"batch_size": 32}},
        {"resources": {"workers": 2}},
        {"resources": {"gpus_per_worker": 0.5}},
        {"evaluation": {"max_new_tokens": 9}},
        {"evaluation": {"tokens_per_batch": 999}},
        {"encoding": {"max_source_tokens": 99}},
    ],
    ids=str,
)
def test_what_decides_the_speed_is_in_it(sections: dict[str, Any]) -> None:
    assert of(**sections) != of()
