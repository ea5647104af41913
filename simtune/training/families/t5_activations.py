"""What a T5 keeps of a forward pass for the backward pass: bytes by its sizes and those of a batch.

Counted as the library's layers keep it on a GPU with plain attention; fused attention keeps less. After Korthikanti et
al. 2022 (Reducing Activation Recomputation in Large Transformer Models).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simtune.training.model_memory import BatchShape


def t5_activation_bytes(
    sizes: Mapping[str, Any], vocabulary: int, batch: BatchShape, each: int, recomputes: bool
) -> int:
    """Bytes that a forward pass keeps.

    Args:
        sizes: keys of config.json, all that are needed.
        vocabulary: rows of the output layer.
        batch: its shape.
        each: bytes of a number in training.
        recomputes: whether each layer keeps its input alone and is computed again (`gradient_checkpointing`).
    """
    layer = _Layer(sizes, each)
    sources, targets = batch.sequences * batch.source_tokens, batch.sequences * batch.target_tokens
    encoder = layer.attention(sources, sources, batch.source_tokens) + layer.feed_forward(sources)
    decoder = (
        layer.attention(targets, targets, batch.target_tokens)
        + layer.attention(targets, sources, batch.source_tokens)
        + layer.feed_forward(targets)
    )
    layers = sizes["num_layers"]
    decoder_layers = sizes.get("num_decoder_layers") or layers
    if recomputes:
        inputs = (layers * sources + decoder_layers * targets) * each * sizes["d_model"]
        kept = inputs + max(encoder, decoder)
    else:
        kept = layers * encoder + decoder_layers * decoder
    ends = layer.ends(sources) + layer.ends(targets)
    # Logits, the same in fp32, their softmax and its gradient.
    return int(kept + ends + targets * vocabulary * (each + 12))


class _Layer:
    """Bytes that the parts of a layer keep."""

    def __init__(self, sizes: Mapping[str, Any], each: int) -> None:
        self._each = each
        self._width, self._heads, self._inner = int(sizes["d_model"]), int(sizes["num_heads"]), int(sizes["d_ff"])
        self._attended = int(sizes["d_kv"]) * self._heads
        self._gated = str(sizes.get("feed_forward_proj", "relu")).startswith("gated")

    def attention(self, queries: int, keys: int, keys_each: int) -> int:
        """With the normalisation before it and the dropout after it; tokens of all sequences, and keys of one."""
        states = 2 * (queries + keys) * self._attended * self._each
        # The softmax of the scores, which of them dropout leaves, and what it leaves.
        scores = queries * keys_each * self._heads * (2 * self._each + 1)
        return queries * self._around() + states + scores

    def feed_forward(self, tokens: int) -> int:
        """With the normalisation before it and the dropout after it."""
        # What the activation has computed, which numbers dropout leaves, and what it leaves.
        inner = (7 if self._gated else 2) * self._each + 1
        return tokens * (self._around() + inner * self._inner)

    def ends(self, tokens: int) -> int:
        """With the dropout of the embeddings and the normalisation after the last layer."""
        return tokens * (self._around() + self._width)

    def _around(self) -> int:
        """The input of a normalisation (in fp32, too), its result before and after the scale, and a dropout."""
        return self._width * (3 * self._each + (4 if self._each == 2 else 0) + 1)
