"""What each next task adds to a set, in the unit of the objective that chose it.

Computed anew from the vectors in float64, apart from the strategies, so that a printed gain is exact whatever
shortcuts a choice among a hundred thousand tasks took.

Legend: P tasks of the set at the start, K tasks added one after the other, C candidates, T target tasks, D dimensions.
All vectors have length 1, or 0 where a task has no direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from simtune.graph.similarity import SimilarityGraph

_PAIRS_AT_ONCE = 1 << 23


@dataclass(frozen=True)
class Additions:
    """A set, and the order in which tasks are added to it.

    Attributes:
        places_K: where the added tasks stand among the candidates.
        parameters: the strategy's own, every default filled in.
    """

    pool_PD: np.ndarray
    candidates_CD: np.ndarray
    target_TD: np.ndarray
    places_K: Sequence[int]
    parameters: Mapping[str, Any]

    @classmethod
    def of(
        cls, graph: SimilarityGraph, given: Sequence[int], added: Sequence[int], parameters: Mapping[str, Any]
    ) -> Additions:
        """From places in a graph: tasks that are given, and tasks added to them; all not given are candidates."""
        rest = np.setdiff1d(np.arange(len(graph)), given)
        return cls(
            graph.exact(list(given)),
            graph.exact(rest),
            graph.test_vectors_TD,
            [int(place) for place in np.searchsorted(rest, added)],
            parameters,
        )

    @property
    def added_KD(self) -> np.ndarray:
        return self.candidates_CD[list(self.places_K)]


@dataclass(frozen=True)
class Objective:
    """What a strategy adds up.

    Attributes:
        unit: of its gains, in a few words; one for each value of `by` where the strategy takes that.
        gains: one a task added, in order.
    """

    unit: str | Mapping[str, str]
    gains: Callable[[Additions], Iterator[float]]

    def unit_with(self, parameters: Mapping[str, Any]) -> str:
        """The unit under these parameters."""
        return self.unit if isinstance(self.unit, str) else self.unit[parameters["by"]]


def largest_cosine(tasks_MD: np.ndarray, set_PD: np.ndarray) -> np.ndarray:
    """The largest cosine of each task to a set, negative ones counting as zero, [M]; a block at a time."""
    largest_M = np.zeros(len(tasks_MD))
    step = max(1, _PAIRS_AT_ONCE // max(1, len(set_PD)))
    for begin in range(0, len(tasks_MD), step):
        cosine_MP = tasks_MD[begin : begin + step] @ set_PD.T
        largest_M[begin : begin + step] = cosine_MP.max(axis=1, initial=0.0)
    return largest_M.clip(max=1.0)


def _facility_location(given: Additions) -> Iterator[float]:
    # The pool's own tasks are represented by themselves already: only candidates can gain.
    covered_C = largest_cosine(given.candidates_CD, given.pool_PD)
    for place in given.places_K:
        row_C = (given.candidates_CD @ given.candidates_CD[place]).clip(max=1.0)
        row_C[place] = 1.0
        yield float(np.maximum(row_C - covered_C, 0.0).sum())
        np.maximum(covered_C, row_C, out=covered_C)


def _near_target(given: Additions) -> Iterator[float]:
    by = given.parameters["by"]
    cosine_KT = (given.added_KD @ given.target_TD.T).clip(-1.0, 1.0)
    if by != "coverage":
        yield from (cosine_KT.mean(axis=1) if by == "mean" else cosine_KT.max(axis=1)).tolist()
        return
    covered_T = largest_cosine(given.target_TD, given.pool_PD)
    for row_T in cosine_KT:
        yield float(np.maximum(row_T - covered_T, 0.0).mean())
        np.maximum(covered_T, row_T, out=covered_T)


def _max_min(given: Additions) -> Iterator[float]:
    for place, vector_D in enumerate(given.added_KD):
        nearest = max(
            (given.pool_PD @ vector_D).max(initial=-1.0), (given.added_KD[:place] @ vector_D).max(initial=-1.0)
        )
        yield 1.0 - min(1.0, float(nearest))


def _min_sum(given: Additions) -> Iterator[float]:
    sum_D, size = given.pool_PD.sum(axis=0), len(given.pool_PD)
    for vector_D in given.added_KD:
        yield float(size - vector_D @ sum_D)
        sum_D, size = sum_D + vector_D, size + 1


def _graph_cut(given: Additions) -> Iterator[float]:
    weight = float(given.parameters["lambda"])
    sum_D = given.pool_PD.sum(axis=0)
    everything_D = sum_D + given.candidates_CD.sum(axis=0)
    for vector_D in given.added_KD:
        own = 1.0 - vector_D @ vector_D  # A task is like itself, even one without a direction.
        yield float(vector_D @ everything_D + own - weight * (2.0 * (vector_D @ sum_D) + 1.0))
        sum_D = sum_D + vector_D


def _log_det(given: Additions) -> Iterator[float]:
    """The determinant of a set grows by a task's variance given the set; by Woodbury in D dimensions."""
    ridge = float(given.parameters["ridge"])
    gram_DD = given.pool_PD.T @ given.pool_PD + ridge * np.eye(given.pool_PD.shape[1])
    for vector_D in given.added_KD:
        yield float(np.log(ridge * (vector_D @ np.linalg.solve(gram_DD, vector_D)) + ridge))
        gram_DD += np.outer(vector_D, vector_D)


OBJECTIVES = MappingProxyType(
    {
        "near-target": Objective(
            {
                "coverage": "coverage of the target",
                "mean": "mean cosine to the target",
                "max": "largest cosine to the target",
            },
            _near_target,
        ),
        "facility-location": Objective("cosine gained over candidates", _facility_location),
        "max-min": Objective("1 - cosine to the nearest", _max_min),
        "min-sum": Objective("sum of 1 - cosine to the set", _min_sum),
        "different": Objective("sum of 1 - cosine to the set", _min_sum),
        "graph-cut": Objective("graph cut", _graph_cut),
        "log-det": Objective("log det", _log_det),
    }
)
"""Strategies whose order is that of marginal gains given a pool; by their names in `simtune.selection`."""
