"""Greedy decoding of many sources at once, in which no row waits for the longest answer.

Rows that have ended leave the batch and new sources take their places while the others go on (continuous batching:
Yu et al. 2022, Orca). A source is encoded once, and what the decoder reads of it is computed once. Which rows meet in
a batch follows from the sources and the token budget alone.

All rows share one clock: the keys and values of a step lie in the same column for every row, and a row that came
later does not see the columns before its own first. The distance between two tokens is then the distance of their
columns, so one position bias serves all rows.

Legend: N rows, S source tokens, K columns, M model width, H heads, D width of a head.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simtune.training.examples import Ragged
from simtune.training.families.family import DecoderLayers
from simtune.training.steps import pad_rows

# New rows come in once this share of the budget is free: copying what stays costs little against encoding what comes.
_REFILL_BELOW = 0.5
_DROP_BELOW = 0.75
_NEW_COLUMNS = 32


def decode_greedily(
    layers: DecoderLayers,
    sources: Ragged,
    numbers: np.ndarray,
    pad_id: int,
    eos_id: int,
    max_new_tokens: int,
    tokens_per_batch: int,
) -> dict[int, list[int]]:
    """The likeliest token after each other until the end of the sequence or `max_new_tokens`.

    Args:
        numbers: which sources.
        pad_id: fills short sources up.
        eos_id: ends an answer, as the model's own ends do.
        tokens_per_batch: source tokens, padding counted, of the rows that are decoded together; a longer source is
            decoded alone. It decides memory and seconds; tokens only where two are equally likely but for rounding.

    Returns:
        for each source number its tokens, with the end of the sequence where it was reached.
    """
    import torch

    longest_first = numbers[np.lexsort((numbers, -sources.lengths[numbers]))]
    waiting = deque(longest_first.tolist())
    with torch.inference_mode():
        batch = _Batch(layers, {eos_id, *layers.ids.ends}, max_new_tokens)
        while waiting or batch.alive:
            if waiting and batch.num_tokens() <= _REFILL_BELOW * tokens_per_batch:
                taken = _take(waiting, sources, batch, tokens_per_batch)
                batch.regroup(_encode(layers, sources, taken, pad_id, layers.most_tokens(tokens_per_batch)))
            elif batch.is_full() or len(batch.alive) < _DROP_BELOW * len(batch.rows):
                batch.regroup([])
            batch.step()
    return batch.ended


@dataclass
class _Row:
    """A source being answered: its number and length, the column of its first token, its tokens so far."""

    number: int
    length: int
    start: int = 0
    tokens: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Encoded:
    """Encoded sources: their numbers, output [N, S, M] and mask [N, S]."""

    numbers: list[int]
    hidden_NSM: Any
    mask_NS: Any


def _take(waiting: deque[int], sources: Ragged, batch: _Batch, tokens_per_batch: int) -> list[int]:
    """The next sources, as many as the budget admits beside the rows that are there; at least one where none is."""
    taken: list[int] = []
    width = batch.width()
    while waiting:
        width = max(width, len(sources[waiting[0]]))
        num_rows = len(batch.alive) + len(taken) + 1
        if num_rows > 1 and num_rows * width > tokens_per_batch:
            break
        taken.append(waiting.popleft())
    return taken


def _encode(
    layers: DecoderLayers, sources: Ragged, numbers: Sequence[int], pad_id: int, tokens_at_once: int
) -> list[_Encoded]:
    import torch

    encoded = []
    start = 0
    while start < len(numbers):
        # Longest first: the first one gives the width.
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
        rows: one a place; an ended row keeps its place until the next regrouping.
        alive: places of the rows that go on.
        ended: tokens by source number.
    """

    def __init__(self, layers: DecoderLayers, ends: Collection[int], max_new_tokens: int) -> None:
        import torch

        self.rows: list[_Row] = []
        self.alive: list[int] = []
        self.ended: dict[int, list[int]] = {}
        self._layers, self._device = layers, layers.device
        self._ends, self._max_new_tokens = ends, max_new_tokens
        # A row lives for `max_new_tokens` columns, and the columns before its own go at the next regrouping.
        self._bias_1H1K = layers.target_bias(1, max_new_tokens + _NEW_COLUMNS)
        self._clock = self._num_columns = 0
        self._ids_N1 = torch.zeros(0, 1, dtype=torch.int64, device=self._device)
        self._mask_NS = torch.zeros(0, 0, dtype=torch.int64, device=self._device)
        none = layers.source_states(0, torch.zeros(0, 0, layers.width, dtype=layers.dtype, device=self._device))
        self._source_states = [none] * layers.num_decoder_layers
        self._own_states = [none] * layers.num_decoder_layers

    def width(self) -> int:
        """Tokens of the longest source that goes on."""
        return max((self.rows[place].length for place in self.alive), default=0)

    def num_tokens(self) -> int:
        return len(self.alive) * self.width()

    def is_full(self) -> bool:
        return self._clock == self._num_columns

    def regroup(self, fresh: Sequence[_Encoded]) -> None:
        """Drops rows that have ended and columns that no row sees; takes in new rows."""
        import torch

        kept = torch.tensor(self.alive, dtype=torch.int64, device=self._device)
        first = min((self.rows[place].start for place in self.alive), default=self._clock)
        seen = slice(first, self._clock)
        self._clock -= first
        self._num_columns = self._clock + _NEW_COLUMNS
        self.rows = [self.rows[place] for place in self.alive]
        for row in self.rows:
            row.start -= first
        self.rows += [
            _Row(number, length, self._clock)
            for part in fresh
            for number, length in zip(part.numbers, part.mask_NS.sum(1).tolist(), strict=True)
        ]
        self.alive = list(range(len(self.rows)))
        num_new, width = len(self.rows) - len(kept), self.width()

        started = self._ids_N1.new_full((num_new, 1), self._layers.ids.start)
        self._ids_N1 = torch.cat([self._ids_N1[kept], started])
        self._mask_NS = _stacked([self._mask_NS[kept], *(part.mask_NS for part in fresh)], width, 1)
        self._source_mask = self._layers.source_mask(self._mask_NS)
        columns = torch.arange(self._num_columns, device=self._device)
        starts_N1 = torch.tensor([[row.start] for row in self.rows], device=self._device)
        self._start_mask = self._layers.source_mask(columns >= starts_N1)
        for layer in range(self._layers.num_decoder_layers):
            old = self._source_states[layer]
            new = [self._layers.source_states(layer, part.hidden_NSM) for part in fresh]
            self._source_states[layer] = tuple(
                _stacked([old[which][kept], *(states[which] for states in new)], width, 2) for which in (0, 1)
            )
            self._own_states[layer] = tuple(
                _stacked(
                    [states[kept, :, seen], states.new_zeros(num_new, *states[:, :, :0].shape[1:])],
                    self._num_columns,
                    2,
                )
                for states in self._own_states[layer]
            )

    def step(self) -> None:
        """One token more for every row that goes on."""
        import torch

        now = self._clock
        self._clock += 1

        def keep(layer: int, keys: Any, values: Any) -> tuple[Any, Any]:
            all_keys, all_values = self._own_states[layer]
            all_keys[:, :, now : self._clock] = keys
            all_values[:, :, now : self._clock] = values
            return all_keys[:, :, : self._clock], all_values[:, :, : self._clock]

        bias = self._bias_1H1K[..., -self._clock :] + self._start_mask[..., : self._clock]
        hidden_NM = self._layers.decode(self._ids_N1, bias, self._source_states, self._source_mask, keep)[:, 0]
        if len(self.alive) < len(self.rows):
            places = torch.tensor(self.alive, device=self._device)
            chosen = self._layers.logits(hidden_NM[places]).argmax(-1)
            self._ids_N1[places, 0] = chosen
        else:
            chosen = self._layers.logits(hidden_NM).argmax(-1)
            self._ids_N1[:, 0] = chosen
        going_on = []
        for place, token in zip(self.alive, chosen.tolist(), strict=True):
            row = self.rows[place]
            row.tokens.append(token)
            if token in self._ends or len(row.tokens) == self._max_new_tokens:
                self.ended[row.number] = row.tokens
            else:
                going_on.append(place)
        self.alive = going_on


def _stacked(parts: Sequence[Any], length: int, dim: int) -> Any:
    """Parts one below the other, each cut to a length along a dimension, or filled up with zeros.

    Zeros, not whatever lies in memory: a masked NaN is still a NaN.
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
