"""A T5's layers called one by one, for inference: the same numbers as the library's forward pass, with less around.

The library adds mask and position bias anew in every layer and keeps a step's keys and values in lists that grow;
here both happen once. Linear layers, norms and feed-forward blocks are the model's own modules, so weights, precision
and activation stay theirs; only attention is written out (Raffel et al. 2020, appendix: no scaling of the scores, one
relative position bias for all layers of a stack).

Legend: B sequences, S source tokens, Q decoder tokens going in, K decoder tokens seen, M model width, H heads,
D width of a head, V vocabulary, N rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simtune.training.special_ids import SpecialIds

Keep = Callable[[int, Any, Any], tuple[Any, Any]]
"""Takes a layer's number and its new keys and values [B, H, Q, D], returns all that are to be seen [B, H, K, D]."""

# On a CPU the encoder is fastest while a batch's activations stay in the cache; a GPU wants all it can get.
_CPU_TOKENS = 2048

_KNOWN_MODELS = ("T5ForConditionalGeneration", "MT5ForConditionalGeneration")


class T5Layers:
    """The layers of a model in evaluation mode. Deterministic; call it without gradients.

    Attributes:
        ids: what its decoder starts with, and what ends its answers.
    """

    def __init__(self, model: Any) -> None:
        self._encoder, self._decoder, self._head = model.encoder, model.decoder, model.lm_head
        scaled = getattr(model.config, "scale_decoder_outputs", False)
        self._head_scale = model.config.d_model**-0.5 if scaled else None
        self.ids = SpecialIds.from_model(model)
        self.num_decoder_layers = len(model.decoder.block)
        self.width = model.config.d_model
        self.dtype, self.device = model.lm_head.weight.dtype, model.lm_head.weight.device

    @classmethod
    def of(cls, model: Any) -> T5Layers | None:
        """The layers of a model, or None where its class or precision is none that this module knows.

        UMT5 has a position bias in every layer; in fp16 the library clips activations between layers.
        """
        import torch
        import transformers

        if type(model) not in [getattr(transformers, name) for name in _KNOWN_MODELS]:
            return None
        if any(weights.dtype not in {torch.float32, torch.bfloat16} for weights in model.parameters()):
            return None
        return cls(model)

    def most_tokens(self, tokens_per_batch: int) -> int:
        """Source tokens, padding counted, that are best encoded at once."""
        return min(_CPU_TOKENS, tokens_per_batch) if self.device.type == "cpu" else tokens_per_batch

    def encode(self, ids_BS: Any, mask_BS: Any) -> Any:
        """Encoder output [B, S, M] of sources with a mask of ones and zeros."""
        bias = self._position_bias(self._encoder, ids_BS.shape[1], ids_BS.shape[1])
        if not mask_BS.all():
            bias = self._masked(bias, mask_BS)
        hidden = self._encoder.embed_tokens(ids_BS)
        for block in self._encoder.block:
            attention = block.layer[0].SelfAttention
            normed = block.layer[0].layer_norm(hidden)
            queries, keys, values = (
                _heads(project(normed), attention) for project in (attention.q, attention.k, attention.v)
            )
            hidden = hidden + attention.o(_attend(queries, keys, values, bias))
            hidden = block.layer[-1](hidden)
        return self._encoder.final_layer_norm(hidden)

    def source_states(self, layer: int, encoded_BSM: Any) -> tuple[Any, Any]:
        """The keys and values [B, H, S, D] that a decoder layer reads of the encoder's output."""
        attention = self._decoder.block[layer].layer[1].EncDecAttention
        return _heads(attention.k(encoded_BSM), attention), _heads(attention.v(encoded_BSM), attention)

    def source_mask(self, mask_BS: Any) -> Any:
        """What is added to the scores of source tokens [B, 1, 1, S]: 0, or the lowest number where there is none."""
        import torch

        return self._masked(torch.zeros((), dtype=self.dtype, device=mask_BS.device), mask_BS)

    def target_bias(self, num_queries: int, num_keys: int) -> Any:
        """What is added to the scores of the last Q of K decoder tokens [1, H, Q, K]; later tokens are not masked."""
        return self._position_bias(self._decoder, num_queries, num_keys)

    def decode(
        self,
        ids_NQ: Any,
        target_bias_NHQK: Any,
        source_states: list[tuple[Any, Any]],
        source_mask_B11S: Any,
        keep: Keep = lambda layer, keys, values: (keys, values),
    ) -> Any:
        """Decoder output [N, Q, M].

        Args:
            source_states: for each layer keys and values of B sources; with N = n x B, rows i x n to (i + 1) x n read
                source i, so that several targets share one source without copies.
            keep: where keys and values of earlier tokens come from.
        """
        num_rows, num_queries = ids_NQ.shape
        hidden = self._decoder.embed_tokens(ids_NQ)
        for number, block in enumerate(self._decoder.block):
            own, cross, feed_forward = block.layer
            attention = own.SelfAttention
            normed = own.layer_norm(hidden)
            queries, keys, values = (
                _heads(project(normed), attention) for project in (attention.q, attention.k, attention.v)
            )
            keys, values = keep(number, keys, values)
            hidden = hidden + attention.o(_attend(queries, keys, values, target_bias_NHQK))

            attention = cross.EncDecAttention
            keys, values = source_states[number]
            queries = attention.q(cross.layer_norm(hidden)).view(len(keys), -1, attention.inner_dim)
            read = _attend(_heads(queries, attention), keys, values, source_mask_B11S)
            hidden = hidden + attention.o(read).view(num_rows, num_queries, -1)
            hidden = feed_forward(hidden)
        return self._decoder.final_layer_norm(hidden)

    def logits(self, hidden_NM: Any) -> Any:
        """Scores of the vocabulary [N, V]."""
        return self._head(hidden_NM if self._head_scale is None else hidden_NM * self._head_scale)

    def _position_bias(self, stack: Any, num_queries: int, num_keys: int) -> Any:
        """The bias of the last Q of K places [1, H, Q, K]. It depends on the distance alone: one lookup a distance."""
        import torch

        attention = stack.block[0].layer[0].SelfAttention
        embedding = attention.relative_attention_bias
        distances = torch.arange(1 - num_keys, num_queries, device=embedding.weight.device)
        buckets = attention._relative_position_bucket(
            distances,
            bidirectional=not attention.is_decoder,
            num_buckets=attention.relative_attention_num_buckets,
            max_distance=attention.relative_attention_max_distance,
        )
        by_distance = embedding(buckets).T.contiguous()
        return by_distance.unfold(1, num_keys, 1).flip(1).unsqueeze(0)

    def _masked(self, bias: Any, mask_BS: Any) -> Any:
        import torch

        return torch.where(mask_BS[:, None, None, :].bool(), bias, torch.finfo(bias.dtype).min)


def _heads(projected_BQM: Any, attention: Any) -> Any:
    return projected_BQM.unflatten(-1, (attention.n_heads, attention.key_value_proj_dim)).transpose(1, 2)


def _attend(queries: Any, keys: Any, values: Any, bias: Any) -> Any:
    from torch.nn.functional import scaled_dot_product_attention

    mixed = scaled_dot_product_attention(queries, keys, values, attn_mask=bias, scale=1.0)
    return mixed.transpose(1, 2).flatten(2)
