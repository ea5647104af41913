"""Answers as texts, of models that simtune decodes and of those that the library does."""

from __future__ import annotations

import numpy as np
import torch
from small_t5 import EOS, PAD, VOCABULARY, WORDS, generated_alone, random_sources, small_t5
from transformers import T5ForConditionalGeneration, UMT5Config, UMT5ForConditionalGeneration

from simtune.evaluation.generation import generate
from simtune.training.families.t5 import T5


def test_a_model_of_another_family_is_decoded_by_the_library() -> None:
    class OtherT5(T5ForConditionalGeneration):
        """Its forward pass may be anything."""

    torch.manual_seed(0)
    config = UMT5Config(
        vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=PAD
    )
    umt5, sources = UMT5ForConditionalGeneration(config).eval(), random_sources(9)
    assert T5.decoder_layers(umt5) is None
    assert T5.decoder_layers(OtherT5(small_t5().config)) is None
    assert T5.decoder_layers(small_t5().half()) is None
    predictions = generate(umt5, sources, np.arange(9), WORDS, 6, 100)
    assert {number: prediction.text for number, prediction in predictions.items()} == {
        number: " ".join(f"w{token}" for token in generated_alone(umt5, sources[number], 6) if token not in (PAD, EOS))
        for number in range(9)
    }


def test_predictions_are_texts_of_the_asked_sources_without_end_and_padding() -> None:
    model, sources = small_t5("mt5", 6), random_sources(30)
    numbers = np.array([17, 3, 29])
    predictions = generate(model, sources, numbers, WORDS, 20, 1000)
    assert list(predictions) == [17, 3, 29]
    for number, prediction in predictions.items():
        tokens = [token for token in generated_alone(model, sources[number], 20) if token not in (PAD, EOS)]
        assert (prediction.text, prediction.num_tokens) == (WORDS.decode(tokens), len(tokens))
