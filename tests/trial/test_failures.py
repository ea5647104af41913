"""Trials that fail: how often they are tried, what is recorded of each attempt, what a later run does."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from json_files import read_json

from simtune.drivers.holder import lease_file
from simtune.drivers.trial_claims import read_claim
from simtune.errors import LeaseLostError, ModelError, ModelFilesError, NonFiniteLossError, TrialTimeoutError
from simtune.executors import inline
from simtune.inspection.doctor import diagnose
from simtune.inspection.status import run_status
from simtune.progress import Quiet
from simtune.storage.files import child_names
from simtune.sweep.run import RunOutcome
from simtune.training.engine import World
from simtune.trial import attempts
from simtune.trial import run as trial_run
from simtune.trial.attempts import attempt_trial
from simtune.trial.failures import attempts_of, cause_of, may_depend_on_host, record_attempt
from simtune.trial.files import read_failure
from sweeps import only_score, run, run_file, undo


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (NonFiniteLossError(3, float("nan")), "diverged"),
        (ModelError("no weights"), "input"),
        (TrialTimeoutError("too long"), "timeout"),
        (MemoryError(), "out-of-memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out-of-memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out-of-memory"),
        (RuntimeError("shape mismatch"), "unexpected"),
        (KeyError("x"), "unexpected"),
    ],
)
def test_every_error_has_its_cause(error: Exception, cause: str) -> None:
    assert cause_of(error) == cause


def failing(monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> list[Any]:
    """Makes the next training attempts fail, one error each; returns the specs that were tried."""
    tried: list[Any] = []
    real, waiting = attempts.run_trial, list(errors)

    def once(spec: Any, *rest: Any) -> Any:
        if spec.kind == "fine-tune":
            tried.append(spec)
            if waiting:
                raise waiting.pop(0)
        return real(spec, *rest)

    monkeypatch.setattr(attempts, "run_trial", once)
    return tried


@pytest.fixture
def one_trial(tiny_sweep: dict[str, Any]) -> dict[str, Any]:
    tiny_sweep["selection"] = {"strategies": ["random"], "sizes": [2], "seeds": [0]}
    tiny_sweep["baselines"] = []
    return tiny_sweep


def only_trial(fields: dict[str, Any]) -> Path:
    (trial,) = (Path(fields["storage"]) / "trials").iterdir()
    return trial


def test_out_of_memory_is_tried_once_more_with_half_the_micro_batch_and_the_same_batches(
    one_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without dropout the loss does not depend on how a batch is cut.
    undisturbed = run_file(one_trial, "metrics.json", "name=undisturbed")
    trials = only_trial(one_trial)
    undo(trials)
    tried = failing(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"))
    outcome = run(one_trial)
    assert [spec.accumulation_steps for spec in tried] == [1, 2]
    (row,) = outcome.results.to_pylist()
    assert (row["status"], row["failure"], row["attempts"], row["log"]) == ("done", None, None, None)
    metrics = read_json(only_score(trials) / "metrics.json")
    torch.testing.assert_close(metrics["training"]["losses"], undisturbed["training"]["losses"], atol=1e-5, rtol=0)
    assert [record.cause for record in attempts_of(trials)] == ["out-of-memory"]
    assert read_json(only_score(trials) / "costs.json")["failed_attempts"] == 1
    assert read_json(only_score(trials) / "costs.json")["host"] == socket.gethostname()


def test_a_trial_that_never_fits_is_a_row_with_its_attempts_and_its_log(
    one_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = failing(monkeypatch, *[MemoryError("3 GiB")] * 4)
    outcome = run(one_trial)
    (row,) = outcome.results.to_pylist()
    assert len(tried) == 2
    assert (row["status"], row["failure"], row["attempts"]) == ("failed", "out-of-memory", 2)
    assert row["error"] == "MemoryError: 3 GiB"
    log = Path(one_trial["storage"]) / row["log"]
    assert "MemoryError: 3 GiB" in log.read_text()
    assert "Traceback" in log.read_text()
    page = " ".join(outcome.report.read_text().split())
    assert f"MemoryError: 3 GiB; 2 attempts, {row['log']} on {socket.gethostname()}" in page
    # It may have been the machine: the next run tries again, and counts its own attempts.
    assert run(one_trial).num_failed == 1
    assert len(tried) == 4
    assert [record.attempt for record in attempts_of(log.parent.parent)] == [1, 2, 3, 4]
    assert {record.host for record in attempts_of(log.parent.parent)} == {row["host"]} == {socket.gethostname()}
    assert run(one_trial).num_failed == 0
    assert read_failure(log.parent.parent, row["score"]) == (None, ())


def test_retry_failed_runs_just_the_failed_ones(one_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tried = failing(monkeypatch, NonFiniteLossError(3, float("inf")))
    assert run(one_trial).results.to_pylist()[0]["failure"] == "diverged"
    # A failure that the inputs decide is not tried again automatically.
    assert run(one_trial).num_run == 0
    outcome = run(one_trial, "selection.sizes=[2,3]", only_failed=True)
    assert [row["status"] for row in outcome.results.to_pylist()] == ["done", "missing"]
    assert (outcome.num_run, len(tried)) == (1, 2)


@pytest.fixture
def broken_suite(one_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """What the first of two suites raises while it is scored; empty: nothing."""
    errors: list[Exception] = []
    one_trial["evaluation"]["suites"] = [{"name": "bad", "max_new_tokens": 2}, {"name": "good"}]
    real = trial_run.predict_suite

    def predict(model: Any, score: Any, *rest: Any) -> Any:
        if errors and score.suite.name == "bad":
            raise errors[0]
        return real(model, score, *rest)

    monkeypatch.setattr(trial_run, "predict_suite", predict)
    return errors


def statuses(outcome: RunOutcome) -> dict[str, str]:
    return {row["suite"]: row["status"] for row in outcome.results.to_pylist()}


@pytest.mark.parametrize("keep", ["none", "last"])
def test_a_score_that_cannot_be_made_fails_alone_and_costs_no_other_its_score(
    one_trial: dict[str, Any], broken_suite: list[Exception], keep: str
) -> None:
    one_trial["training"]["keep"] = keep
    broken_suite.append(ModelError("no such choice"))
    outcome = run(one_trial)
    assert statuses(outcome) == {"bad": "failed", "good": "done"}
    trial = only_trial(one_trial)
    assert not (trial / "failure.json").exists()
    (costs,) = (read_json(path) for path in trial.glob("scores/*/costs.json"))
    assert (costs["train_s"] > 0, costs["failed_attempts"]) == (True, 1)
    # A suite that is added later has nothing to do with it.
    one_trial["evaluation"]["suites"].append({"name": "later", "instances_per_task": 1})
    again = run(one_trial)
    assert statuses(again) == {"bad": "failed", "good": "done", "later": "done" if keep == "last" else "missing"}
    assert again.num_run == (keep == "last")
    (status,) = run_status(outcome.run_directory).trials
    assert (status.status, status.error) == ("failed", f"bad: ModelError: no such choice (on {socket.gethostname()})")
    diagnosis = diagnose(outcome.run_directory, Quiet())
    notes = " ".join(diagnosis.notes)
    assert (diagnosis.findings, "1 trial failed" in notes, "--retrain" in notes) == ((), True, keep == "none")
    broken_suite.clear()
    assert statuses(run(one_trial, only_failed=True, retrain=True))["bad"] == "done"
    assert list(trial.rglob("failure.json")) == []


def test_a_score_that_may_succeed_next_time_is_made_by_the_next_run(
    one_trial: dict[str, Any], broken_suite: list[Exception]
) -> None:
    for error in (RuntimeError("shape mismatch"), MemoryError("3 GiB")):
        broken_suite[:] = [error]
        assert statuses(run(one_trial)) == {"bad": "failed", "good": "done"}
        assert not (only_trial(one_trial) / "training.json").exists()
    assert [record.cause for record in attempts_of(only_trial(one_trial))] == ["unexpected", "out-of-memory"]
    broken_suite.clear()
    assert statuses(run(one_trial)) == {"bad": "done", "good": "done"}
    assert (only_trial(one_trial) / "training.json").is_file()


def test_a_model_that_cannot_be_trained_has_none_of_its_scores(
    one_trial: dict[str, Any], broken_suite: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, NonFiniteLossError(3, float("inf")))
    assert statuses(run(one_trial)) == {"bad": "failed", "good": "failed"}
    one_trial["evaluation"]["suites"].append({"name": "later", "instances_per_task": 1})
    outcome = run(one_trial)
    assert (outcome.num_run, set(statuses(outcome).values())) == (0, {"failed"})


def test_a_failure_of_another_score_is_reported_and_not_used(
    one_trial: dict[str, Any], broken_suite: list[Exception]
) -> None:
    broken_suite.append(ModelError("no such choice"))
    outcome = run(one_trial)
    (failure,) = only_trial(one_trial).rglob("failure.json")
    (good,) = only_trial(one_trial).glob("scores/*/metrics.json")
    failure.rename(good.parent / "failure.json")
    (finding,) = diagnose(outcome.run_directory, Quiet()).findings
    assert f"belongs to score {failure.parent.name}" in finding.problem
    assert statuses(run(one_trial))["bad"] == "missing"


def test_a_trial_that_takes_too_long_is_tried_once_more(one_trial: dict[str, Any]) -> None:
    outcome = run(one_trial, "resources.trial_minutes=1e-9")
    (row,) = outcome.results.to_pylist()
    assert (row["failure"], row["attempts"]) == ("timeout", 2)
    assert row["error"].startswith("TrialTimeoutError: longer than resources.trial_minutes: 1e-09, at train ")


def test_workers_lost_earlier_do_not_end_a_trial_that_is_started_again(
    one_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = attempts.claim_trial

    def after_two_losses(directory: Path, lease: Any, dead_drivers: frozenset[str]) -> bool:
        for _ in range(2):
            record_attempt(directory, RuntimeError("its workers were lost"), "infrastructure", lease.token)
        return real(directory, lease, dead_drivers)

    monkeypatch.setattr(attempts, "claim_trial", after_two_losses)
    assert run(one_trial).num_failed == 0
    assert read_json(only_score(only_trial(one_trial)) / "costs.json")["failed_attempts"] == 2


def test_a_driver_that_lost_its_lease_writes_nothing(
    one_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(one_trial)
    trial = only_trial(one_trial)
    undo(trial)
    before = {path: path.stat().st_mtime_ns for path in trial.rglob("*")}

    class Lost:
        token = "lost"  # noqa: S105 no secret

        file = lease_file(Path("nowhere"))

        def held(self) -> bool:
            return False

    real = attempts.run_trial

    def late(spec: Any, *rest: Any) -> None:
        object.__setattr__(spec, "lease", Lost())
        with pytest.raises(LeaseLostError):
            real(spec, *rest)
        raise LeaseLostError("lost")

    monkeypatch.setattr(attempts, "run_trial", late)
    run(one_trial)
    after = {path: path.stat().st_mtime_ns for path in trial.rglob("*") if "predictions.parts" not in path.parts}
    assert {path: stamp for path, stamp in after.items() if path.name != ".claim"} == before


def test_several_workers_raise_an_error_that_not_all_have_for_the_executor_to_handle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spec:
        directory = tmp_path
        lease = None
        driver = ""
        sweep: Any = None

    def broken(*_: Any) -> None:
        raise RuntimeError("connection closed by peer")

    monkeypatch.setattr(attempts, "run_trial", broken)
    monkeypatch.setattr(attempts, "_claimed", lambda spec, _: spec)
    monkeypatch.setattr(attempts, "_in_memory", lambda spec, _: spec)
    monkeypatch.setattr(attempts, "within_time_limit", lambda _, on_progress, __: on_progress)
    with pytest.raises(RuntimeError, match="connection closed"):
        attempt_trial(Spec(), None, World(1, 2, "cpu"), lambda _: None, time.monotonic)  # type: ignore[arg-type]
    assert attempts_of(tmp_path) == []


@pytest.fixture
def two_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials run on h1, and on h2 if h1 asks for that."""
    real = inline.attempt_trial

    def attempt(spec: Any, shared: Any, world: World, on_progress: Any) -> bool:
        asked: list[bool] = []
        here, there = replace(world, host="h1"), replace(world, host="h2")
        may_continue = real(spec, shared, here, on_progress, try_elsewhere=lambda: asked.append(True) or True)
        if not asked:
            return may_continue
        # No other driver can take it meanwhile.
        assert read_claim(spec.directory) is not None
        return real(spec, shared, there, on_progress)

    monkeypatch.setattr(inline, "attempt_trial", attempt)


@pytest.mark.usefixtures("two_hosts")
@pytest.mark.parametrize(
    ("errors", "hosts"),
    [
        ([FileNotFoundError("no such folder")], ["h1"]),
        ([ModelFilesError("others than the driver's")], ["h1"]),
        ([RuntimeError("CUDA error: an illegal memory access was encountered")], ["h1"]),
        # First with half the micro-batch on the same host.
        ([MemoryError("3 GiB")] * 2, ["h1", "h1"]),
    ],
)
def test_an_error_that_may_be_the_hosts_is_tried_on_another_one_before_it_is_final(
    one_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch, errors: list[Exception], hosts: list[str]
) -> None:
    failing(monkeypatch, *errors)
    assert run(one_trial).results.to_pylist()[0]["status"] == "done"
    trial = only_trial(one_trial)
    assert [record.host for record in attempts_of(trial)] == hosts
    assert read_json(only_score(trial) / "costs.json")["host"] == "h2"
    assert not (trial / "failure.json").exists()
    assert not (trial / ".claim").exists()


@pytest.mark.usefixtures("two_hosts")
def test_an_error_on_both_hosts_is_final_and_one_that_any_host_would_have_is_so_at_once(
    one_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = failing(monkeypatch, OSError("no device"), OSError("no device"), KeyError("x"))
    (row,) = run(one_trial).results.to_pylist()
    assert (row["status"], row["host"], row["attempts"]) == ("failed", "h2", 2)
    assert run(one_trial).results.to_pylist()[0]["host"] == "h1"
    assert len(tried) == 3


@pytest.mark.usefixtures("two_hosts")
def test_a_trial_that_ran_out_of_memory_on_one_host_is_tried_once_on_another_with_half_the_micro_batch(
    one_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = failing(monkeypatch, *[MemoryError("3 GiB")] * 9)
    (row,) = run(one_trial).results.to_pylist()
    assert (row["status"], row["host"], len(tried)) == ("failed", "h2", 3)


@pytest.mark.usefixtures("two_hosts")
@pytest.mark.parametrize("error", [OSError("no device"), MemoryError("3 GiB")])
def test_a_score_whose_error_may_be_the_hosts_is_made_on_another_one_of_the_same_model(
    one_trial: dict[str, Any], broken_suite: list[Exception], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    broken_suite.append(error)
    real = attempts.record_attempt

    def heals(*arguments: Any, **named: Any) -> Any:
        broken_suite.clear()
        return real(*arguments, **named)

    monkeypatch.setattr(attempts, "record_attempt", heals)
    assert statuses(run(one_trial)) == {"bad": "done", "good": "done"}
    trial = only_trial(one_trial)
    (record,) = attempts_of(trial)
    assert (record.host, record.score in child_names(trial / "scores")) == ("h1", True)
    # A model that was scored before is not trained again in another way.
    assert read_json(trial / "training.json")["training"]["accumulation_steps"] == 1
    assert not (trial / "checkpoints").exists()


def test_errors_that_may_be_the_hosts_are_found_behind_those_that_users_read() -> None:
    hidden = ModelError("the weights cannot be loaded")
    hidden.__cause__ = FileNotFoundError("config.json")
    assert may_depend_on_host(hidden)
    for error in (ModelError("no such choice"), ValueError("x"), NonFiniteLossError(3, float("nan"))):
        assert not may_depend_on_host(error)
