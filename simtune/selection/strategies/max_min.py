"""`max-min`: farthest-point traversal."""

from __future__ import annotations

import numpy as np

from simtune.selection.draft import Draft


def max_min(draft: Draft) -> None:
    """Max-min dispersion: each next task's most similar chosen task is the least similar possible.

    Starts with the task least similar to the pool on average. Every prefix is within a factor of 2 of the best
    smallest distance (Gonzalez 1985; Ravi, Rosenkrantz and Tayi 1994, for metric distances). A duplicate is taken
    only when nothing else is left. O(size x N x D), O(N) memory.
    """
    graph = draft.graph
    if not draft.chosen and not draft.full:
        draft.take(draft.lowest(graph.total_similarity_N))
    nearest_N = np.full(len(graph), -np.inf)
    added = 0

    def exact(tasks_M: np.ndarray) -> np.ndarray:
        return graph.cosine(tasks_M, draft.chosen).max(axis=1)

    while not draft.full:
        for task in draft.chosen[added:]:
            np.maximum(nearest_N, draft.row(task), out=nearest_N)
            added += 1
        draft.take(draft.lowest(nearest_N, graph.row_error, exact))
