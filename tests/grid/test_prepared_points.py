"""Tokenizers and models of a grid: each distinct one is loaded once, and checked before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from displays import RecordingDisplay

from simtune.config import ModelSettings, Sweep
from simtune.errors import ConfigError
from simtune.grid.grid_points import open_tasks
from simtune.grid.prepared_points import load_models, prepare_points
from simtune.progress import Quiet
from simtune.prompting import tokenizer as tokenizers
from simtune.prompting.tokenizer import train_tokenizer
from simtune.training import model as models
from simtune.training.model import ResolvedModel


def test_grid_points_share_a_published_model_and_its_note_on_decoding(
    tiny_sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    tokenizer = train_tokenizer((), 300)

    def resolve(model: ModelSettings, *_: Any) -> ResolvedModel:
        loaded.append(f"model {model.revision}")
        return ResolvedModel("T5", {}, model.name, None, str(model.revision), unused=f"num_beams {model.revision}")

    monkeypatch.setattr(tokenizers, "load_tokenizer", lambda model, pool: loaded.append("tokenizer") or tokenizer)
    monkeypatch.setattr(models, "resolve_model", resolve)
    tiny_sweep["model"] = {"name": "google-t5/t5-small", "tokenizer": "someone/tokens"}
    tiny_sweep["grid"] = {"model.revision": ["4", "8"], "training.learning_rate": [1e-3, 2e-3]}
    points, display = open_tasks(Sweep(**tiny_sweep)), RecordingDisplay()
    found = load_models(points, display)
    assert loaded == ["tokenizer", "model 4", "tokenizer", "model 8"]
    assert display.warnings == [
        f"google-t5/t5-small: its own num_beams {beams} has no effect, answers are decoded greedily"
        for beams in ("4", "8")
    ]
    # What is published is loaded by then.
    assert [prepared.model.fingerprint for prepared in prepare_points(points, found)] == ["4", "4", "8", "8"]
    assert len(loaded) == 4


def test_a_model_that_cannot_rank_is_refused_before_training(
    tiny_sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tokenizers, "load_tokenizer", lambda *_: train_tokenizer((), 300))
    monkeypatch.setattr(models, "resolve_model", lambda *_: ResolvedModel("t5", {}, str(tmp_path), None, "f"))
    tiny_sweep["evaluation"]["suites"] = [{"name": "a"}, {"name": "b", "method": "rank"}]
    points = open_tasks(Sweep(**tiny_sweep))
    (tmp_path / "config.json").write_text('{"model_type": "umt5"}')
    with pytest.raises(
        ConfigError,
        match=r"^evaluation\.suites\.1\.method: rank is not supported for umt5, only for t5 and mt5; "
        "use one of these, or generate",
    ):
        load_models(points, Quiet())
    (tmp_path / "config.json").write_text('{"model_type": "mt5"}')
    load_models(points, Quiet())
    halved = open_tasks(Sweep(**{**tiny_sweep, "training": {**tiny_sweep["training"], "precision": "fp16"}}))
    with pytest.raises(ConfigError, match="rank is not supported in fp16; use bf16 or fp32, or generate"):
        load_models(halved, Quiet())
