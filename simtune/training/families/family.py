"""What simtune asks of a model family, so that no other module names an architecture.

A family is an encoder-decoder architecture of the transformers library. To add one, write a module with a
`ModelFamily` here and add its line to `registry`. A new family needs its sizes, its configuration and its parameter
count; fast decoding, CPU kernels and precision rules are optional.

Legend: B sequences, S source tokens, Q decoder tokens going in, K decoder tokens seen, M model width, H heads,
D width of a head, V vocabulary, N rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from simtune.config.fields import Section

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from simtune.training.model_memory import BatchShape
    from simtune.training.seq2seq_model import Seq2SeqModel
    from simtune.training.special_ids import SpecialIds

KeepStates = Callable[[int, "Tensor", "Tensor"], tuple["Tensor", "Tensor"]]
"""Takes a layer's number and its new keys and values [B, H, Q, D], returns all that are to be seen [B, H, K, D]."""

States = tuple["Tensor", "Tensor"]
"""Keys and values of one layer."""


class DecoderLayers(Protocol):
    """A model's layers called one by one, for inference: what greedy decoding and ranking need.

    The distance between two decoder tokens must be all that their positions decide, because rows that started at
    different times share a batch. Deterministic; call it in evaluation mode and without gradients.

    Attributes:
        ids: what the decoder starts with, and what ends its answers.
        num_decoder_layers: layers that have states.
        width: M.
        dtype: of states and hidden vectors.
        device: where the weights are.
    """

    ids: SpecialIds
    num_decoder_layers: int
    width: int
    dtype: torch.dtype
    device: torch.device

    def most_tokens(self, tokens_per_batch: int) -> int:
        """The number of source tokens, including padding, that is fastest to encode at once."""
        ...

    def encode(self, ids_BS: Tensor, mask_BS: Tensor) -> Tensor:
        """Encoder output [B, S, M] of sources with a mask of ones and zeros."""
        ...

    def source_states(self, layer: int, encoded_BSM: Tensor) -> States:
        """The keys and values [B, H, S, D] that a decoder layer reads of the encoder's output."""
        ...

    def source_mask(self, mask_BS: Tensor) -> Tensor:
        """What is added to the scores of source tokens [B, 1, 1, S]: 0, or the lowest number where there is none."""
        ...

    def target_bias(self, num_queries: int, num_keys: int) -> Tensor:
        """What is added to the scores of the last Q of K decoder tokens [1, H, Q, K]; later tokens are not masked."""
        ...

    def decode(
        self,
        ids_NQ: Tensor,
        target_bias_NHQK: Tensor,
        source_states: Sequence[States],
        source_mask_B11S: Tensor,
        keep: KeepStates = ...,
    ) -> Tensor:
        """Decoder output [N, Q, M].

        Args:
            ids_NQ: the tokens that go in.
            target_bias_NHQK: see `target_bias`.
            source_states: for each layer keys and values of B sources; with N = n x B, rows i x n to (i + 1) x n read
                source i, so that several targets share one source without copies.
            source_mask_B11S: see `source_mask`.
            keep: where keys and values of earlier tokens come from.
        """
        ...

    def logits(self, hidden_NM: Tensor) -> Tensor:
        """Scores of the vocabulary [N, V]."""
        ...


def padded_vocabulary(num_pieces: int) -> int:
    """Rows of a new model's embedding: a multiple of 64 keeps matrix products on their fast paths.

    The rows beyond the tokenizer's pieces are never used.
    """
    return -(-num_pieces // 64) * 64


class ModelFamily(ABC):
    """An architecture, with all that is particular to it.

    Attributes:
        name: what messages call it.
        model_types: the values of `model_type` in config.json that belong to it.
        known_sizes: configuration of published models by hub name, so that new weights need no download.
        Settings: what `model.config` may set for new weights; fields are keys of config.json, None is "not set".
        dropout_key: the key of config.json that sets the dropout rate.
        tokenizers_split_at_spaces: how the names of tokenizer classes begin whose `tokenizer.json` the library reads
            with another pre-tokenizer, one that splits at white space.
    """

    name: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]
    known_sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    Settings: ClassVar[type[Section]]
    dropout_key: ClassVar[str] = "dropout"
    tokenizers_split_at_spaces: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def new_config(self, sizes: Mapping[str, Any], vocab_size: int, pad_id: int, eos_id: int) -> dict[str, Any]:
        """The full configuration of a model with new weights, in which decoder start and special ids are set.

        Raises:
            Exception: whatever the library raises where the sizes do not fit together.
        """

    @abstractmethod
    def build(self, config: Mapping[str, Any]) -> Seq2SeqModel:
        """A model with new weights, in fp32 on the CPU, drawn from torch's random state."""

    @abstractmethod
    def num_parameters(self, sizes: Mapping[str, Any], num_pieces: int | None, pretrained: bool) -> int:
        """Parameters of a model, shared ones counted once.

        Args:
            sizes: keys of config.json; missing ones have the library's defaults.
            num_pieces: of the tokenizer of a new model; None takes the published vocabulary.
            pretrained: whether the weights are published ones, which may untie what new ones share.
        """

    def activation_bytes(
        self, sizes: Mapping[str, Any], num_pieces: int | None, batch: BatchShape, each: int, recomputes: bool
    ) -> int | None:
        """Bytes that a forward pass keeps for the backward pass, at most; None if the family does not say.

        Args:
            sizes: as for `num_parameters`.
            num_pieces: as for `num_parameters`.
            batch: its shape.
            each: bytes of a number in training.
            recomputes: whether layers are computed again in the backward pass (`gradient_checkpointing`).
        """
        return None

    def decoder_layers(self, model: Seq2SeqModel) -> DecoderLayers | None:
        """The layers of a built model for fast decoding; None leaves that to the library."""
        return None

    def ranking_error(self, model_type: str, precision: str) -> str:
        """Why a trained model would have no `decoder_layers`, which ranking needs; empty where it would.

        Args:
            model_type: of its config.json.
            precision: of its weights.
        """
        return f"not supported for {self.name}; use another family"

    def install_cpu_kernels(self, model: Seq2SeqModel) -> Callable[[], None]:
        """Puts faster kernels for training on a CPU into a model; returns what removes them."""
        return lambda: None

    def precision_error(self, precision: str, pretrained: bool) -> str:
        """Why weights cannot be trained in a precision, with the remedy; empty where they can."""
        return ""

    def precision_warning(self, precision: str) -> str:
        """What to expect of training in a precision; empty where there is nothing to say."""
        return ""
