"""Greedy decoding of many sources at once, in which no row waits for the longest answer.

Finished rows leave the batch and new sources replace them while the other rows continue (continuous batching: Yu et
al. 2022, Orca). A source is encoded once, and the keys and values that the decoder reads of it are computed once. On a
CPU, several batches are decoded at the same time. Which rows share a batch depends on the sources, the token budget and
the number of batches alone.

All rows share a step counter: the keys and values of a step are in the same column for every row, and the columns
before a row's first one are masked for it. The distance between two tokens is then the distance of their columns, so
one position bias serves all rows.

Legend: N rows, S source tokens, K columns, M model width, H heads, D width of a head.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from simtune.training.examples import Ragged
from simtune.training.families.family import DecoderLayers, States
from simtune.training.side_by_side import num_side_by_side, side_by_side
from simtune.training.steps import pad_rows

if TYPE_CHECKING:
    from torch import Tensor

# New rows are added once the batch uses at most this share of the budget: copying rows is cheap compared to encoding.
_REFILL_BELOW = 0.5
_DROP_BELOW = 0.75
_NEW_COLUMNS = 32


@dataclass(frozen=True)
class DecodingJob:
    """Sources to answer, and how.

    Attributes:
        sources: token ids of all sources.
        numbers: which of the sources to answer.
        pad_id: fills short sources.
        eos_id: ends an answer, as the model's own end tokens do.
        max_new_tokens: the longest answer.
        tokens_per_batch: source tokens, including padding, of all rows that are decoded at a time; a longer source is
            decoded alone. It affects memory and time; the tokens only where two are equally likely up to rounding.
    """

    sources: Ragged
    numbers: np.ndarray
    pad_id: int
    eos_id: int
    max_new_tokens: int
    tokens_per_batch: int


def decode_greedily(layers: DecoderLayers, job: DecodingJob) -> dict[int, list[int]]:
    """The most likely token, one after the other, until the end of the sequence or `max_new_tokens`.

    Args:
        layers: of the model, in evaluation mode.
        job: what to decode.

    Returns:
        For each source number its tokens, with the end of the sequence where it was reached.
    """
    longest_first = job.numbers[np.lexsort((job.numbers, -job.sources.lengths[job.numbers]))]
    num_parts = num_side_by_side(layers.device)
    jobs = [
        replace(job, numbers=longest_first[part::num_parts], tokens_per_batch=max(1, job.tokens_per_batch // num_parts))
        for part in range(num_parts)
    ]
    answers = side_by_side(partial(_decode, layers), jobs, layers.device)
    return {number: tokens for part in answers for number, tokens in part.items()}


def _decode(layers: DecoderLayers, job: DecodingJob) -> dict[int, list[int]]:
    """The answers to sources that are given longest first."""
    sources, budget = job.sources, job.tokens_per_batch
    waiting = deque(job.numbers.tolist())
    batch = _Batch(layers, {job.eos_id, *layers.ids.ends}, job.max_new_tokens)
    while waiting or batch.unfinished:
        if waiting and batch.num_tokens() <= _REFILL_BELOW * budget:
            chosen = _next_sources(waiting, sources, batch, budget)
            batch.regroup(_encode(layers, sources, chosen, job.pad_id, layers.most_tokens(budget)))
        elif batch.is_full() or len(batch.unfinished) < _DROP_BELOW * len(batch.rows):
            batch.regroup([])
        batch.step()
    return batch.answers


@dataclass
class _Row:
    """A source that is being answered.

    Attributes:
        number: of the source.
        length: of the source in tokens.
        start: column of the answer's first token.
        tokens: of the answer so far.
    """

    number: int
    length: int
    start: int = 0
    tokens: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Encoded:
    """Encoded sources: their numbers, output [N, S, M] and mask [N, S]."""

    numbers: list[int]
    hidden_NSM: Tensor
    mask_NS: Tensor


def _next_sources(waiting: deque[int], sources: Ragged, batch: _Batch, tokens_per_batch: int) -> list[int]:
    """Removes the next sources from the queue: as many as the budget allows, at least one for an empty batch."""
    chosen: list[int] = []
    width = batch.width()
    while waiting:
        width = max(width, len(sources[waiting[0]]))
        num_rows = len(batch.unfinished) + len(chosen) + 1
        if num_rows > 1 and num_rows * width > tokens_per_batch:
            break
        chosen.append(waiting.popleft())
    return chosen


def _encode(
    layers: DecoderLayers, sources: Ragged, numbers: Sequence[int], pad_id: int, tokens_at_once: int
) -> list[_Encoded]:
    import torch

    encoded = []
    start = 0
    while start < len(numbers):
        # Longest first: the first row decides the width.
        num_rows = max(1, tokens_at_once // len(sources[numbers[start]]))
        part = list(numbers[start : start + num_rows])
        padded = pad_rows(sources, np.array(part), pad_id)
        ids_NS, mask_NS = (torch.from_numpy(array).to(layers.device) for array in padded)
        encoded.append(_Encoded(part, layers.encode(ids_NS, mask_NS), mask_NS))
        start += num_rows
    return encoded


class _Batch:
    """The rows that are decoded together.

    Attributes:
        rows: in the order of the arrays; finished rows stay until the next regrouping.
        unfinished: indices of the rows that continue.
        answers: tokens of finished rows by source number.
    """

    def __init__(self, layers: DecoderLayers, ends: Collection[int], max_new_tokens: int) -> None:
        import torch

        self.rows: list[_Row] = []
        self.unfinished: list[int] = []
        self.answers: dict[int, list[int]] = {}
        self._layers, self._device = layers, layers.device
        self._ends, self._max_new_tokens = ends, max_new_tokens
        # A row needs `max_new_tokens` columns, and columns before the first row's start are dropped when regrouping.
        self._bias_1H1K = layers.target_bias(1, max_new_tokens + _NEW_COLUMNS)
        self._step = self._num_columns = 0
        self._ids_N1 = torch.zeros(0, 1, dtype=torch.int64, device=self._device)
        self._mask_NS = torch.zeros(0, 0, dtype=torch.int64, device=self._device)
        none = layers.source_states(0, torch.zeros(0, 0, layers.width, dtype=layers.dtype, device=self._device))
        self._source_states = [none] * layers.num_decoder_layers
        self._own_states = [none] * layers.num_decoder_layers

    def width(self) -> int:
        """Tokens of the longest source of an unfinished row."""
        return max((self.rows[index].length for index in self.unfinished), default=0)

    def num_tokens(self) -> int:
        return len(self.unfinished) * self.width()

    def is_full(self) -> bool:
        return self._step == self._num_columns

    def regroup(self, fresh: Sequence[_Encoded]) -> None:
        """Drops finished rows and columns that no row sees; adds new rows."""
        import torch

        rows_left = torch.tensor(self.unfinished, dtype=torch.int64, device=self._device)
        first = min((self.rows[index].start for index in self.unfinished), default=self._step)
        seen = slice(first, self._step)
        self._step -= first
        self._num_columns = self._step + _NEW_COLUMNS
        self.rows = [self.rows[index] for index in self.unfinished]
        for row in self.rows:
            row.start -= first
        self.rows += [
            _Row(number, length, self._step)
            for part in fresh
            for number, length in zip(part.numbers, part.mask_NS.sum(1).tolist(), strict=True)
        ]
        self.unfinished = list(range(len(self.rows)))
        num_new, width = len(self.rows) - len(rows_left), self.width()

        started = self._ids_N1.new_full((num_new, 1), self._layers.ids.start)
        self._ids_N1 = torch.cat([self._ids_N1[rows_left], started])
        self._mask_NS = _stacked([self._mask_NS[rows_left], *(part.mask_NS for part in fresh)], width, 1)
        self._source_mask = self._layers.source_mask(self._mask_NS)
        columns = torch.arange(self._num_columns, device=self._device)
        starts_N1 = torch.tensor([[row.start] for row in self.rows], device=self._device)
        self._start_mask = self._layers.source_mask(columns >= starts_N1)
        for layer in range(self._layers.num_decoder_layers):
            keys, values = self._source_states[layer]
            new = [self._layers.source_states(layer, part.hidden_NSM) for part in fresh]
            self._source_states[layer] = (
                _stacked([keys[rows_left], *(new_keys for new_keys, _ in new)], width, 2),
                _stacked([values[rows_left], *(new_values for _, new_values in new)], width, 2),
            )
            keys, values = self._own_states[layer]
            no_columns = keys.new_zeros(num_new, *keys[:, :, :0].shape[1:])
            self._own_states[layer] = (
                _stacked([keys[rows_left, :, seen], no_columns], self._num_columns, 2),
                _stacked([values[rows_left, :, seen], no_columns], self._num_columns, 2),
            )

    def step(self) -> None:
        """Adds a token to every unfinished row."""
        import torch

        column = self._step
        self._step += 1

        def keep(layer: int, keys: Tensor, values: Tensor) -> States:
            all_keys, all_values = self._own_states[layer]
            all_keys[:, :, column : self._step] = keys
            all_values[:, :, column : self._step] = values
            return all_keys[:, :, : self._step], all_values[:, :, : self._step]

        bias = self._bias_1H1K[..., -self._step :] + self._start_mask[..., : self._step]
        hidden_NM = self._layers.decode(self._ids_N1, bias, self._source_states, self._source_mask, keep)[:, 0]
        if len(self.unfinished) < len(self.rows):
            indices = torch.tensor(self.unfinished, device=self._device)
            chosen = self._layers.logits(hidden_NM[indices]).argmax(-1)
            self._ids_N1[indices, 0] = chosen
        else:
            chosen = self._layers.logits(hidden_NM).argmax(-1)
            self._ids_N1[:, 0] = chosen
        unfinished = []
        for index, token in zip(self.unfinished, chosen.tolist(), strict=True):
            row = self.rows[index]
            row.tokens.append(token)
            if token in self._ends or len(row.tokens) == self._max_new_tokens:
                self.answers[row.number] = row.tokens
            else:
                unfinished.append(index)
        self.unfinished = unfinished


def _stacked(parts: Sequence[Tensor], length: int, dim: int) -> Tensor:
    """Concatenates parts along the first dimension, each cut to a length along another, or filled with zeros.

    Not with uninitialised memory: a masked NaN is still a NaN.
    """
    shape = list(parts[0].shape)
    shape[0], shape[dim] = sum(len(part) for part in parts), length
    stacked = parts[0].new_empty(shape)
    start = 0
    for part in parts:
        rows, common = stacked[start : start + len(part)], min(length, part.shape[dim])
        rows.narrow(dim, 0, common).copy_(part.narrow(dim, 0, common))
        rows.narrow(dim, common, length - common).zero_()
        start += len(part)
    return stacked
