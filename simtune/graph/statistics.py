"""What a set of tasks looks like: exact statistics of every prefix of an order.

Both cosines are given, uncentred and centred, whichever one a strategy compared, so that sets of all arms and runs can
be compared.

Legend: N tasks of the pool, T test tasks, K tasks of the order, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from simtune.graph.pair_extremes import GraphPairs, VectorPairs, pair_extremes
from simtune.graph.similarity import SimilarityGraph
from simtune.graph.spectrum import eigenvalues
from simtune.graph.unit_vectors import centred_rows

# Rows of the test tasks' similarities held at once.
_TASKS_AT_ONCE = 4096
# Further digits differ between machines, and tables must not.
_DIGITS = 9


@dataclass(frozen=True)
class SetStatistics:
    """What a set of tasks looks like.

    Attributes:
        mean_similarity: over all unordered pairs; None below two tasks.
        min_similarity: the least similar pair; None below two tasks and above `pair_extremes.MOST_TASKS_WITH_PAIRS`.
        max_similarity: the most similar pair; likewise.
        p90_similarity: the 90th percentile of pairs, linearly interpolated; likewise.
        effective_rank: exp of the entropy of the similarity matrix's eigenvalues, each divided by their sum (Roy and
            Vetterli 2007; the Vendi score of Friedman and Dieng 2023): how many different directions the set has.
        coverage: mean over the test tasks of the largest similarity to the set; None without test tasks.
        coverage_rest: the same over the pool's other tasks; None where there is none.
        mean_similarity_centred: `mean_similarity` after the pool's mean vector was subtracted.
        min_similarity_centred: likewise.
        max_similarity_centred: likewise.
        p90_similarity_centred: likewise.
        effective_rank_centred: likewise.
        coverage_centred: likewise.
        coverage_rest_centred: likewise.
        num_categories: different first categories; a task without one adds none.
        num_sources: different source data sets.
    """

    mean_similarity: float | None
    min_similarity: float | None
    max_similarity: float | None
    p90_similarity: float | None
    effective_rank: float
    coverage: float | None
    coverage_rest: float | None
    mean_similarity_centred: float | None
    min_similarity_centred: float | None
    max_similarity_centred: float | None
    p90_similarity_centred: float | None
    effective_rank_centred: float
    coverage_centred: float | None
    coverage_rest_centred: float | None
    num_categories: int
    num_sources: int


_POOL_STATISTICS: WeakKeyDictionary[SimilarityGraph, SetStatistics] = WeakKeyDictionary()


def prefix_statistics(graph: SimilarityGraph, order: Sequence[int], sizes: Sequence[int]) -> dict[int, SetStatistics]:
    """Statistics of the first `size` tasks of an order, for each size.

    Sizes above len(order) count as len(order). O(K x (N + T) x D + K^2 x D) and, beyond a dense graph, O(N) memory.
    """
    if graph.is_centred:
        raise ValueError("statistics are of the uncentred graph")
    wanted = sorted({min(size, len(order)) for size in sizes} - {0})
    whole = [size for size in wanted if size == len(graph)]
    statistics = _prefixes(graph, order, [size for size in wanted if size < len(graph)])
    # The whole pool is the same set in any order, and the most expensive one.
    statistics |= {size: pool_statistics(graph) for size in whole}
    return {size: statistics[min(size, len(order))] for size in sizes if len(order)}


def pool_statistics(graph: SimilarityGraph) -> SetStatistics:
    """Statistics of the whole pool, computed once for each graph."""
    if graph not in _POOL_STATISTICS:
        _POOL_STATISTICS[graph] = _prefixes(graph, range(len(graph)), [len(graph)])[len(graph)]
    return _POOL_STATISTICS[graph]


def _prefixes(graph: SimilarityGraph, order: Sequence[int], wanted: Sequence[int]) -> dict[int, SetStatistics]:
    if not wanted:
        return {}
    order_K = np.asarray(order[: wanted[-1]], dtype=np.int64)
    # The mean of the vectors as they are stored, so that equal ones leave nothing.
    centred_KD = centred_rows(graph.vectors_ND[order_K].astype(np.float64), graph.mean_vector_D)
    uncentred = _by_cosine(graph, order_K, graph.exact(order_K), wanted)
    centred = _by_cosine(graph.centred, order_K, centred_KD, wanted)
    return {
        size: SetStatistics(
            **uncentred[size],
            **{f"{name}_centred": value for name, value in centred[size].items()},
            num_categories=len({graph.categories[task] for task in order_K[:size]} - {""}),
            num_sources=len({source for task in order_K[:size] for source in graph.sources[task]}),
        )
        for size in wanted
    }


def _by_cosine(
    graph: SimilarityGraph, order_K: np.ndarray, vectors_KD: np.ndarray, wanted: Sequence[int]
) -> dict[int, dict[str, Any]]:
    """The statistics of each prefix by this graph's cosine; the vectors are those of the order, exact."""
    pairs = pair_extremes(GraphPairs(graph, order_K) if graph.dense else VectorPairs(vectors_KD), wanted)
    ranks = _effective_ranks(vectors_KD, wanted)
    coverage = _coverage(graph, order_K, vectors_KD, wanted)
    rest = _coverage_rest(graph, order_K, wanted)
    found = {}
    for size in wanted:
        low, high, p90 = pairs[size]
        values = {
            "mean_similarity": _mean_of_pairs(vectors_KD[:size]),
            "min_similarity": low,
            "max_similarity": high,
            "p90_similarity": p90,
            "effective_rank": ranks[size],
            "coverage": coverage[size],
            "coverage_rest": rest[size],
        }
        found[size] = {name: None if value is None else round(value, _DIGITS) for name, value in values.items()}
    return found


def _mean_of_pairs(vectors_KD: np.ndarray) -> float | None:
    """Through the sum of the vectors, whose square is the sum over all ordered pairs, a task with itself included."""
    size = len(vectors_KD)
    if size < 2:
        return None
    sum_D = vectors_KD.sum(axis=0)
    return float(np.clip((sum_D @ sum_D - np.vdot(vectors_KD, vectors_KD)) / (size * (size - 1)), -1.0, 1.0))


def _effective_ranks(vectors_KD: np.ndarray, sizes: Sequence[int]) -> dict[int, float]:
    ranks, begin = {}, 0
    # Both products have the same eigenvalues apart from zeros; the smaller one is cheaper, and the larger may not fit.
    width = vectors_KD.shape[1]
    gram_DD = np.zeros((width, width)) if max(sizes, default=0) >= width else None
    for size in sizes:
        if gram_DD is not None:
            part = vectors_KD[begin:size]
            gram_DD += part.T @ part
            begin = size
        small = vectors_KD[:size] @ vectors_KD[:size].T if gram_DD is None or size < width else gram_DD
        share = eigenvalues(small).clip(min=0.0)
        if share.sum() > 0:
            share = share[share > 0] / share.sum()
            ranks[size] = float(np.exp(-(share * np.log(share)).sum()))
        else:
            ranks[size] = 0.0
    return ranks


def _coverage(
    graph: SimilarityGraph, order_K: np.ndarray, vectors_KD: np.ndarray, sizes: Sequence[int]
) -> dict[int, float | None]:
    if not len(graph.test_vectors_TD):
        return dict.fromkeys(sizes)
    covered: dict[int, float | None] = {}
    nearest_T = np.full(len(graph.test_vectors_TD), -1.0)
    begin = 0
    for size in sizes:
        for start in range(begin, size, _TASKS_AT_ONCE):
            part = slice(start, min(start + _TASKS_AT_ONCE, size))
            similarity_TM = (
                graph.test_similarity_TN[:, order_K[part]]
                if graph.dense
                else graph.test_vectors_TD @ vectors_KD[part].T
            )
            np.maximum(nearest_T, similarity_TM.max(axis=1), out=nearest_T)
        begin = size
        covered[size] = float(nearest_T.clip(max=1.0).mean())
    return covered


def _coverage_rest(graph: SimilarityGraph, order_K: np.ndarray, sizes: Sequence[int]) -> dict[int, float | None]:
    covered: dict[int, float | None] = {}
    nearest_N = np.full(len(graph), -1.0)
    inside_N = np.zeros(len(graph), dtype=bool)
    step = max(1, (1 << 24) // max(1, len(graph)))
    begin = 0
    for size in sizes:
        inside_N[order_K[begin:size]] = True
        if inside_N.all():
            covered[size] = None
            continue
        for start in range(begin, size, step):
            rows_MN = graph.rows(order_K[start : min(start + step, size)])
            np.maximum(nearest_N, rows_MN.max(axis=0), out=nearest_N)
        begin = size
        covered[size] = float(nearest_N[~inside_N].mean())
    return covered
