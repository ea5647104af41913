"""A new T5 whose answers have the lengths of real ones, made in a second: training one takes many minutes.

A new model never ends, and one trained briefly ends at once; neither costs what a real one does. Here the output
layer is wired: every piece of the vocabulary has that many pieces to come, drawn from the lengths of real references,
and the likeliest next piece is one that has one less. The source decides the first piece, through layers left random.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"d_model": 256, "d_kv": 64, "d_ff": 1024, "num_layers": 4, "num_heads": 4}
# So strong that what layers add never hides which piece was read; and attention so sharp that sources differ.
_EMBEDDING_STRENGTH, _SOURCE_STRENGTH, _SHARPNESS = 12.0, 2.0, 64.0


def wired_t5(reference_lengths: np.ndarray, vocabulary: int) -> Any:
    """A T5 of 15 M parameters in evaluation mode (24 M with its own output layer); deterministic.

    Args:
        reference_lengths: tokens of real references, the end of the sequence included.
    """
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    random = np.random.default_rng(0)
    config = T5Config(vocab_size=vocabulary, decoder_start_token_id=0, dropout_rate=0.0, **SIZES)
    model = T5ForConditionalGeneration(config).eval()
    tokens_of = _pieces_by_length(reference_lengths, vocabulary, random)
    with torch.no_grad():
        embedding = model.shared.weight.mul_(_EMBEDDING_STRENGTH)
        # What decoding starts with says nothing, so the source alone decides what comes first.
        embedding[0] = 0
        size = _EMBEDDING_STRENGTH * embedding.shape[1] ** 0.5
        ending = torch.nn.functional.normalize(torch.randn(embedding.shape[1]), dim=0)
        embedding -= torch.outer(embedding @ ending, ending)
        head = torch.randn_like(embedding) * _EMBEDDING_STRENGTH
        for length in range(3, len(tokens_of)):
            pieces, followers = tokens_of[length], tokens_of[length - 1]
            head[torch.from_numpy(random.permutation(followers)[: len(pieces)])] = embedding[torch.from_numpy(pieces)]
        head -= torch.outer(head @ ending, ending)
        embedding[torch.from_numpy(tokens_of[2])] += ending * size
        head[0], head[1] = 0, ending * size
        model.lm_head.weight = torch.nn.Parameter(head)
        for block in model.decoder.block:
            block.layer[1].EncDecAttention.o.weight *= _SOURCE_STRENGTH
            block.layer[1].EncDecAttention.q.weight *= _SHARPNESS
    return model


def _pieces_by_length(lengths: np.ndarray, vocabulary: int, random: np.random.Generator) -> list[np.ndarray]:
    """Pieces of the vocabulary by the tokens of an answer that starts with them, 0, 1, 2, ...

    Shares fall with length, so that each piece can have a follower of its own.
    """
    from sklearn.isotonic import IsotonicRegression

    longest = int(lengths.max())
    shares = np.bincount(np.maximum(lengths, 2), minlength=longest + 1)[2:]
    falling = IsotonicRegression(increasing=False).fit_transform(np.arange(len(shares)), shares)
    counts = np.floor(falling / falling.sum() * (vocabulary - 2)).astype(int)
    counts[0] += vocabulary - 2 - counts.sum()
    pieces = 2 + random.permutation(vocabulary - 2)
    return [np.zeros(0, dtype=np.int64)] * 2 + np.split(pieces, np.cumsum(counts)[:-1])
