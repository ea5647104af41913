"""Model families: what T5 refuses, and a further family that is one module and one line of the registry."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_loop import PAD, made, settings
from test_saved_weights import tokenizer
from transformers import AutoModelForSeq2SeqLM

from simtune.config import ModelSettings, Sweep
from simtune.errors import ConfigError, ModelError
from simtune.evaluation.generation import decode_by_library, generate
from simtune.evaluation.greedy import DecodingJob
from simtune.training import families
from simtune.training.engine import single_process_world
from simtune.training.families import registry
from simtune.training.families.t5 import T5
from simtune.training.loop import TrainingHooks, TrainingJob, fine_tune
from simtune.training.model import build_model, check_model, resolve_model
from simtune.training.parameter_count import expected_parameters
from simtune.training.precision import check_hardware
from simtune.training.saved_weights import SavedWeights

BART = """
from collections.abc import Mapping
from typing import Any

from simtune.config.fields import Count, Section
from simtune.training.families.family import ModelFamily, padded_vocabulary


class BartSettings(Section):
    d_model: Count | None = None
    encoder_layers: Count | None = None
    decoder_layers: Count | None = None
    encoder_attention_heads: Count | None = None
    decoder_attention_heads: Count | None = None
    encoder_ffn_dim: Count | None = None
    decoder_ffn_dim: Count | None = None


class BartFamily(ModelFamily):
    name = "BART"
    model_types = ("bart",)
    known_sizes = {"facebook/bart-base": {"d_model": 768, "encoder_layers": 6, "decoder_layers": 6,
        "encoder_attention_heads": 12, "decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072}}
    Settings = BartSettings

    def new_config(self, sizes: Mapping[str, Any], vocab_size: int, pad_id: int, eos_id: int) -> dict[str, Any]:
        return {**sizes, "vocab_size": vocab_size, "pad_token_id": pad_id, "eos_token_id": eos_id,
            "decoder_start_token_id": eos_id, "bos_token_id": None, "forced_eos_token_id": None}

    def build(self, config: Mapping[str, Any]) -> Any:
        from transformers import BartConfig, BartForConditionalGeneration

        return BartForConditionalGeneration(BartConfig(**config))

    def num_parameters(self, sizes: Mapping[str, Any], num_pieces: int | None, pretrained: bool) -> int:
        d = sizes["d_model"]
        def layer(ffn: int, attentions: int) -> int:
            return attentions * 4 * (d * d + d) + 2 * d * ffn + ffn + d + (attentions + 1) * 2 * d
        rows = padded_vocabulary(num_pieces or 50_265) if not pretrained else 50_265
        return (
            rows * d
            + 2 * (1024 + 2) * d
            + sizes["encoder_layers"] * layer(sizes["encoder_ffn_dim"], 1)
            + sizes["decoder_layers"] * layer(sizes["decoder_ffn_dim"], 2)
            + 4 * d
        )


BART = BartFamily()
"""

SMALL = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}


@pytest.fixture
def with_bart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "bart.py").write_text(BART)
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    monkeypatch.setitem(registry.FAMILIES, "bart", "bart:BART")
    yield
    registry.family.cache_clear()


@pytest.mark.usefixtures("with_bart")
def test_a_family_is_one_file_and_one_line_of_the_registry(tmp_path: Path) -> None:
    chosen = ModelSettings(name="facebook/bart-base", init="random", config=SMALL)
    check_model(chosen)
    words = tokenizer()
    resolved = resolve_model(chosen, words)
    build = partial(build_model, resolved, 0, 0.0)
    assert (resolved.family, build().config.dropout) == ("bart", 0.0)
    parameters = sum(weights.numel() for weights in build().parameters())
    assert expected_parameters(chosen, words.vocab_size) == parameters

    job = TrainingJob(made(), np.arange(22), settings(epochs=3, schedule="constant"), 1, 5, PAD)
    hooks = TrainingHooks(weights=SavedWeights(tmp_path / "weights", "last", "t", words))
    model, log = fine_tune(build, job, single_process_world(), hooks)
    assert log.loss_by_epoch[2] < log.loss_by_epoch[0]
    sources, some = job.data.sources, np.arange(5)
    predictions = generate(model, sources, some, words, 6, 100)
    tokens = decode_by_library(model, DecodingJob(sources, some, PAD, 1, 6, 100))
    assert {number: prediction.num_tokens for number, prediction in predictions.items()} == {
        number: sum(token not in (PAD, 1) for token in row) for number, row in tokens.items()
    }
    # The first step's loss, by the library itself.
    untrained = build().train()
    assert log.losses[0] == pytest.approx(first_loss(untrained, job), abs=1e-5)

    folder = tmp_path / "weights/epoch-3"
    published = resolve_model(ModelSettings(name=str(folder)), words)
    assert (published.family, published.ids and published.ids.start) == ("bart", 1)
    read = build_model(published, 0, None).state_dict()
    saved = AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in read.items())


def first_loss(model: Any, job: TrainingJob) -> float:
    from simtune.training.steps import collate, training_steps

    step = training_steps(job.data, job.examples, job.training, job.seed)[0]
    batch = collate(job.data, step.examples, step.references, PAD)
    return float(
        model(
            input_ids=torch.tensor(batch.source_ids_BS),
            attention_mask=torch.tensor(batch.source_mask_BS),
            labels=torch.tensor(batch.labels_BL),
        ).loss.detach()
    )


@pytest.mark.usefixtures("with_bart")
def test_precision_rules_are_the_familys(tmp_path: Path) -> None:
    def sweep(name: str) -> Sweep:
        return Sweep.model_validate({"name": "x", "model": {"name": name}, "training": {"precision": "fp16"}})

    assert check_hardware(sweep("facebook/bart-base"), has_gpu=True) == []
    with pytest.raises(ConfigError, match="fp16 overflows in published T5 weights"):
        check_hardware(sweep("google-t5/t5-base"), has_gpu=True)
    # Until it is known what a model is, every family's rule holds.
    with pytest.raises(ConfigError, match="fp16 overflows in published T5 weights"):
        check_hardware(sweep("nobody/knows"), has_gpu=True)
    (tmp_path / "config.json").write_text('{"model_type": "bart"}')
    assert check_hardware(sweep(str(tmp_path)), has_gpu=True) == []


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"d_modl": 8}, r"model\.config\.d_modl: unknown key; did you mean 'd_model'\?"),
        ({"num_layers": 0}, r"model\.config\.num_layers: 0 is wrong: expected a whole number of at least 1, or null"),
        ({"feed_forward_proj": "gelu"}, r"model\.config\.feed_forward_proj: 'gelu' is wrong"),
    ],
)
def test_sizes_are_checked_by_the_family_before_anything_starts(config: dict[str, Any], complaint: str) -> None:
    chosen = ModelSettings(name="google-t5/t5-small", init="random", config=config)
    for check in (check_model, lambda model: resolve_model(model, tokenizer())):
        with pytest.raises(ConfigError, match=complaint):
            check(chosen)


def test_sizes_that_are_null_are_the_named_models() -> None:
    chosen = ModelSettings(name="google-t5/t5-small", init="random", config={"d_model": None, "num_layers": 1})
    config = resolve_model(chosen, tokenizer()).config
    assert (config["d_model"], config["num_layers"], config["num_decoder_layers"]) == (512, 1, 1)
    assert expected_parameters(chosen, 96) == T5.num_parameters(config, 96, False)


def test_a_model_of_no_family_is_refused_with_the_known_families(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(ModelError, match=r"is a gpt2 model, which is not supported. Supported families: T5 \(t5, mt5"):
        check_model(ModelSettings(name=str(tmp_path)))
