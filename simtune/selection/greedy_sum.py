"""`different` and `similar`: greedy minimisation and maximisation of the sum of pairwise similarities.

The study's Fig. 4 draws the mean pairwise similarity of each set, so this is the objective itself: `different` is
greedy max-sum dispersion (Ravi, Rosenkrantz and Tayi 1994), `similar` its mirror. Ranking tasks by their mean
similarity to the pool would be cheaper, and lets duplicates in.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from simtune.graph.similarity import SimilarityGraph


def different(graph: SimilarityGraph, size: int, seed: int) -> list[int]:
    """Starts with the task least similar to the pool on average; each next adds the least similarity. O(size x N)."""
    return greedy_sum(graph.similarity_NN, size, "lowest")


def similar(graph: SimilarityGraph, size: int, seed: int) -> list[int]:
    """Starts with the task most similar to the pool on average; each next adds the most similarity. O(size x N)."""
    return greedy_sum(graph.similarity_NN, size, "highest")


def greedy_sum(similarity_NN: np.ndarray, size: int, extreme: Literal["lowest", "highest"]) -> list[int]:
    """Greedy order by the sum of similarities to what is chosen; ties go to the lower index (the earlier name)."""
    cost_NN = similarity_NN if extreme == "lowest" else -similarity_NN
    taken_N = np.zeros(len(cost_NN), dtype=bool)
    # The start has no chosen task to be compared with: the whole pool stands in.
    cost_N = cost_NN.sum(axis=1) - np.diag(cost_NN)
    order: list[int] = []
    while len(order) < min(size, len(cost_NN)):
        chosen = int(np.argmin(np.where(taken_N, np.inf, cost_N)))
        cost_N = cost_N + cost_NN[chosen] if order else cost_NN[chosen].copy()
        taken_N[chosen] = True
        order.append(chosen)
    return order
