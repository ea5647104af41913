"""Saved weights of a sweep: they are the scored ones, are verified, and are reported if they are missing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from displays import RecordingDisplay
from json_files import read_json

from simtune.config import ModelSettings, load_sweep
from simtune.errors import ConfigError
from simtune.executors.inline import InlineExecutor
from simtune.inspection.doctor import diagnose
from simtune.planning.disk_estimate import DiskNeed
from simtune.planning.plan import plan_sweep
from simtune.progress import Quiet
from simtune.storage.files import as_path, remove_tree
from simtune.storage.parquet_files import read_table
from simtune.sweep.run import RunOutcome, run_sweep
from simtune.training.parameter_count import expected_parameters
from sweeps import only_score, run


@pytest.fixture
def one_trial(tiny_sweep: dict[str, Any]) -> dict[str, Any]:
    tiny_sweep["selection"] = {"strategies": ["random"], "sizes": [2], "seeds": [0]}
    tiny_sweep["training"]["epochs"] = 2
    tiny_sweep["baselines"] = []
    return tiny_sweep


def trial_of(outcome: RunOutcome) -> Path:
    (row,) = outcome.results.to_pylist()
    return outcome.run_directory.parent / "trials" / row["trial"]


def test_a_saved_model_is_the_scored_one_and_every_byte_of_it_is_verified(one_trial: dict[str, Any]) -> None:
    from simtune.evaluation.generation import generate
    from simtune.evaluation.prediction_shards import shards_of
    from simtune.grid.grid_points import open_tasks
    from simtune.grid.prepared_points import prepare_points
    from simtune.prompting.tokenizer import load_tokenizer
    from simtune.sweep.jobs import prepare, token_cache
    from simtune.sweep.trials import make_scores, make_trial
    from simtune.training.model import build_model, resolve_model

    outcome = run(one_trial, "training.keep=all")
    trial = trial_of(outcome)
    assert sorted(path.name for path in (trial / "weights").iterdir()) == ["epoch-1", "epoch-2"]
    kept = trial / "weights/epoch-2"
    # Loaded as any sweep loads a model from its folder.
    model = ModelSettings(name=str(kept))
    tokenizer = load_tokenizer(model, ())
    loaded = build_model(resolve_model(model, tokenizer), 0, None)
    sweep = load_sweep(outcome.run_directory / "sweep.yaml")
    (prepared,) = prepare_points(open_tasks(sweep))
    (score,) = make_scores(make_trial(prepared, "untuned", (), 0))
    shared = prepare(prepared, [(prepared, score)], [], token_cache(sweep), lambda done, total: None)
    sources, budget = shared.suites[score.prompts].test.sources, sweep.evaluation.tokens_per_batch
    answers = {}
    for numbers in shards_of(sources.lengths, budget):
        answers |= generate(loaded, sources, numbers, tokenizer, 4, budget)
    scored = read_table(only_score(trial) / "predictions.parquet").to_pylist()
    assert [answers[number].text for number in range(len(scored))] == [row["prediction"] for row in scored]

    clean = diagnose(outcome.run_directory, Quiet())
    assert (clean.findings, clean.notes) == ((), ())
    weights = kept / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (trial / "weights/epoch-1/complete.json").unlink()
    first, second = diagnose(outcome.run_directory, Quiet()).findings
    assert (first.path, second.path) == (str(trial / "weights/epoch-1"), str(weights))
    assert "does not count: it has no complete.json" in first.problem
    assert "its SHA-256 differs" in second.problem
    assert f"remove {kept}; to have these weights again, move {trial} aside" in second.remedy


def test_in_an_object_store_only_missing_weights_are_reported(
    one_trial: dict[str, Any], s3_storage: str, tmp_path: Path, embedding_cache: Path
) -> None:
    (tmp_path / "cache" / "simtune").mkdir(parents=True)
    (tmp_path / "cache" / "simtune" / "embeddings").symlink_to(embedding_cache)
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(one_trial | {"storage": s3_storage}))
    for keep, num_run, num_warnings in (("none", 1, 0), ("last", 0, 1), ("all", 0, 1)):
        display = RecordingDisplay()
        outcome = run_sweep(load_sweep(path, (f"training.keep={keep}", "training.epochs=1")), InlineExecutor(), display)
        assert (outcome.num_run, len(display.warnings)) == (num_run, num_warnings)
        assert all(f"such as {s3_storage}/trials/" in warning for warning in display.warnings)
    # Existing weights are found.
    remove_tree(as_path(s3_storage) / "trials")
    for num_run in (1, 0):
        display = RecordingDisplay()
        outcome = run_sweep(load_sweep(path, ("training.keep=last", "training.epochs=1")), InlineExecutor(), display)
        assert (outcome.num_run, display.warnings) == (num_run, [])


def test_a_finished_trial_without_the_weights_asked_for_is_reported_and_gives_the_same_when_run_again(
    one_trial: dict[str, Any],
) -> None:
    outcome = run(one_trial)
    trial, table = trial_of(outcome), (outcome.run_directory / "results.parquet").read_bytes()
    metrics = read_json(only_score(trial) / "metrics.json")
    display = RecordingDisplay()
    sweep = load_sweep(Path(one_trial["storage"]) / "sweep-file.yaml", ("training.keep=last",))
    assert run_sweep(sweep, InlineExecutor(), display).num_run == 0
    (warning,) = display.warnings
    assert "training.keep: last, but 1 finished trial lacks these weights" in warning
    (note,) = diagnose(outcome.run_directory, Quiet()).notes
    assert note.endswith(f"move these aside and run `simtune run`: {trial.name}")
    shutil.move(trial, trial.with_suffix(".aside"))
    assert run_sweep(sweep, InlineExecutor(), display).num_run == 1
    assert len(display.warnings) == 1
    assert [path.name for path in (trial / "weights").iterdir()] == ["epoch-2"]
    assert read_json(only_score(trial) / "metrics.json") == metrics
    assert (outcome.run_directory / "results.parquet").read_bytes() == table
    assert diagnose(outcome.run_directory, Quiet()).notes == ()


def test_keep_is_no_axis_of_a_grid(one_trial: dict[str, Any]) -> None:
    one_trial["grid"] = {"training.keep": ["none", "last"]}
    with pytest.raises(ConfigError, match=r"grid\.training\.keep: does not affect results"):
        run(one_trial)


def planned(fields: dict[str, Any], *overrides: str) -> DiskNeed:
    import yaml

    path = Path(fields["storage"]) / "sweep-file.yaml"
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    return plan_sweep(load_sweep(path, overrides)).disk


def test_planned_disk_is_that_of_the_run(one_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    one_trial["selection"]["sizes"] = [2, 3]
    need = planned(one_trial, "training.keep=all", "resources.max_concurrent=1")
    outcome = run(one_trial, "training.keep=all")
    # What is done needs no more.
    assert planned(one_trial, "training.keep=all").saved_weights == 0
    one_trial["name"] = "another"
    trials = outcome.run_directory.parent / "trials"

    def size(pattern: str) -> int:
        return sum(path.stat().st_size for path in trials.glob(pattern))

    assert need.saved_weights == pytest.approx(size("*/weights/*/model.safetensors"), rel=0.05)
    results = sum(size(f"*/scores/*/{name}") for name in ("predictions.parquet", "metrics.json"))
    assert results <= need.results + 4 * 2**13
    none, last, best = (planned(one_trial, f"training.keep={keep}").saved_weights for keep in ("none", "last", "best"))
    assert (none, last) == (0, need.saved_weights // 2)
    assert last < best <= 2 * last
    assert planned(one_trial, "resources.checkpoint_minutes=null").checkpoints == 0
    assert "free" in str(need)
    assert need.warning is None
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(2**30, 2**30, 2**10))
    warning = planned(one_trial, "training.keep=all").warning
    assert warning is not None
    assert "lower training.keep" in warning
    assert planned(one_trial, "storage=s3://bucket/runs").free is None


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"num_decoder_layers": 3, "d_ff": 48},
        {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_layers": 2},
    ],
)
def test_parameters_are_counted_as_the_library_counts_them(tmp_path: Path, sizes: dict[str, Any]) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    from simtune.training.families.t5 import T5

    config = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 64} | sizes
    model = T5ForConditionalGeneration(T5Config(**config))
    real = sum(weights.numel() for weights in model.parameters())
    assert T5.num_parameters(config, 64, False) == real
    model.save_pretrained(tmp_path)
    assert expected_parameters(ModelSettings(name=str(tmp_path)), None) == real


def test_published_sizes() -> None:
    assert expected_parameters(ModelSettings(name="google-t5/t5-small"), None) == 60_506_624
    assert expected_parameters(ModelSettings(name="google/t5-xl-lm-adapt"), None) == 2_849_757_184
    assert expected_parameters(ModelSettings(name="nobody/knows"), None) is None
