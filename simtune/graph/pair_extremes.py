"""Smallest, largest and 90th percentile over the pairs of every prefix of an order, exact however many pairs there are.

The percentile's neighbours are found by counting values in bins, and only their bins are sorted.

Legend: K tasks of the order, M some of them, D dimensions, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from simtune.graph.similarity import SimilarityGraph

MOST_TASKS_WITH_PAIRS = 20_000
"""Beyond this only what is linear in the tasks is computed."""
_QUANTILE = 0.9
# Up to this many tasks all their pairs are held at once.
_PAIRS_AT_ONCE = 4096
_BINS = 4096

Extremes = tuple[float | None, float | None, float | None]
"""Smallest, largest, 90th percentile; None below two tasks and above `MOST_TASKS_WITH_PAIRS`."""


class PairSimilarities(Protocol):
    """Similarities of the pairs of tasks of an order, by positions in it."""

    def lower_triangle(self, size: int) -> np.ndarray:
        """All pairs of the first tasks, row after row below the diagonal, so that the pairs of a prefix come first."""
        ...

    def block(self, begin: int, end: int) -> np.ndarray:
        """Similarities of the tasks from `begin` up to `end` to all before `end`, [end - begin, end]."""
        ...


class GraphPairs:
    """Pairs from the matrix of a dense graph."""

    def __init__(self, graph: SimilarityGraph, order_K: np.ndarray) -> None:
        self._graph, self._order_K = graph, order_K

    def lower_triangle(self, size: int) -> np.ndarray:
        similarity_NN, order_K = self._graph.similarity_NN, self._order_K[:size]
        flat_P = np.empty(size * (size - 1) // 2)
        begin = 0
        for row, task in enumerate(order_K):
            similarity_NN[task].take(order_K[:row], out=flat_P[begin : begin + row], mode="clip")
            begin += row
        return flat_P

    def block(self, begin: int, end: int) -> np.ndarray:
        return self._graph.cosine(self._order_K[begin:end], self._order_K[:end])


class VectorPairs:
    """Pairs computed from vectors of length 1, or 0."""

    def __init__(self, vectors_KD: np.ndarray) -> None:
        self._vectors_KD = vectors_KD

    def lower_triangle(self, size: int) -> np.ndarray:
        similarity_KK = self.block(0, size)
        flat_P = np.empty(size * (size - 1) // 2)
        begin = 0
        for row, similarity_K in enumerate(similarity_KK):
            flat_P[begin : begin + row] = similarity_K[:row]
            begin += row
        return flat_P

    def block(self, begin: int, end: int) -> np.ndarray:
        cosine_BK: np.ndarray = np.clip(self._vectors_KD[begin:end] @ self._vectors_KD[:end].T, -1.0, 1.0)
        return cosine_BK


def pair_extremes(pairs: PairSimilarities, sizes: Sequence[int]) -> dict[int, Extremes]:
    """Smallest, largest and 90th percentile over pairs of each prefix."""
    found: dict[int, Extremes] = dict.fromkeys(sizes, (None, None, None))
    small = [size for size in sizes if 2 <= size <= _PAIRS_AT_ONCE]
    if small:
        flat_P = pairs.lower_triangle(small[-1])
        bins_P, counts = _bin(flat_P), np.zeros(_BINS, dtype=np.int64)
        low, high, begin = 1.0, -1.0, 0
        for size in small:
            end = size * (size - 1) // 2
            low, high = min(low, flat_P[begin:end].min()), max(high, flat_P[begin:end].max())
            counts += np.bincount(bins_P[begin:end], minlength=_BINS)
            begin = end
            first, last = _bins_of_quantile(counts)
            kept_P = flat_P[:end][(bins_P[:end] >= first) & (bins_P[:end] <= last)]
            found[size] = float(low), float(high), _quantile(counts, first, kept_P)
    for size in sizes:
        if _PAIRS_AT_ONCE < size <= MOST_TASKS_WITH_PAIRS:
            found[size] = _pairs_by_blocks(pairs, size)
    return found


def _pairs_by_blocks(pairs: PairSimilarities, size: int) -> Extremes:
    """The same in blocks: the first pass finds the percentile's bins, the second collects the values in them."""
    counts, low, high = np.zeros(_BINS, dtype=np.int64), 1.0, -1.0
    for values_P in _pair_blocks(pairs, size):
        low, high = min(low, float(values_P.min())), max(high, float(values_P.max()))
        counts += np.bincount(_bin(values_P), minlength=_BINS)
    first, last = _bins_of_quantile(counts)
    kept = []
    for values_P in _pair_blocks(pairs, size):
        bins_P = _bin(values_P)
        kept.append(values_P[(bins_P >= first) & (bins_P <= last)])
    return low, high, _quantile(counts, first, np.concatenate(kept))


def _bins_of_quantile(counts: np.ndarray) -> tuple[int, int]:
    """The bins of the two values between which the percentile lies."""
    rank = _QUANTILE * (counts.sum() - 1)
    first, last = np.searchsorted(np.cumsum(counts), [np.floor(rank), np.ceil(rank)], side="right")
    return int(first), int(last)


def _quantile(counts: np.ndarray, first_bin: int, kept_P: np.ndarray) -> float:
    """The percentile, from the counts of all values and the values of its bins."""
    rank = _QUANTILE * (counts.sum() - 1)
    below = counts[:first_bin].sum()
    kept_P = np.sort(kept_P)
    low, high = kept_P[int(np.floor(rank) - below)], kept_P[int(np.ceil(rank) - below)]
    return float(low + (rank - np.floor(rank)) * (high - low))


def _bin(values_P: np.ndarray) -> np.ndarray:
    return ((values_P + 1.0) * ((_BINS - 1) / 2)).astype(np.int16)


def _pair_blocks(pairs: PairSimilarities, size: int) -> Iterator[np.ndarray]:
    step = max(2, (1 << 23) // size)
    for begin in range(0, size, step):
        end = min(begin + step, size)
        block = pairs.block(begin, end)
        values_P = block[np.arange(end)[None, :] < np.arange(begin, end)[:, None]]
        if len(values_P):
            yield values_P
