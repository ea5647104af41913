"""`k-means`: one task of each of as many clusters as tasks are wanted.

Legend: N tasks of the pool, K clusters, D dimensions.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from simtune.graph.similarity import SimilarityGraph
from simtune.graph.unit_vectors import directions
from simtune.selection.partial_subset import PartialSubset
from simtune.selection.strategies.max_min import max_min
from simtune.selection.strategy import Strategy

_MOST_ROUNDS = 50
# A shorter sum of unit vectors is rounding, and has no direction.
_SHORTEST_SUM = 1e-12
# The start of all sizes, for each graph as far as it was needed.
_FARTHEST_POINTS: WeakKeyDictionary[SimilarityGraph, list[int]] = WeakKeyDictionary()


def k_means(subset: PartialSubset) -> None:
    """The medoids of spherical k-means (Dhillon and Modha 2001), largest cluster first.

    Lloyd's rounds from the farthest-point order of `max-min`, which is deterministic and spread out; a medoid is the
    open task nearest to its cluster's mean direction. Finds a local optimum, without a guarantee. Not nested: every
    size has its own clusters. O(rounds x N x K x D).
    """
    graph, num_clusters = subset.graph, subset.num_missing
    if not num_clusters:
        return
    candidates = np.flatnonzero(subset.open_N)
    if num_clusters >= len(candidates):
        subset.add_in_order(candidates)
        return
    centre_KD = _seeds(graph, num_clusters)
    cluster_N = _assign(graph, centre_KD)
    for _ in range(_MOST_ROUNDS):
        centre_KD = _centres(graph, cluster_N, centre_KD)
        nearest_N = _assign(graph, centre_KD)
        if (nearest_N == cluster_N).all():
            break
        cluster_N = nearest_N
    centre_KD = _exact_centres(graph, cluster_N, centre_KD)
    for members in _nearest_first(subset, cluster_N, centre_KD):
        subset.add_in_order(members[subset.open_N[members]][:1])
    # Equal vectors share a cluster, and options may close whole ones: the tasks farthest from the chosen fill up.
    max_min(subset)


def _seeds(graph: SimilarityGraph, num_clusters: int) -> np.ndarray:
    """The first tasks of the farthest-point order, which all sizes share."""
    if len(_FARTHEST_POINTS.get(graph, ())) < num_clusters:
        spread = PartialSubset(graph, num_clusters)
        max_min(spread)
        _FARTHEST_POINTS[graph] = spread.chosen
    return graph.exact(_FARTHEST_POINTS[graph][:num_clusters])


def _assign(graph: SimilarityGraph, centre_KD: np.ndarray) -> np.ndarray:
    """The nearest centre of each task, in float32: rounds decide what is near, not exactly how near."""
    centre_DK = centre_KD.T.astype(np.float32)
    nearest_N = np.empty(len(graph), dtype=np.int64)
    for block in graph.blocks(len(centre_KD)):
        nearest_N[block] = (graph.vectors_ND[block].astype(np.float32, copy=False) @ centre_DK).argmax(axis=1)
    return nearest_N


def _centres(graph: SimilarityGraph, cluster_N: np.ndarray, before_KD: np.ndarray) -> np.ndarray:
    """Mean directions; a cluster that lost all its tasks stays where it was."""
    order_N = np.argsort(cluster_N, kind="stable")
    there_K, begin_K = np.unique(cluster_N[order_N], return_index=True)
    sum_KD = np.zeros_like(before_KD)
    for cluster, begin, end in zip(there_K, begin_K, [*begin_K[1:], len(order_N)], strict=True):
        sum_KD[cluster] = graph.vectors_ND[order_N[begin:end]].sum(axis=0, dtype=np.float64)
    return directions(sum_KD, before_KD, _SHORTEST_SUM)


def _exact_centres(graph: SimilarityGraph, cluster_N: np.ndarray, before_KD: np.ndarray) -> np.ndarray:
    """The same of exact vectors, so that the tasks of a cluster of two are equally near; slower."""
    sum_KD = np.zeros_like(before_KD)
    for block in graph.blocks(before_KD.shape[1]):
        tasks_M = np.arange(block.start, block.stop)
        tasks_M = tasks_M[np.argsort(cluster_N[tasks_M], kind="stable")]
        there_K, begin_K = np.unique(cluster_N[tasks_M], return_index=True)
        sum_KD[there_K] += np.add.reduceat(graph.exact(tasks_M), begin_K, axis=0)
    return directions(sum_KD, before_KD, _SHORTEST_SUM)


def _nearest_first(subset: PartialSubset, cluster_N: np.ndarray, centre_KD: np.ndarray) -> list[np.ndarray]:
    """Members of each cluster, nearest to its centre first; the largest cluster first."""
    nearness_N = np.empty(len(cluster_N))
    for block in subset.graph.blocks(centre_KD.shape[1]):
        vectors_MD = subset.graph.exact(np.arange(block.start, block.stop))
        nearness_N[block] = np.einsum("nd,nd->n", vectors_MD, centre_KD[cluster_N[block]])
    rank_N = np.empty(len(cluster_N), dtype=np.int64)
    rank_N[subset.ranked(-nearness_N)] = np.arange(len(cluster_N))
    size_N = np.bincount(cluster_N)[cluster_N]
    order_N = np.lexsort((rank_N, cluster_N, -size_N))
    return np.split(order_N, np.flatnonzero(np.diff(cluster_N[order_N])) + 1)


K_MEANS = Strategy(k_means, nested=False, known_for="each size has its own clusters")
