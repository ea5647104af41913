"""T5, mT5 and UMT5: sizes, configuration, parameter count, precision rules, and their layers for fast decoding.

Raffel et al. 2020. Legend: B sequences, S source tokens, Q decoder tokens going in, K decoder tokens seen, M model
width, H heads, D width of a head, V vocabulary, N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, cast

from pydantic import Field

from simtune.config.fields import Count, Flag, Section
from simtune.training.families.family import KeepStates, ModelFamily, States, padded_vocabulary
from simtune.training.families.t5_activations import t5_activation_bytes
from simtune.training.seq2seq_model import ArchitectureConfig, Seq2SeqModel
from simtune.training.special_ids import SpecialIds

if TYPE_CHECKING:
    from torch import Tensor, nn

    from simtune.training.model_memory import BatchShape

# Sizes as published in the models' own configurations; what is not given here is the library's default.
_ORIGINAL = {
    "t5-small": {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
    "t5-base": {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
    "t5-large": {"d_model": 1024, "d_kv": 64, "d_ff": 4096, "num_layers": 24, "num_heads": 16},
    "t5-3b": {"d_model": 1024, "d_kv": 128, "d_ff": 16384, "num_layers": 24, "num_heads": 32},
    "t5-11b": {"d_model": 1024, "d_kv": 128, "d_ff": 65536, "num_layers": 24, "num_heads": 128},
}
_LM_ADAPTED = {
    "t5-small-lm-adapt": {"d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8, "num_heads": 6},
    "t5-base-lm-adapt": {"d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12, "num_heads": 12},
    "t5-large-lm-adapt": {"d_model": 1024, "d_kv": 64, "d_ff": 2816, "num_layers": 24, "num_heads": 16},
    "t5-xl-lm-adapt": {"d_model": 2048, "d_kv": 64, "d_ff": 5120, "num_layers": 24, "num_heads": 32},
    "t5-xxl-lm-adapt": {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64},
}
_KNOWN_SIZES: dict[str, dict[str, Any]] = {f"google-t5/{name}": sizes for name, sizes in _ORIGINAL.items()} | {
    f"google/{name}": sizes | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    for name, sizes in _LM_ADAPTED.items()
}
# The library's defaults for sizes that a configuration does not give.
_DEFAULT_SIZES = {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8}
_PUBLISHED_VOCABULARY = 32_128

# On a CPU the encoder is fastest while a batch's activations fit the cache; a GPU is fastest with large batches.
_CPU_TOKENS = 2048
# UMT5 has a position bias in every layer, and a subclass may have any forward pass.
_CLASSES_WITH_LAYERS = ("T5ForConditionalGeneration", "MT5ForConditionalGeneration")
_TYPES_WITH_LAYERS = ("t5", "mt5")


class T5Settings(Section):
    """Sizes for `init: random`; null keeps the named model's value."""

    d_model: Count | None = None
    d_kv: Count | None = None
    d_ff: Count | None = None
    num_layers: Count | None = None
    num_decoder_layers: Count | None = None
    num_heads: Count | None = None
    relative_attention_num_buckets: Count | None = None
    relative_attention_max_distance: Count | None = None
    feed_forward_proj: Literal["relu", "gated-gelu"] | None = None
    initializer_factor: Annotated[float, Field(strict=True, gt=0)] | None = None
    tie_word_embeddings: Flag | None = None
    """False, as in T5 1.1, does not scale the decoder's output; the weights of a new model are tied all the same."""


class _T5Family(ModelFamily):
    name = "T5"
    model_types = ("t5", "mt5", "umt5")
    known_sizes = _KNOWN_SIZES
    Settings = T5Settings
    dropout_key = "dropout_rate"
    tokenizers_split_at_spaces = ("T5",)

    def new_config(self, sizes: Mapping[str, Any], vocab_size: int, pad_id: int, eos_id: int) -> dict[str, Any]:
        from transformers import T5Config

        config = dict(sizes)
        if "num_decoder_layers" not in config:
            config["num_decoder_layers"] = config["num_layers"]
        # T5's decoder starts with padding.
        config |= {
            "vocab_size": vocab_size,
            "pad_token_id": pad_id,
            "eos_token_id": eos_id,
            "decoder_start_token_id": pad_id,
        }
        T5Config(**config)
        return config

    def build(self, config: Mapping[str, Any]) -> Seq2SeqModel:
        from transformers import T5Config, T5ForConditionalGeneration

        model: Seq2SeqModel = T5ForConditionalGeneration(T5Config(**config))
        return model

    def num_parameters(self, sizes: Mapping[str, Any], num_pieces: int | None, pretrained: bool) -> int:
        sizes = {**_DEFAULT_SIZES, **sizes}
        # Published T5 1.1 weights have another matrix for the output. The library ties the two in every new model,
        # whatever `tie_word_embeddings` says.
        num_embeddings = 2 if pretrained and not sizes.get("tie_word_embeddings", True) else 1
        width, inner, layers = sizes["d_model"], sizes["d_kv"] * sizes["num_heads"], sizes["num_layers"]
        decoder_layers = sizes.get("num_decoder_layers") or layers
        gated = str(sizes.get("feed_forward_proj", "relu")).startswith("gated")
        feed_forward = (3 if gated else 2) * width * sizes["d_ff"]
        encoder = layers * (4 * width * inner + feed_forward + 2 * width)
        decoder = decoder_layers * (8 * width * inner + feed_forward + 3 * width)
        position_bias = 2 * sizes.get("relative_attention_num_buckets", 32) * sizes["num_heads"]
        embeddings = num_embeddings * padded_vocabulary(num_pieces or _PUBLISHED_VOCABULARY) * width
        return int(embeddings + encoder + decoder + position_bias + 2 * width)

    def activation_bytes(
        self, sizes: Mapping[str, Any], num_pieces: int | None, batch: BatchShape, each: int, recomputes: bool
    ) -> int:
        vocabulary = padded_vocabulary(num_pieces or _PUBLISHED_VOCABULARY)
        return t5_activation_bytes({**_DEFAULT_SIZES, **sizes}, vocabulary, batch, each, recomputes)

    def decoder_layers(self, model: Seq2SeqModel) -> T5Layers | None:
        import torch
        import transformers

        if type(model) not in [getattr(transformers, name) for name in _CLASSES_WITH_LAYERS]:
            return None
        # In fp16 the library clips activations between layers.
        if any(weights.dtype not in {torch.float32, torch.bfloat16} for weights in model.parameters()):
            return None
        return T5Layers(cast(_T5Model, model))

    def ranking_error(self, model_type: str, precision: str) -> str:
        if model_type not in _TYPES_WITH_LAYERS:
            return f"not supported for {model_type}, only for {' and '.join(_TYPES_WITH_LAYERS)}; use one of these"
        return "not supported in fp16; use bf16 or fp32" if precision == "fp16" else ""

    def install_cpu_kernels(self, model: Seq2SeqModel) -> Callable[[], None]:
        from simtune.training.families.t5_attention import CpuKernels

        return CpuKernels(model).remove

    def precision_error(self, precision: str, pretrained: bool) -> str:
        # In feed-forward layers they exceed 65,504. The library clips what becomes infinite, which hides the overflow
        # and changes what is learned.
        if precision == "fp16" and pretrained:
            return (
                "fp16 overflows in published T5 weights, which were trained in bf16; use bf16, or fp32 on a GPU "
                "without it"
            )
        return ""

    def precision_warning(self, precision: str) -> str:
        return "T5 overflows easily in fp16; bf16 is safer if the GPU supports it" if precision == "fp16" else ""


T5 = _T5Family()


class _Attention(Protocol):
    """The library's attention of a T5, its own or that to the encoder's output; only the first has a position bias."""

    q: nn.Linear
    k: nn.Linear
    v: nn.Linear
    o: nn.Linear
    n_heads: int
    key_value_proj_dim: int
    inner_dim: int
    is_decoder: bool
    relative_attention_bias: nn.Embedding
    relative_attention_num_buckets: int
    relative_attention_max_distance: int

    def _relative_position_bucket(
        self, distances: Tensor, *, bidirectional: bool, num_buckets: int, max_distance: int
    ) -> Tensor: ...


class _Sublayer(Protocol):
    """A part of a block: attention, attention to the encoder's output, or the feed-forward network, which is called."""

    SelfAttention: _Attention
    EncDecAttention: _Attention
    layer_norm: nn.Module

    def __call__(self, hidden: Tensor) -> Tensor: ...


class _Block(Protocol):
    layer: Sequence[_Sublayer]


class _Stack(Protocol):
    """The encoder or the decoder."""

    embed_tokens: nn.Embedding
    block: Sequence[_Block]
    final_layer_norm: nn.Module


class _T5Config(ArchitectureConfig, Protocol):
    d_model: int


class _T5Model(Seq2SeqModel, Protocol):
    """A T5 or mT5 of the library."""

    config: _T5Config
    encoder: _Stack
    decoder: _Stack
    lm_head: nn.Linear


class T5Layers:
    """The layers of a T5 or mT5, with the numbers of the library's forward pass and less work around them.

    The library adds mask and position bias again in every layer and keeps a step's keys and values in lists that grow;
    here both happen once. Linear layers, norms and feed-forward blocks are the model's own modules, so weights,
    precision and activation stay theirs; only attention is written out (no scaling of the scores, one relative
    position bias for all layers of a stack).
    """

    def __init__(self, model: _T5Model) -> None:
        self._encoder, self._decoder, self._head = model.encoder, model.decoder, model.lm_head
        scaled = getattr(model.config, "scale_decoder_outputs", False)
        self._head_scale = model.config.d_model**-0.5 if scaled else None
        self.ids = SpecialIds.from_model(model)
        self.num_decoder_layers = len(model.decoder.block)
        self.width = model.config.d_model
        self.dtype, self.device = model.lm_head.weight.dtype, model.lm_head.weight.device

    def most_tokens(self, tokens_per_batch: int) -> int:
        """See `DecoderLayers`."""
        return min(_CPU_TOKENS, tokens_per_batch) if self.device.type == "cpu" else tokens_per_batch

    def encode(self, ids_BS: Tensor, mask_BS: Tensor) -> Tensor:
        """See `DecoderLayers`."""
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
        output: Tensor = self._encoder.final_layer_norm(hidden)
        return output

    def source_states(self, layer: int, encoded_BSM: Tensor) -> States:
        """See `DecoderLayers`."""
        attention = self._decoder.block[layer].layer[1].EncDecAttention
        return _heads(attention.k(encoded_BSM), attention), _heads(attention.v(encoded_BSM), attention)

    def source_mask(self, mask_BS: Tensor) -> Tensor:
        """See `DecoderLayers`."""
        import torch

        return self._masked(torch.zeros((), dtype=self.dtype, device=mask_BS.device), mask_BS)

    def target_bias(self, num_queries: int, num_keys: int) -> Tensor:
        """See `DecoderLayers`."""
        return self._position_bias(self._decoder, num_queries, num_keys)

    def decode(
        self,
        ids_NQ: Tensor,
        target_bias_NHQK: Tensor,
        source_states: Sequence[States],
        source_mask_B11S: Tensor,
        keep: KeepStates = lambda layer, keys, values: (keys, values),
    ) -> Tensor:
        """See `DecoderLayers`."""
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
        output: Tensor = self._decoder.final_layer_norm(hidden)
        return output

    def logits(self, hidden_NM: Tensor) -> Tensor:
        """See `DecoderLayers`."""
        scores: Tensor = self._head(hidden_NM if self._head_scale is None else hidden_NM * self._head_scale)
        return scores

    def _position_bias(self, stack: _Stack, num_queries: int, num_keys: int) -> Tensor:
        """The bias of the last Q of K positions [1, H, Q, K]; it depends on the distance alone: one lookup for each."""
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
        bias: Tensor = by_distance.unfold(1, num_keys, 1).flip(1).unsqueeze(0)
        return bias

    def _masked(self, bias: Tensor, mask_BS: Tensor) -> Tensor:
        import torch

        return torch.where(mask_BS[:, None, None, :].bool(), bias, torch.finfo(bias.dtype).min)


def _heads(projected_BQM: Tensor, attention: _Attention) -> Tensor:
    heads_BQHD: Tensor = projected_BQM.unflatten(-1, (attention.n_heads, attention.key_value_proj_dim))
    return heads_BQHD.transpose(1, 2)


def _attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    from torch.nn.functional import scaled_dot_product_attention

    mixed = scaled_dot_product_attention(queries, keys, values, attn_mask=bias, scale=1.0)
    return mixed.transpose(1, 2).flatten(2)
