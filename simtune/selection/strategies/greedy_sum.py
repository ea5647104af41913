"""Greedy choices by sums of similarities: `min-sum` (the study's *different*), `max-sum` (*similar*), `graph-cut`.

The study's Fig. 4 draws the mean pairwise similarity of each set, so the first two take that as the objective itself.
Ranking tasks by their mean similarity to the pool would be cheaper, and lets duplicates in (`lowest-mean`).

All three score a task by a base and its similarities to what is chosen, added up: O(size x N x D), O(N) memory.
"""

from __future__ import annotations

import numpy as np

from simtune.selection.draft import Draft


def min_sum(draft: Draft) -> None:
    """Max-sum dispersion: each next task adds the least similarity to the set.

    Starts with the task least similar to the pool on average. Greedy is a 2-approximation of the largest sum of
    distances where these are a metric (Ravi, Rosenkrantz and Tayi 1994; Hassin, Rubinstein and Tamir 1997). Large sets
    may hold exact duplicates: what is far from everything else is cheap twice. O(size x N x D), O(N) memory.
    """
    _start_at_extreme(draft, 1.0)
    _greedy_by_sum(draft, np.zeros(len(draft.graph)), 1.0)


def max_sum(draft: Draft) -> None:
    """The mirror of `min-sum`: each next task adds the most similarity (a dense cluster).

    Starts with the task most similar to the pool on average. The densest set of a size is NP-hard to find, and greedy
    from one task has no guarantee (Asahiro, Iwama, Tamaki and Tokuyama 2000 bound the mirror, greedy removal).
    O(size x N x D), O(N) memory.
    """
    _start_at_extreme(draft, -1.0)
    _greedy_by_sum(draft, np.zeros(len(draft.graph)), -1.0)


def graph_cut(draft: Draft) -> None:
    """Graph cut: similarity to the pool less `lambda` times the similarity within the set, both over ordered pairs.

    f(A) = sum over i in the pool, j in A of s_ij - lambda x sum over i, j in A of s_ij. Submodular; monotone for
    lambda <= 1/2 and similarities >= 0, where greedy reaches 1 - 1/e of the best (Nemhauser, Wolsey and Fisher 1978;
    the function as in Iyer, Khargoankar, Bilmes and Asnani 2021). O(size x N x D), O(N) memory.
    """
    weight = 2.0 * float(draft.parameters["lambda"])
    _greedy_by_sum(draft, -draft.graph.total_similarity_N, weight)


def _greedy_by_sum(draft: Draft, base_N: np.ndarray, weight: float) -> None:
    """Takes the task with the lowest base + weight x (sum of its similarities to the chosen), until full.

    Beyond a dense graph rows are float32 and add up their errors; the few tasks in question are compared in float64.
    """
    graph = draft.graph
    score_N = base_N.copy()
    # The sum of similarities to a set is the product with the sum of its vectors.
    sum_D = np.zeros(graph.vectors_ND.shape[1])
    added = 0

    def exact(tasks_M: np.ndarray) -> np.ndarray:
        return base_N[tasks_M] + weight * (graph.exact(tasks_M) @ sum_D)

    while not draft.full:
        for task in draft.chosen[added:]:
            score_N += weight * draft.row(task)
            if graph.row_error:
                sum_D += graph.exact([task])[0]
            added += 1
        draft.take(draft.lowest(score_N, abs(weight) * added * graph.row_error, exact))


def _start_at_extreme(draft: Draft, sign: float) -> None:
    """Nothing is chosen that the first task could be compared with: the whole pool stands in."""
    if not draft.chosen and not draft.full:
        draft.take(draft.lowest(sign * draft.graph.total_similarity_N))
