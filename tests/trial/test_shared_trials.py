"""What a driver makes of trials that another has run since they were planned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from displays import RecordingDisplay
from json_files import read_json

from simtune.storage.files import write_text
from simtune.sweep.run import RunOutcome
from simtune.trial import attempts
from sweeps import run


@pytest.fixture
def one_trial(tiny_sweep: dict[str, Any]) -> dict[str, Any]:
    tiny_sweep["selection"] = {"strategies": ["random"], "sizes": [2], "seeds": [0]}
    tiny_sweep["baselines"] = []
    return tiny_sweep


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Of each trial that is run, the epoch whose saved weights it loads; None if it trains."""
    found: list[int | None] = []
    real = attempts.run_trial

    def run_trial(spec: Any, *rest: Any) -> Any:
        found.append(spec.saved_epoch)
        return real(spec, *rest)

    monkeypatch.setattr(attempts, "run_trial", run_trial)
    return found


def just_before(monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> None:
    """Does something once, just before the first trial that is planned is claimed."""
    real = attempts.claim_trial

    def late(*arguments: Any) -> bool:
        monkeypatch.setattr(attempts, "claim_trial", real)
        then()
        return real(*arguments)

    monkeypatch.setattr(attempts, "claim_trial", late)


def only_trial(outcome: RunOutcome) -> Path:
    (row,) = outcome.results.to_pylist()
    return outcome.run_directory.parent / "trials" / row["trial"]


def test_a_trial_that_another_driver_has_finished_meanwhile_is_not_trained_again(
    one_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch, started: list[int | None]
) -> None:
    just_before(monkeypatch, lambda: run(one_trial, "name=other"))
    outcome = run(one_trial)
    assert (outcome.num_failed, started) == (0, [None])
    assert not (only_trial(outcome) / ".claim").exists()


@pytest.mark.parametrize(
    ("keep", "retrain", "expected", "num_failed"),
    [("last", False, [None, 1], 0), ("none", False, [None], 1), ("none", True, [None, None], 0)],
)
def test_a_model_that_another_driver_has_trained_for_other_scores_is_trained_again_only_if_asked(
    one_trial: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    started: list[int | None],
    keep: str,
    retrain: bool,
    expected: list[int | None],
    num_failed: int,
) -> None:
    other = ("name=other", "evaluation.instances_per_task=1", f"training.keep={keep}")
    just_before(monkeypatch, lambda: run(one_trial, *other))
    display = RecordingDisplay()
    outcome = run(one_trial, f"training.keep={keep}", display=display, retrain=retrain)
    assert (outcome.num_failed, started) == (num_failed, expected)
    assert any("lacks the final weights" in warning for warning in display.warnings) == bool(num_failed)


def test_a_damaged_record_of_another_driver_fails_the_trial_with_its_remedy(
    one_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch, started: list[int | None]
) -> None:
    trial = only_trial(run(one_trial, "name=other", "evaluation.instances_per_task=1"))
    record = (trial / "training.json").read_text()
    (trial / "training.json").unlink()
    for score in (trial / "scores").iterdir():
        (score / "metrics.json").unlink()
    just_before(monkeypatch, lambda: write_text(trial / "training.json", record[:-20]))
    outcome = run(one_trial)
    assert (outcome.num_failed, started) == (1, [None])
    assert "move" in read_json(trial / "failure.json")["message"]


def test_a_trial_whose_workers_wrote_nothing_is_not_said_to_be_another_drivers(
    one_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # They end in the middle, with the claim of their own driver.
    monkeypatch.setattr(attempts, "run_trial", lambda *_: set())
    display = RecordingDisplay()
    run(one_trial, display=display)
    assert list(display.ended.values()) == ["failed: no results were written"]
