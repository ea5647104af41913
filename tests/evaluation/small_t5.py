"""Small models with answers of many lengths, for tests of decoding."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import MT5Config, MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration

from simtune.prompting.tokenizer import TextTokenizer
from simtune.training.examples import Ragged

PAD, EOS, VOCABULARY = 0, 1, 60

# A text shows its tokens.
WORDS = TextTokenizer(
    Tokenizer(models.WordLevel({f"w{number}": number for number in range(VOCABULARY)}, unk_token="w2")),  # noqa: S106 a word
    PAD,
    EOS,
    "test",
)

KINDS = ("tied relu", "untied gated-gelu", "mt5")


def small_t5(kind: str = "tied relu", seed: int = 0, **changes: Any) -> Any:
    """A random model in evaluation mode.

    Its decoder listens to the source more than a new model does, so that answers differ, and ends after a number of
    tokens that differs from source to source.
    """
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": VOCABULARY,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 3,
        "num_decoder_layers": 2,
        "num_heads": 3,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 12,
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "decoder_start_token_id": PAD,
        "initializer_factor": 2.0,
        **changes,
    }
    if kind == "mt5":
        model = MT5ForConditionalGeneration(MT5Config(**sizes))
    elif kind == "untied gated-gelu":
        # The library ties the embeddings of new models whatever the config says; published ones are untied.
        model = T5ForConditionalGeneration(T5Config(**sizes, feed_forward_proj="gated-gelu", tie_word_embeddings=False))
        model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, sizes["d_model"]))
    else:
        model = T5ForConditionalGeneration(T5Config(**sizes))
    with torch.no_grad():
        for block in model.decoder.block:
            for layer in block.layer[:2]:
                attention = layer.SelfAttention if hasattr(layer, "SelfAttention") else layer.EncDecAttention
                attention.o.weight *= 4
        model.lm_head.weight[EOS] *= 1.7
    return model.eval()


def random_sources(num_sources: int, longest: int = 40, seed: int = 0) -> Ragged:
    """Token ids of different lengths, each ending with the end of the sequence."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, longest, num_sources)
    return Ragged.from_rows([[*random.integers(2, VOCABULARY, length - 1).tolist(), EOS] for length in lengths])


def generated_alone(model: Any, source: np.ndarray, max_new_tokens: int) -> list[int]:
    """What the library generates greedily for one source without padding, up to the end of the sequence."""
    ids = torch.tensor(source[None].astype(np.int64))
    output = model.generate(input_ids=ids, do_sample=False, num_beams=1, max_new_tokens=max_new_tokens)
    return output[0, 1:].tolist()
