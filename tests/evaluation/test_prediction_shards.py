"""Shards and parts of predictions, and what happens to them when an evaluation is interrupted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from small_t5 import WORDS, random_sources, small_t5

from simtune.config import Sweep, load_sweep
from simtune.config.evaluation import suites_of
from simtune.evaluation import prediction_shards
from simtune.evaluation.prediction_shards import Prediction, PredictionParts, shards_of, weights_fingerprint
from simtune.executors.inline import InlineExecutor
from simtune.progress import Quiet
from simtune.storage.files import child_names
from simtune.storage.parquet_files import read_table
from simtune.storage.records import read_record
from simtune.sweep.run import run_sweep
from simtune.training.engine import World
from simtune.trial import scoring
from simtune.trial.records import Costs
from simtune.trial.scoring import predict_suite
from simtune.trial.spec import ScoreSpec


def test_shards_have_every_source_once_and_cost_the_same() -> None:
    lengths = np.random.default_rng(0).integers(5, 1024, 500)
    shards = shards_of(lengths, 5000)
    assert sorted(np.concatenate(shards).tolist()) == list(range(500))
    costs = [int(lengths[shard].sum()) for shard in shards]
    assert max(costs) <= 1.1 * min(costs)
    assert max(costs) <= 4 * 5000 * 1.05
    assert [shard.tolist() for shard in shards_of(lengths, 10**9)] == [np.lexsort((np.arange(500), -lengths)).tolist()]
    assert shards_of(np.zeros(0, dtype=np.int64), 100) == []


def test_weights_have_a_fingerprint_that_any_change_of_them_changes(tmp_path: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM

    model = small_t5()
    before = weights_fingerprint(model)
    model.save_pretrained(tmp_path)
    assert weights_fingerprint(AutoModelForSeq2SeqLM.from_pretrained(tmp_path)) == before
    assert weights_fingerprint(model.to(torch.bfloat16)) != before
    other = small_t5()
    with torch.no_grad():
        other.decoder.block[1].layer[-1].DenseReluDense.wo.weight[3, 4] += 1e-6
    assert weights_fingerprint(other) != before


def test_a_part_counts_only_whole_and_for_its_own_weights_and_sources(tmp_path: Path) -> None:
    numbers = np.array([4, 2])
    predictions = {2: Prediction("two, \u00fc", 3), 4: Prediction("", 0)}
    parts = PredictionParts(tmp_path / "parts", "a" * 64)
    assert parts.read(7, numbers) is None
    parts.write(7, predictions)
    assert parts.read(7, numbers) == predictions
    assert parts.read(7, np.array([4, 3])) is None
    assert parts.read(6, numbers) is None
    assert PredictionParts(tmp_path / "parts", "b" * 64).read(7, numbers) is None
    (path,) = (tmp_path / "parts").iterdir()
    # Copied under the name of another's.
    path.with_name(f"{'b' * 16}-00007.parquet").write_bytes(path.read_bytes())
    assert PredictionParts(tmp_path / "parts", "b" * 64).read(7, numbers) is None
    path.write_bytes(path.read_bytes()[:-9])
    assert parts.read(7, numbers) is None
    parts.remove()
    assert not (tmp_path / "parts").exists()


def test_parts_that_do_not_exist_are_not_asked_for_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[Path] = []
    opened: list[Path] = []

    def names(folder: Path) -> set[str]:
        listed.append(folder)
        return child_names(folder)

    def read(path: Path) -> Any:
        opened.append(path)
        return read_table(path)

    monkeypatch.setattr(prediction_shards, "child_names", names)
    monkeypatch.setattr(prediction_shards, "read_table", read)
    parts, numbers = PredictionParts(tmp_path / "parts", "a" * 64), np.array([4, 2])
    assert [parts.read(shard, numbers) for shard in range(40)] == [None] * 40
    assert (listed, opened) == ([tmp_path / "parts"], [])
    parts.write(7, {2: Prediction("two", 1), 4: Prediction("four", 1)})
    assert parts.read(7, numbers) is not None
    assert (len(listed), len(opened)) == (1, 1)


@pytest.fixture
def many_shards(tiny_sweep: dict[str, Any]) -> dict[str, Any]:
    tiny_sweep["selection"] = {"strategies": ["random"], "sizes": [2], "seeds": [0]}
    tiny_sweep["baselines"] = []
    tiny_sweep["evaluation"]["tokens_per_batch"] = 64
    return tiny_sweep


def run(fields: dict[str, Any], storage: Path) -> Path:
    """The folder of a sweep's only score, after its run."""
    storage.mkdir(exist_ok=True)
    path = storage / "sweep-file.yaml"
    path.write_text(yaml.safe_dump({**fields, "storage": str(storage)}))
    if not (storage / "cache").exists():
        (storage / "cache").symlink_to(Path(fields["storage"]) / "cache")
    run_sweep(load_sweep(path, ()), InlineExecutor(), Quiet())
    (folder,) = (storage / "trials").glob("*/scores/*")
    return folder


def test_an_interrupted_evaluation_continues_with_the_missing_parts(
    many_shards: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    real = scoring.generate

    def cut(model: Any, sources: Any, numbers: np.ndarray, *rest: Any) -> dict[int, Prediction]:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(len(numbers))
        return real(model, sources, numbers, *rest)

    undisturbed = run(many_shards, tmp_path / "undisturbed")
    assert not (undisturbed / "predictions.parts").exists()
    monkeypatch.setattr(scoring, "generate", cut)
    with pytest.raises(KeyboardInterrupt):
        run(many_shards, tmp_path / "cut")
    (directory,) = (tmp_path / "cut" / "trials").glob("*/scores/*")
    assert len(list((directory / "predictions.parts").iterdir())) == len(done) == 3
    assert not (directory / "metrics.json").exists()

    again: list[int] = []
    monkeypatch.setattr(scoring, "generate", lambda *a: again.append(len(a[2])) or real(*a))
    assert run(many_shards, tmp_path / "cut") == directory
    assert sum(again) + sum(done) == read_table(directory / "predictions.parquet").num_rows
    assert not (directory / "predictions.parts").exists()
    resumed = [read_record(folder / "costs.json", Costs).resumed for folder in (undisturbed, directory)]
    assert resumed == [False, True]
    for name in ("predictions.parquet", "metrics.json"):
        assert (directory / name).read_bytes() == (undisturbed / name).read_bytes()


def test_predictions_and_reports_are_the_same_on_any_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sweep = small_t5("mt5", 6), Sweep(name="test", evaluation={"tokens_per_batch": 30, "max_new_tokens": 20})
    data = SimpleNamespace(test=SimpleNamespace(sources=random_sources(40)))
    shared: Any = SimpleNamespace(suites={"prompts": data}, tokenizer=WORDS)
    score = ScoreSpec("0" * 16, suites_of(sweep)[0], {}, 30, "prompts")

    def on_workers(size: int) -> tuple[dict[int, Prediction], list[int]]:
        sent: list[dict[int, Prediction]] = []
        # torch sends and collects: rank 0 comes last here and finds what the others sent.
        monkeypatch.setattr(
            torch.distributed,
            "gather_object",
            lambda share, gathered, dst: (sent.append(share), gathered and gathered.__setitem__(slice(None), sent)),
        )
        reports = []
        for rank in reversed(range(size)):
            progress: list[dict[str, Any]] = []
            parts = PredictionParts(tmp_path / f"{size} workers" / str(rank), "weights")
            predictions = predict_suite(model, score, shared, parts, World(rank, size, "cpu"), progress.append)
            reports.append(len(progress))
        return predictions, reports

    alone, reports = on_workers(1)
    assert sorted(alone) == list(range(40))
    assert len({prediction.num_tokens for prediction in alone.values()}) >= 6
    assert reports == [len(shards_of(data.test.sources.lengths, 30))]
    for size in (2, 3):
        predictions, reports = on_workers(size)
        assert predictions == alone
        assert len(set(reports)) == 1
        assert reports[0] >= 2
