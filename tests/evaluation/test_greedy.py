"""Greedy decoding against the library's own `generate`, one source at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_t5 import EOS, KINDS, PAD, VOCABULARY, generated_alone, random_sources, small_t5

from simtune.evaluation.generation import _batches
from simtune.evaluation.greedy import DecodingJob, decode_greedily
from simtune.training.examples import Ragged
from simtune.training.families.t5 import T5, T5Layers
from simtune.training.steps import pad_rows


def decoded(model: Any, sources: Ragged, max_new_tokens: int, tokens_per_batch: int) -> dict[int, list[int]]:
    layers = T5.decoder_layers(model)
    assert layers is not None
    job = DecodingJob(sources, np.arange(len(sources)), PAD, EOS, max_new_tokens, tokens_per_batch)
    return decode_greedily(layers, job)


def expected(model: Any, sources: Ragged, max_new_tokens: int) -> dict[int, list[int]]:
    return {number: generated_alone(model, sources[number], max_new_tokens) for number in range(len(sources))}


@pytest.mark.parametrize(
    ("kind", "seed"), [("tied relu", 5), ("tied relu", 8), ("untied gated-gelu", 1), ("mt5", 6), ("mt5", 10)]
)
def test_tokens_are_those_of_generate_whatever_the_batches(kind: str, seed: int) -> None:
    model, sources = small_t5(kind, seed), random_sources(30)
    answers = expected(model, sources, 50)
    assert len(set(map(len, answers.values()))) >= 6
    assert len(set(map(tuple, answers.values()))) >= 15
    for tokens_per_batch in (1, 70, 300, 10_000):
        assert decoded(model, sources, 50, tokens_per_batch) == answers, tokens_per_batch


@pytest.mark.parametrize(
    "sizes", [{"d_model": 16, "num_heads": 1, "num_decoder_layers": 1}, {"d_kv": 16, "num_layers": 2}]
)
def test_tokens_are_those_of_generate_at_other_sizes(sizes: dict[str, int]) -> None:
    model, sources = small_t5("untied gated-gelu", 0, **sizes), random_sources(12)
    assert decoded(model, sources, 20, 100) == expected(model, sources, 20)


MODEL = small_t5("untied gated-gelu", 5)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    max_new_tokens=st.integers(1, 80),
    tokens_per_batch=st.integers(1, 120),
)
def test_any_lengths_limits_and_budgets(lengths: list[int], max_new_tokens: int, tokens_per_batch: int) -> None:
    random = np.random.default_rng(len(lengths))
    sources = Ragged.from_rows([random.integers(2, VOCABULARY, length).tolist() for length in lengths])
    assert decoded(MODEL, sources, max_new_tokens, tokens_per_batch) == expected(MODEL, sources, max_new_tokens)


def test_a_source_is_encoded_once_and_no_row_waits_for_the_longest_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sources = small_t5("mt5", 6), random_sources(30)
    encoded: list[int] = []
    rows: list[int] = []
    encode, decode = T5Layers.encode, T5Layers.decode
    monkeypatch.setattr(T5Layers, "encode", lambda self, ids, mask: encoded.append(len(ids)) or encode(self, ids, mask))
    monkeypatch.setattr(T5Layers, "decode", lambda self, ids, *rest: rows.append(len(ids)) or decode(self, ids, *rest))
    lengths = {number: len(tokens) for number, tokens in decoded(model, sources, 50, 300).items()}
    assert sum(encoded) == 30
    batches = [batch.tolist() for batch in _batches(sources.lengths, np.arange(30), 300)]
    waiting = sum(len(batch) * max(lengths[number] for number in batch) for batch in batches)
    assert sum(lengths.values()) <= sum(rows) <= 1.35 * sum(lengths.values()) < 0.8 * waiting


def test_a_trained_model_answers_as_it_does_in_generate() -> None:
    model, sources = small_t5(seed=3, dropout_rate=0.0, initializer_factor=1.0), random_sources(24)
    model.train()
    # The answer is the source's first tokens, so that lengths differ and are learnt.
    answers = [[*sources[number][: number % 6].tolist(), EOS] for number in range(24)]
    labels = torch.tensor([answer + [-100] * (7 - len(answer)) for answer in answers])
    ids, mask = map(torch.from_numpy, pad_rows(sources, np.arange(24), PAD))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(150):
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    answered = decoded(model, sources, 16, 60)
    assert answered == expected(model, sources, 16)
    assert sum(answered[number] == answers[number] for number in range(24)) >= 20


def test_of_equally_likely_tokens_the_first_is_taken() -> None:
    model, sources = small_t5("untied gated-gelu", 5), random_sources(10)
    with torch.no_grad():
        model.lm_head.weight[30:60] = model.lm_head.weight[0:30]
    answers = decoded(model, sources, 12, 100)
    assert answers == expected(model, sources, 12)
    assert all(token < 30 for answer in answers.values() for token in answer)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.bfloat16, 0.2)])
def test_logits_are_those_of_the_library(kind: str, dtype: torch.dtype, atol: float) -> None:
    """Encoder, and decoder token by token with cached keys and values, against one plain forward pass."""
    model, sources = small_t5(kind, 1, initializer_factor=1.0).to(dtype), random_sources(5)
    ids_BS, mask_BS = map(torch.from_numpy, pad_rows(sources, np.arange(5), PAD))
    target_BL = torch.randint(2, VOCABULARY, (5, 20), generator=torch.Generator().manual_seed(0))
    layers = T5.decoder_layers(model)
    assert layers is not None
    with torch.inference_mode():
        expected_BLV = model(input_ids=ids_BS, attention_mask=mask_BS, decoder_input_ids=target_BL).logits
        encoded = layers.encode(ids_BS, mask_BS)
        states = [layers.source_states(layer, encoded) for layer in range(2)]
        kept: list[Any] = [None, None]

        def keep(layer: int, keys: Any, values: Any) -> tuple[Any, Any]:
            if kept[layer] is not None:
                keys, values = (torch.cat(pair, dim=2) for pair in zip(kept[layer], (keys, values), strict=True))
            kept[layer] = (keys, values)
            return keys, values

        for place in range(20):
            bias = layers.target_bias(1, place + 1)
            hidden = layers.decode(target_BL[:, place : place + 1], bias, states, layers.source_mask(mask_BS), keep)
            torch.testing.assert_close(layers.logits(hidden[:, 0]), expected_BLV[:, place], atol=atol, rtol=0)


def test_bf16_answers_every_source_and_repeats_itself() -> None:
    model, sources = small_t5(seed=5).to(torch.bfloat16), random_sources(30)
    answers = decoded(model, sources, 20, 200)
    assert sorted(answers) == list(range(30))
    assert answers == decoded(model, sources, 20, 200)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_answers_as_the_cpu_does() -> None:
    model, sources = small_t5("untied gated-gelu", 1), random_sources(30)
    on_cpu = decoded(model, sources, 50, 300)
    assert decoded(model.to("cuda"), sources, 50, 300) == on_cpu
