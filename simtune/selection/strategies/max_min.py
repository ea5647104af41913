"""`max-min`: farthest-point traversal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simtune.selection.objective import Additions, Objective
from simtune.selection.partial_subset import PartialSubset
from simtune.selection.strategy import Strategy


def max_min(subset: PartialSubset) -> None:
    """Max-min dispersion: each next task's most similar chosen task is the least similar possible.

    Starts with the task least similar to the pool on average. Every prefix is within a factor of 2 of the best
    smallest distance (Gonzalez 1985; Ravi, Rosenkrantz and Tayi 1994, for metric distances). A duplicate is chosen
    only when nothing else is left. O(size x N x D), O(N) memory.
    """
    graph = subset.graph
    if not subset.chosen and not subset.is_full:
        subset.add(subset.lowest(graph.total_similarity_N))
    nearest_N = np.full(len(graph), -np.inf)
    added = 0

    def exact(tasks_M: np.ndarray) -> np.ndarray:
        nearest_M: np.ndarray = graph.cosine(tasks_M, subset.chosen).max(axis=1)
        return nearest_M

    while not subset.is_full:
        for task in subset.chosen[added:]:
            np.maximum(nearest_N, subset.row(task), out=nearest_N)
            added += 1
        subset.add(subset.lowest(nearest_N, graph.row_error, exact))


def _marginal_gains(given: Additions) -> Iterator[float]:
    for rank, vector_D in enumerate(given.added_KD):
        nearest = max(
            (given.pool_PD @ vector_D).max(initial=-1.0), (given.added_KD[:rank] @ vector_D).max(initial=-1.0)
        )
        yield 1.0 - min(1.0, float(nearest))


MAX_MIN = Strategy(
    max_min,
    objective=Objective("1 - cosine to the nearest", _marginal_gains),
    known_for="within a factor of 2 of the best (Gonzalez 1985); no duplicates until nothing else is left",
)
