"""Rank classification against one plain model call per choice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_t5 import EOS, KINDS, PAD, VOCABULARY, random_sources, small_t5
from transformers import UMT5Config, UMT5ForConditionalGeneration

from simtune.errors import UserError
from simtune.evaluation import rank_classification
from simtune.evaluation.rank_classification import Choices, rank_choices
from simtune.training.examples import Ragged
from simtune.training.families.t5 import T5Layers


def random_choices(num_prompts: int, seed: int = 0) -> list[Choices]:
    """Two to six choices of one to seven tokens per prompt."""
    random = np.random.default_rng(seed)
    return [
        [
            [2 + number, *random.integers(2, VOCABULARY, random.integers(0, 6)).tolist(), EOS]
            for number in range(random.integers(2, 7))
        ]
        for _ in range(num_prompts)
    ]


def scores_one_by_one(model: Any, source: np.ndarray, choices: Choices) -> list[float]:
    """The library's mean loss of a choice, times its tokens."""
    ids = torch.tensor(source[None].astype(np.int64))
    with torch.inference_mode():
        return [-model(input_ids=ids, labels=torch.tensor([choice])).loss.item() * len(choice) for choice in choices]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens_per_batch", [1, 90, 100_000])
def test_scores_and_winners_are_those_of_one_call_a_choice(kind: str, tokens_per_batch: int) -> None:
    model = small_t5(kind, 1, initializer_factor=1.0)
    sources, choices = random_sources(14), random_choices(14)
    ranked = rank_choices(model, sources, choices, PAD, tokens_per_batch)
    for prompt in range(14):
        expected = scores_one_by_one(model, sources[prompt], choices[prompt])
        np.testing.assert_allclose(ranked[prompt].scores, expected, atol=1e-5 * len(expected), rtol=1e-5)
        assert ranked[prompt].winner == int(np.argmax(expected))
    assert len({result.winner for result in ranked}) >= 3


def test_a_prompt_is_encoded_once_however_many_choices_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    real = T5Layers.encode
    monkeypatch.setattr(T5Layers, "encode", lambda self, ids, mask: encoded.append(len(ids)) or real(self, ids, mask))
    rank_choices(small_t5(seed=1), random_sources(14), random_choices(14), PAD, 90)
    assert sum(encoded) == 14


def test_normalised_scores_are_means_over_tokens_and_may_have_another_winner() -> None:
    model, sources, choices = small_t5(seed=1), random_sources(14), random_choices(14)
    sums = rank_choices(model, sources, choices, PAD, 500)
    means = rank_choices(model, sources, choices, PAD, 500, normalised=True)
    for prompt in range(14):
        lengths = [len(choice) for choice in choices[prompt]]
        np.testing.assert_allclose(means[prompt].scores, sums[prompt].scores / lengths)
    assert [result.winner for result in sums] != [result.winner for result in means]


def test_small_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sources, choices = small_t5(seed=1), random_sources(6), random_choices(6)
    before = rank_choices(model, sources, choices, PAD, 500)
    monkeypatch.setattr(rank_classification, "_POSITIONS_AT_ONCE", 3)
    for result, earlier in zip(rank_choices(model, sources, choices, PAD, 500), before, strict=True):
        np.testing.assert_allclose(result.scores, earlier.scores, rtol=1e-5)


def test_of_equally_likely_choices_the_first_wins() -> None:
    model = small_t5(seed=1)
    with torch.no_grad():
        model.shared.weight[8] = model.shared.weight[7]
    sources = Ragged.from_rows([[3, 4, EOS]])
    for choices in ([[7, EOS], [8, EOS]], [[8, EOS], [7, EOS]]):
        (result,) = rank_choices(model, sources, [choices], PAD, 100)
        assert result.scores[0] == result.scores[1]
        assert result.winner == 0


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ([[[5, EOS], [6, EOS]]], "2 prompts, but answer choices for 1"),
        ([[[5, EOS], [6, EOS]], []], "prompt 1 has 0 answer choices"),
        ([[[5, EOS]], [[5, EOS], [6, EOS]]], "prompt 0 has 1 answer choice;"),
        ([[[5, EOS], []], [[5, EOS], [6, EOS]]], "choice 1 of prompt 0 has no tokens"),
        ([[[5, EOS], [6, EOS]], [[5, EOS], [6, EOS], [5, EOS]]], "choices 0 and 2 of prompt 1 are the same tokens"),
    ],
)
def test_choices_that_cannot_be_ranked_are_refused(choices: list[Choices], message: str) -> None:
    with pytest.raises(UserError, match=message):
        rank_choices(small_t5(), Ragged.from_rows([[3, EOS], [4, EOS]]), choices, PAD, 100)


def test_a_model_of_another_family_is_refused() -> None:
    config = UMT5Config(vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    with pytest.raises(UserError, match="not supported for UMT5ForConditionalGeneration in float32"):
        rank_choices(
            UMT5ForConditionalGeneration(config), Ragged.from_rows([[3, EOS]]), [[[5, EOS], [6, EOS]]], PAD, 100
        )
