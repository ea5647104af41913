"""Greedy choices by sums of similarities: `min-sum` (the study's *different*), `max-sum` (*similar*), `graph-cut`.

The study's Fig. 4 draws the mean pairwise similarity of each set, so the first two take that as the objective itself.
Ranking tasks by their mean similarity to the pool would be cheaper, and lets duplicates in (`lowest-mean`).

All three score a task by a base and its similarities to what is chosen, added up: O(size x N x D), O(N) memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simtune.selection.objective import Additions, Objective
from simtune.selection.partial_subset import PartialSubset
from simtune.selection.strategy import FigureStyle, Parameter, Strategy


def min_sum(subset: PartialSubset) -> None:
    """Max-sum dispersion: each next task adds the least similarity to the set.

    Starts with the task least similar to the pool on average. Greedy is a 2-approximation of the largest sum of
    distances where these are a metric (Ravi, Rosenkrantz and Tayi 1994; Hassin, Rubinstein and Tamir 1997). Large sets
    may contain exact duplicates: a task that is far from everything else costs little even twice. O(size x N x D), O(N)
    memory.
    """
    _start_at_extreme(subset, 1.0)
    _greedy_by_sum(subset, np.zeros(len(subset.graph)), 1.0)


def max_sum(subset: PartialSubset) -> None:
    """The mirror of `min-sum`: each next task adds the most similarity (a dense cluster).

    Starts with the task most similar to the pool on average. The densest set of a size is NP-hard to find, and greedy
    from one task has no guarantee (Asahiro, Iwama, Tamaki and Tokuyama 2000 bound the mirror, greedy removal).
    O(size x N x D), O(N) memory.
    """
    _start_at_extreme(subset, -1.0)
    _greedy_by_sum(subset, np.zeros(len(subset.graph)), -1.0)


def graph_cut(subset: PartialSubset) -> None:
    """Graph cut: similarity to the pool less `lambda` times the similarity within the set, both over ordered pairs.

    f(A) = sum over i in the pool, j in A of s_ij - lambda x sum over i, j in A of s_ij. Submodular; monotone for
    lambda <= 1/2 and similarities >= 0, where greedy reaches 1 - 1/e of the best (Nemhauser, Wolsey and Fisher 1978;
    the function as in Iyer, Khargoankar, Bilmes and Asnani 2021). O(size x N x D), O(N) memory.
    """
    weight = 2.0 * float(subset.parameters["lambda"])
    _greedy_by_sum(subset, -subset.graph.total_similarity_N, weight)


def _greedy_by_sum(subset: PartialSubset, base_N: np.ndarray, weight: float) -> None:
    """Adds the task with the lowest base + weight x (sum of its similarities to the chosen tasks), until full.

    Without a dense graph rows are float32 and their errors accumulate; tasks too close to call are compared in float64.
    """
    graph = subset.graph
    score_N = base_N.copy()
    # The sum of similarities to a set is the product with the sum of its vectors.
    sum_D = np.zeros(graph.vectors_ND.shape[1])
    added = 0

    def exact(tasks_M: np.ndarray) -> np.ndarray:
        score_M: np.ndarray = base_N[tasks_M] + weight * (graph.exact(tasks_M) @ sum_D)
        return score_M

    while not subset.is_full:
        for task in subset.chosen[added:]:
            score_N += weight * subset.row(task)
            if graph.row_error:
                sum_D += graph.exact([task])[0]
            added += 1
        subset.add(subset.lowest(score_N, abs(weight) * added * graph.row_error, exact))


def _start_at_extreme(subset: PartialSubset, sign: float) -> None:
    """Adds a first task by its similarity to the whole pool, since there is no chosen task to compare with."""
    if not subset.chosen and not subset.is_full:
        subset.add(subset.lowest(sign * subset.graph.total_similarity_N))


def _min_sum_gains(given: Additions) -> Iterator[float]:
    sum_D, size = given.pool_PD.sum(axis=0), len(given.pool_PD)
    for vector_D in given.added_KD:
        yield float(size - vector_D @ sum_D)
        sum_D, size = sum_D + vector_D, size + 1


def _graph_cut_gains(given: Additions) -> Iterator[float]:
    weight = float(given.parameters["lambda"])
    sum_D = given.pool_PD.sum(axis=0)
    everything_D = sum_D + given.candidates_CD.sum(axis=0)
    for vector_D in given.added_KD:
        own = 1.0 - vector_D @ vector_D  # A task has similarity 1 to itself, even one without a direction.
        yield float(vector_D @ everything_D + own - weight * (2.0 * (vector_D @ sum_D) + 1.0))
        sum_D = sum_D + vector_D


_DISPERSION = Objective("sum of 1 - cosine to the set", _min_sum_gains)
_MIN_SUM_KNOWN_FOR = (
    "a 2-approximation where distances are a metric; the number that Fig. 4 draws; exact duplicates may enter at large "
    "sizes"
)
_MAX_SUM_KNOWN_FOR = "no guarantee; the densest set is NP-hard to find"

DIFFERENT = Strategy(min_sum, objective=_DISPERSION, style=FigureStyle("#0072b2", "o"), known_for=_MIN_SUM_KNOWN_FOR)
SIMILAR = Strategy(max_sum, style=FigureStyle("#d55e00", "s"), known_for=_MAX_SUM_KNOWN_FOR)
MIN_SUM = Strategy(min_sum, objective=_DISPERSION, known_for="`different` under the name of its objective")
MAX_SUM = Strategy(max_sum, known_for="`similar` under the name of its objective")
GRAPH_CUT = Strategy(
    graph_cut,
    {"lambda": Parameter(0.5, at_least=0.0, help="weight of similarity within the set")},
    objective=Objective("graph cut", _graph_cut_gains),
    known_for="1 - 1/e of the best up to `lambda` 0.5. The first term is a sum over the pool, the second over the set: "
    "for a visible effect on a small set, use a `lambda` near pool / (2 x size)",
)
