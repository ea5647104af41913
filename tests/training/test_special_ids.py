"""What a decoder starts with and what ends an answer: training, answers and ranking against the library's own."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_loop import plain_losses
from tokenizers import AddedToken, Tokenizer, models
from transformers import (
    AutoModelForSeq2SeqLM,
    MT5Config,
    MT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from simtune.config import ModelSettings, TrainingSettings
from simtune.errors import ModelError
from simtune.evaluation.generation import generate
from simtune.evaluation.rank_classification import rank_choices
from simtune.prompting.tokenizer import TextTokenizer
from simtune.training.engine import single_process_world
from simtune.training.examples import Ragged, TokenisedTasks
from simtune.training.loop import TrainingJob, fine_tune
from simtune.training.model import ResolvedModel, build_model, resolve_model
from simtune.training.special_ids import SpecialIds

VOCABULARY = 64
SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 3, "vocab_size": VOCABULARY}


def words(pad: int, eos: int, vocabulary: int = VOCABULARY, special: tuple[int, ...] = ()) -> TextTokenizer:
    """A tokenizer whose words contain their ids."""
    tokenizer = Tokenizer(models.WordLevel({f"w{number}": number for number in range(vocabulary)}, unk_token="w2"))  # noqa: S106
    tokenizer.add_special_tokens([AddedToken(f"w{number}", special=True) for number in (pad, eos, *special)])
    return TextTokenizer(tokenizer, pad, eos, "test")


def saved(folder: Path, kind: str = "t5", seed: int = 1, **config: Any) -> Path:
    """A published model whose config.json says this of its ids; None takes an entry out."""
    torch.manual_seed(seed)
    model: Any
    if kind == "t5":
        model = T5ForConditionalGeneration(T5Config(**SIZES, initializer_factor=2.0))
    else:
        model = MT5ForConditionalGeneration(MT5Config(**SIZES, initializer_factor=2.0))
    with torch.no_grad():
        for block in model.decoder.block:
            block.layer[0].SelfAttention.o.weight *= 4
            block.layer[1].EncDecAttention.o.weight *= 4
    model.save_pretrained(folder)
    described = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(
        json.dumps({key: value for key, value in described.items() if value is not None})
    )
    (folder / "generation_config.json").unlink(missing_ok=True)
    return folder


def says(folder: Path, **generation: Any) -> Path:
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def resolved(folder: Path, tokenizer: TextTokenizer) -> ResolvedModel:
    return resolve_model(ModelSettings(name=str(folder)), tokenizer)


def some_sources(tokenizer: TextTokenizer, num: int = 12) -> Ragged:
    random = np.random.default_rng(0)
    special = {tokenizer.pad_id, tokenizer.eos_id}
    ordinary = [token for token in range(4, VOCABULARY) if token not in special]
    return Ragged.from_rows(
        [[*random.choice(ordinary, random.integers(1, 15)).tolist(), tokenizer.eos_id] for _ in range(num)]
    )


def answers(model: Any, sources: Ragged, tokenizer: TextTokenizer) -> list[str]:
    predictions = generate(model, sources, np.arange(len(sources)), tokenizer, 12, 60)
    return [predictions[number].text for number in range(len(sources))]


def answers_of_library(folder: Path, sources: Ragged, tokenizer: TextTokenizer, **settings: Any) -> list[str]:
    """One source at a time, with the folder's own settings; special tokens are left out as in the library."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    texts = []
    for number in range(len(sources)):
        ids = torch.tensor(sources[number][None].astype(np.int64))
        output = model.generate(input_ids=ids, max_new_tokens=12, num_beams=1, do_sample=False, **settings)[0, 1:]
        texts.append(tokenizer.decode(output.tolist()))
    return texts


@pytest.mark.parametrize("kind", ["t5", "mt5"])
@pytest.mark.parametrize(
    ("pad", "eos", "config", "generation", "start"),
    [
        (0, 1, {"decoder_start_token_id": 0}, None, 0),
        (1, 0, {"decoder_start_token_id": 1, "pad_token_id": 1, "eos_token_id": 0}, None, 1),
        (3, 1, {"decoder_start_token_id": 3, "pad_token_id": 3}, None, 3),
        (0, 1, {"decoder_start_token_id": 2}, None, 2),
        (3, 1, {"decoder_start_token_id": 0, "pad_token_id": 3}, None, 0),
        (3, 2, {"decoder_start_token_id": 5, "pad_token_id": 3, "eos_token_id": 2}, None, 5),
        (0, 1, {"decoder_start_token_id": None}, {"decoder_start_token_id": 7, "eos_token_id": 1}, 7),
        (0, 1, {"decoder_start_token_id": 2}, {"decoder_start_token_id": 2, "eos_token_id": 1}, 2),
        (0, 1, {"decoder_start_token_id": 2}, {"eos_token_id": [1, 3], "decoder_start_token_id": 2}, 2),
    ],
)
def test_answers_are_those_of_generate_whatever_the_ids(
    tmp_path: Path, kind: str, pad: int, eos: int, config: dict[str, Any], generation: dict[str, Any] | None, start: int
) -> None:
    tokenizer, folder = words(pad, eos, special=(3,)), saved(tmp_path, kind, **config)
    if generation:
        says(folder, **generation)
    found = resolved(folder, tokenizer)
    model = build_model(found, 0, None)
    sources = some_sources(tokenizer)
    assert SpecialIds.from_model(model).start == start
    expected = answers_of_library(folder, sources, tokenizer)
    assert len(set(expected)) >= 4
    assert answers(model, sources, tokenizer) == expected
    # The saved weights say the same.
    model.save_pretrained(tmp_path / "kept")
    assert answers_of_library(tmp_path / "kept", sources, tokenizer) == expected


@pytest.mark.parametrize(
    ("kind", "pad", "config", "generation", "start"),
    [
        ("t5", 3, {"pad_token_id": 3}, None, 3),
        ("t5", 3, {"pad_token_id": None}, None, 3),
        ("t5", 0, {"pad_token_id": 4}, None, 4),
        ("t5", 3, {"bos_token_id": 5, "pad_token_id": 3}, None, 5),
        ("t5", 3, {"pad_token_id": 3}, {"bos_token_id": 6}, 6),
        # The library's own default for mT5.
        ("mt5", 3, {"pad_token_id": 3}, None, 0),
    ],
)
def test_a_missing_start_token_is_the_librarys_default_or_else_padding(
    tmp_path: Path, kind: str, pad: int, config: dict[str, Any], generation: dict[str, Any] | None, start: int
) -> None:
    tokenizer = words(pad, 1)
    folder = saved(tmp_path, kind, decoder_start_token_id=None, **config)
    if generation:
        says(folder, **generation)
    model = build_model(resolved(folder, tokenizer), 0, None)
    assert (model.config.decoder_start_token_id, model.config.pad_token_id) == (start, pad)
    sources = some_sources(tokenizer)
    assert answers(model, sources, tokenizer) == answers_of_library(
        folder, sources, tokenizer, decoder_start_token_id=start
    )


@pytest.mark.parametrize(
    ("config", "generation", "message"),
    [
        ({"decoder_start_token_id": 64}, None, r"decoder_start_token_id 64, which is not one of its tokens \(0 to"),
        ({"decoder_start_token_id": -1}, None, "decoder_start_token_id -1"),
        ({"decoder_start_token_id": True}, None, "decoder_start_token_id True"),
        ({"decoder_start_token_id": [0, 1]}, None, "decoder_start_token_id"),
        ({"decoder_start_token_id": 0}, {"decoder_start_token_id": 5}, "training and generation would differ"),
        ({"eos_token_id": 9}, None, "ends its answers with token 9 .* reads as 'w9'"),
        ({}, {"eos_token_id": [1, 9]}, "ends its answers with token 9"),
        ({}, {"eos_token_id": "</s>"}, "eos_token_id '</s>'"),
    ],
)
def test_ids_that_cannot_be_are_refused_before_anything_runs(
    tmp_path: Path, config: dict[str, Any], generation: dict[str, Any] | None, message: str
) -> None:
    folder = saved(tmp_path, **config)
    if generation:
        says(folder, **generation)
    with pytest.raises(ModelError, match=message):
        resolved(folder, words(0, 1))


def test_a_tokenizer_with_gaps_between_its_ids_is_measured_by_the_highest(tmp_path: Path) -> None:
    gaps = Tokenizer(models.WordLevel({"</s>": 1, "<pad>": 0, "w2": 2, "w": VOCABULARY + 1}, unk_token="w2"))  # noqa: S106
    tokenizer = TextTokenizer(gaps, 0, 1, "gaps")
    with pytest.raises(ModelError, match=r"has 66 pieces, the model .* has 64 embeddings"):
        resolved(saved(tmp_path, decoder_start_token_id=0), tokenizer)
    new = resolve_model(ModelSettings(init="random"), tokenizer)
    assert new.config["vocab_size"] == 128


def test_another_start_or_end_is_another_model(tmp_path: Path) -> None:
    found = set()
    for number, (config, generation) in enumerate(
        [
            ({"decoder_start_token_id": 0}, None),
            ({"decoder_start_token_id": 2}, None),
            ({"decoder_start_token_id": None}, {"decoder_start_token_id": 0}),
            ({"decoder_start_token_id": 0}, {"decoder_start_token_id": 0, "eos_token_id": [1, 0]}),
            ({"decoder_start_token_id": 0}, {"decoder_start_token_id": 0, "suppress_tokens": [9]}),
        ]
    ):
        folder = saved(tmp_path / str(number), **config)
        if generation:
            says(folder, **generation)
        found.add(resolved(folder, words(0, 1)).fingerprint)
    assert len(found) == 5
    folder = saved(tmp_path / "same", decoder_start_token_id=None, pad_token_id=None)
    by_tokenizer = {resolved(folder, words(pad, 1)).fingerprint for pad in (0, 3)}
    assert len(by_tokenizer) == 2


@pytest.mark.parametrize("rules", [{"suppress_tokens": [7, 9, 30]}, {"forced_bos_token_id": 11}, {"min_length": 9}])
def test_a_models_rules_for_its_tokens_hold(tmp_path: Path, rules: dict[str, Any]) -> None:
    tokenizer, folder = words(0, 1), saved(tmp_path, decoder_start_token_id=0)
    with torch.no_grad():
        plain = answers(build_model(resolved(folder, tokenizer), 0, None), some_sources(tokenizer), tokenizer)
    used = {int(word[1:]) for text in plain for word in text.split()}
    if "suppress_tokens" in rules:
        rules = {"suppress_tokens": sorted(used)[:3]}
    says(folder, decoder_start_token_id=0, eos_token_id=1, **rules)
    model, sources = build_model(resolved(folder, tokenizer), 0, None), some_sources(tokenizer)
    expected = answers_of_library(folder, sources, tokenizer)
    assert answers(model, sources, tokenizer) == expected
    if "min_length" not in rules:
        assert expected != plain


def test_a_models_generation_settings_are_said_to_have_no_effect(tmp_path: Path) -> None:
    wishes = {"num_beams": 4, "do_sample": True, "max_length": 7, "temperature": 0.3}
    folder = says(saved(tmp_path, decoder_start_token_id=0), decoder_start_token_id=0, eos_token_id=1, **wishes)
    found = resolved(folder, words(0, 1))
    assert found.unused == "num_beams 4, do_sample True"
    model, sources = build_model(found, 0, None), some_sources(words(0, 1))
    assert answers(model, sources, words(0, 1)) == answers_of_library(folder, sources, words(0, 1), temperature=1.0)
    assert resolved(says(folder, num_beams=1, do_sample=False), words(0, 1)).unused == ""


def some_data(ids: list[int], eos: int) -> TokenisedTasks:
    """16 examples; `ids` gives every token its number."""
    random = np.random.default_rng(1)

    def rows(num: int, longest: int) -> Ragged:
        drawn = [random.integers(6, VOCABULARY, random.integers(1, longest)).tolist() for _ in range(num)]
        return Ragged.from_rows([[*(ids[token] for token in row), eos] for row in drawn])

    return TokenisedTasks(("one",), np.array([0, 16]), rows(16, 14), rows(16, 6), np.arange(17), 0, 0)


@pytest.mark.parametrize(("pad", "eos", "start"), [(0, 1, 0), (1, 0, 1), (3, 1, 3), (0, 1, 2), (3, 2, 5)])
def test_losses_are_those_of_the_librarys_own_labels(pad: int, eos: int, start: int) -> None:
    config = {
        **SIZES,
        "dropout_rate": 0.0,
        "pad_token_id": pad,
        "eos_token_id": eos,
        "decoder_start_token_id": start,
    }
    build = partial(build_model, ResolvedModel("t5", config, "", None, "test"), 0, None)
    training = TrainingSettings(
        epochs=2,
        learning_rate=3e-3,
        batch_size=8,
        precision="fp32",
        zero_stage=0,
        weight_decay=0.0,
        gradient_clipping=1.0,
    )
    data = some_data(list(range(VOCABULARY)), eos)
    _, log = fine_tune(build, TrainingJob(data, np.arange(16), training, 1, 5, pad), single_process_world())
    np.testing.assert_allclose(log.losses, plain_losses(data, training, build, pad), atol=1e-5)


@pytest.mark.parametrize(("pad", "eos", "start"), [(1, 0, 1), (3, 1, 3), (0, 1, 2)])
def test_choices_score_the_librarys_loss(tmp_path: Path, pad: int, eos: int, start: int) -> None:
    tokenizer = words(pad, eos)
    folder = saved(tmp_path, pad_token_id=pad, eos_token_id=eos, decoder_start_token_id=start)
    model = build_model(resolved(folder, tokenizer), 0, None).eval()
    sources, choices = some_sources(tokenizer, 4), [[[9, eos], [10, 11, 12, eos], [30, eos]]] * 4
    ranked = rank_choices(model, sources, choices, pad, 100)
    library = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    for number, ranking in enumerate(ranked):
        ids = torch.tensor(sources[number][None].astype(np.int64))
        expected = [
            -library(input_ids=ids, labels=torch.tensor([choice])).loss.item() * len(choice)
            for choice in choices[number]
        ]
        np.testing.assert_allclose(ranking.scores, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("order", [(1, 0), (3, 1)])
def test_a_new_model_learns_as_well_whatever_the_padding_is_called(order: tuple[int, int]) -> None:
    """The same words under other numbers, weights numbered alike: the same losses, the same answers."""
    pad, eos = order

    def trained(pad: int, eos: int) -> tuple[np.ndarray, list[str]]:
        ids = [pad, eos, *(number for number in range(VOCABULARY) if number not in (pad, eos))]
        renamed = Tokenizer(models.WordLevel({f"w{old}": new for old, new in enumerate(ids)}, unk_token="w2"))  # noqa: S106
        tokenizer = TextTokenizer(renamed, pad, eos, "renamed")
        sizes = {key: value for key, value in SIZES.items() if key != "vocab_size"}
        settings = ModelSettings(init="random", config=sizes)
        new = resolve_model(settings, tokenizer)

        def build() -> Any:
            model = build_model(new, 0, 0.0)
            with torch.no_grad():
                model.shared.weight[ids] = model.shared.weight.clone()
            return model

        training = TrainingSettings(epochs=30, learning_rate=1e-2, batch_size=8, precision="fp32", zero_stage=0)
        data = some_data(ids, eos)
        model, log = fine_tune(build, TrainingJob(data, np.arange(16), training, 1, 5, pad), single_process_world())
        return log.losses, answers(model, data.sources, tokenizer)

    losses, texts = trained(pad, eos)
    expected_losses, expected_texts = trained(0, 1)
    np.testing.assert_allclose(losses[:10], expected_losses[:10], atol=1e-4)
    assert texts == expected_texts
    assert len(set(texts)) >= 8
