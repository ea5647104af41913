"""What simtune uses of an encoder-decoder model of the transformers library, which has no types of its own here.

Importing this module loads neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class ModelConfig(Protocol):
    """A model's configuration, or its settings of generation.

    Attributes:
        eos_token_id: what ends an answer.
    """

    eos_token_id: int | list[int] | None

    def to_dict(self) -> dict[str, Any]: ...


class ArchitectureConfig(ModelConfig, Protocol):
    """The configuration of a model.

    Attributes:
        model_type: the architecture, as config.json names it.
    """

    model_type: str
    _attn_implementation: str | None


class ModelOutput(Protocol):
    """What a forward pass returns.

    Attributes:
        logits: scores of the vocabulary, [B, L, V].
    """

    logits: Tensor


class Seq2SeqModel(Protocol):
    """An encoder-decoder model: a `torch.nn.Module` with the library's methods.

    Attributes:
        config: its architecture.
        generation_config: how it generates where nothing else is asked for.
        device: where its weights are.
    """

    config: ArchitectureConfig
    generation_config: ModelConfig
    device: torch.device

    def __call__(
        self, *, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor, use_cache: bool
    ) -> ModelOutput: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def buffers(self) -> Iterator[Tensor]: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def eval(self) -> Self: ...

    def to(self, device: str, dtype: torch.dtype | None = None) -> Self: ...

    def get_encoder(self) -> nn.Module: ...

    def get_decoder(self) -> nn.Module: ...

    def get_output_embeddings(self) -> nn.Module: ...

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, bool]) -> None: ...

    def set_attn_implementation(self, name: str | None) -> None: ...

    def generate(self, *, input_ids: Tensor, attention_mask: Tensor, generation_config: ModelConfig) -> Tensor: ...

    def save_pretrained(self, folder: Path, *, state_dict: dict[str, Tensor]) -> None: ...
