"""`near-target` and `far-from-target`: oracles, which see the held-out tasks.

Choosing near the target beats training on everything for that target (INSTA, Lee et al. 2024; LESS, Xia et al. 2024),
and says nothing about unseen tasks: these arms are upper and lower bounds, marked as oracles wherever they appear.

Legend: N tasks of the pool, T test tasks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simtune.errors import UserError
from simtune.selection.objective import Additions, Objective, largest_cosine
from simtune.selection.partial_subset import PartialSubset
from simtune.selection.strategy import Parameter, Strategy


def near_target(subset: PartialSubset) -> None:
    """The tasks nearest to the test tasks.

    `by: mean` ranks by the mean similarity to them, `max` by the largest, `coverage` greedily raises the mean over
    test tasks of the largest similarity to the set (facility location of the target: 1 - 1/e of the best; when nothing
    raises it any more, by mean; Nemhauser, Wolsey and Fisher 1978). The rankings by `mean` and `max` are exact for
    their own sums. O(N x T x D), with `coverage` O(size x N x T) more.
    """
    if subset.parameters["by"] == "coverage":
        _cover(subset)
    subset.add_in_order(subset.ranked(-_nearness(subset)))


def far_from_target(subset: PartialSubset) -> None:
    """The tasks farthest from the test tasks, by their `mean` or their `max` similarity to them.

    A ranking, exact for the sum of these similarities: the lower bound beside `near-target`'s upper one. O(N x T x D).
    """
    subset.add_in_order(subset.ranked(_nearness(subset)))


def _nearness(subset: PartialSubset) -> np.ndarray:
    graph, target_TD = subset.graph, _target(subset)
    by_max = subset.parameters["by"] == "max"
    nearness_N = np.empty(len(graph))
    for block in graph.blocks(max(target_TD.shape)):
        similarity_TM = target_TD @ graph.exact(np.arange(block.start, block.stop)).T
        nearness_N[block] = similarity_TM.max(axis=0) if by_max else similarity_TM.mean(axis=0)
    return nearness_N


def _cover(subset: PartialSubset) -> None:
    graph, target_TD = subset.graph, _target(subset)
    similarity_TN = graph.test_similarity_TN
    covered_T = np.zeros(len(target_TD))
    added = 0

    def exact(tasks_M: np.ndarray) -> np.ndarray:
        gain_TM = np.maximum(target_TD @ graph.exact(tasks_M).T - covered_T[:, None], 0.0)
        score_M: np.ndarray = -gain_TM.sum(axis=0)
        return score_M

    while not subset.is_full:
        for task in subset.chosen[added:]:
            np.maximum(covered_T, target_TD @ graph.exact([task])[0], out=covered_T)
            added += 1
        gain_N = np.maximum(similarity_TN - covered_T[:, None], 0.0).sum(axis=0, dtype=np.float64)
        task = subset.lowest(-gain_N, graph.row_error * len(target_TD), exact)
        if exact(np.array([task]))[0] >= -1e-9:
            return
        subset.add(task)


def _target(subset: PartialSubset) -> np.ndarray:
    if not len(subset.graph.test_vectors_TD):
        raise UserError("an oracle strategy needs test tasks; give a target (--target), or another strategy")
    return subset.graph.test_vectors_TD


def _marginal_gains(given: Additions) -> Iterator[float]:
    by = given.parameters["by"]
    cosine_KT = (given.added_KD @ given.target_TD.T).clip(-1.0, 1.0)
    if by != "coverage":
        yield from (cosine_KT.mean(axis=1) if by == "mean" else cosine_KT.max(axis=1)).tolist()
        return
    covered_T = largest_cosine(given.target_TD, given.pool_PD)
    for row_T in cosine_KT:
        yield float(np.maximum(row_T - covered_T, 0.0).mean())
        np.maximum(covered_T, row_T, out=covered_T)


_KNOWN_FOR = "sees the test tasks; every table and figure says so"

NEAR_TARGET = Strategy(
    near_target,
    {"by": Parameter("mean", choices=("mean", "max", "coverage"), help="how nearness is measured")},
    oracle=True,
    objective=Objective(
        {
            "coverage": "coverage of the target",
            "mean": "mean cosine to the target",
            "max": "largest cosine to the target",
        },
        _marginal_gains,
        covers_target=lambda parameters: parameters["by"] == "coverage",
    ),
    known_for=_KNOWN_FOR,
)
FAR_FROM_TARGET = Strategy(
    far_from_target,
    {"by": Parameter("mean", choices=("mean", "max"), help="how distance is measured")},
    oracle=True,
    known_for=_KNOWN_FOR,
)
