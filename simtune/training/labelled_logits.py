"""Logits at labelled positions only: most of a padded target is padding, and the vocabulary is the widest product.

Legend: B examples, S source tokens, L target tokens, P labelled positions of B x L, M model width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from simtune.training.seq2seq_model import Seq2SeqModel
from simtune.training.special_ids import SpecialIds
from simtune.training.steps import IGNORED_LABEL, Batch

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class TensorBatch:
    """A micro-batch as int64 tensors.

    Attributes:
        source_ids_BS: the sources.
        source_mask_BS: 1 for source tokens, 0 for padding.
        decoder_ids_BL: what the decoder reads.
        positions_P: positions of the labels in the flattened B x L; at least one.
        labels_P: the labels; -100 where the batch has none.
    """

    source_ids_BS: Tensor
    source_mask_BS: Tensor
    decoder_ids_BL: Tensor
    positions_P: Tensor
    labels_P: Tensor

    @classmethod
    def from_batch(cls, batch: Batch, ids: SpecialIds, pinned: bool) -> TensorBatch:
        """Makes the tensors on the host.

        Args:
            batch: padded ids.
            ids: the model's special tokens.
            pinned: whether to pin the memory, so that copies to a GPU are asynchronous.
        """
        import torch

        # The decoder reads each label one position later.
        decoder_ids_BL = np.full_like(batch.labels_BL, ids.start)
        decoder_ids_BL[:, 1:] = np.where(batch.labels_BL == IGNORED_LABEL, ids.pad, batch.labels_BL)[:, :-1]
        positions_P = np.flatnonzero(batch.labels_BL != IGNORED_LABEL)
        if not len(positions_P):
            positions_P = np.zeros(1, dtype=np.int64)
        arrays = (
            batch.source_ids_BS,
            batch.source_mask_BS,
            decoder_ids_BL,
            positions_P,
            batch.labels_BL.ravel()[positions_P],
        )
        tensors = (torch.from_numpy(array) for array in arrays)
        return cls(*(tensor.pin_memory() for tensor in tensors) if pinned else tensors)

    def to(self, device: str) -> TensorBatch:
        """The same on a device; from pinned memory without waiting for the copy."""
        return TensorBatch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


class LabelledPositions:
    """Makes a model's output layer compute logits at chosen positions only.

    A hook before the output layer, so that the rest of the library's forward pass and DeepSpeed's gathering of
    parameters are unchanged.
    """

    def __init__(self, model: Seq2SeqModel) -> None:
        self._positions_P: Tensor | None = None
        self._hook = model.get_output_embeddings().register_forward_pre_hook(self._choose)

    @contextmanager
    def at(self, positions_P: Tensor) -> Iterator[None]:
        """Inside the context, logits are [P, V] instead of [B, L, V]."""
        self._positions_P = positions_P
        try:
            yield
        finally:
            self._positions_P = None

    def remove(self) -> None:
        self._hook.remove()

    def _choose(self, head: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor] | None:
        if self._positions_P is None:
            return None
        (hidden_BLM,) = inputs
        return (hidden_BLM.flatten(0, 1).index_select(0, self._positions_P),)
