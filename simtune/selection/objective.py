"""The set function that a strategy maximises, and what each further task adds to it.

Gains are recomputed from the vectors in float64, independently of the strategies, so that a printed gain is exact
whatever approximations a choice among a hundred thousand tasks used.

Legend: P tasks of the set at the start, K tasks added one after the other, C candidates, T target tasks, D dimensions.
All vectors have length 1, or 0 where a task has no direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simtune.graph.similarity import SimilarityGraph

_PAIRS_AT_ONCE = 1 << 23


@dataclass(frozen=True)
class Additions:
    """A set, and the order in which tasks are added to it.

    Attributes:
        pool_PD: vectors of the set at the start.
        candidates_CD: vectors of the tasks that may be added.
        target_TD: vectors of the target's tasks; none without a target.
        added_K: index of each added task among the candidates.
        parameters: the strategy's own, every default filled in.
    """

    pool_PD: np.ndarray
    candidates_CD: np.ndarray
    target_TD: np.ndarray
    added_K: Sequence[int]
    parameters: Mapping[str, Any]

    @classmethod
    def from_graph(
        cls, graph: SimilarityGraph, given: Sequence[int], added: Sequence[int], parameters: Mapping[str, Any]
    ) -> Additions:
        """From indices in a graph: the tasks given, and the tasks added to them; all tasks not given are candidates."""
        rest = np.setdiff1d(np.arange(len(graph)), given)
        return cls(
            pool_PD=graph.exact(list(given)),
            candidates_CD=graph.exact(rest),
            target_TD=graph.test_vectors_TD,
            added_K=[int(index) for index in np.searchsorted(rest, added)],
            parameters=parameters,
        )

    @property
    def added_KD(self) -> np.ndarray:
        """Vectors of the added tasks, in order."""
        return self.candidates_CD[list(self.added_K)]


@dataclass(frozen=True)
class Objective:
    """The set function of a strategy.

    Attributes:
        unit: of its gains, in a few words; one for each value of `by` where the strategy takes that parameter.
        gains: one for each task added, in order.
        covers_target: whether, with these parameters, it raises the coverage of the target. Then a gain of 0 means
            that no further task can raise it.
        represents_candidates: whether a chosen task stands for the candidates that are similar to it.
    """

    unit: str | Mapping[str, str]
    gains: Callable[[Additions], Iterator[float]]
    covers_target: Callable[[Mapping[str, Any]], bool] = lambda parameters: False
    represents_candidates: bool = False

    def unit_with(self, parameters: Mapping[str, Any]) -> str:
        """The unit with these parameters."""
        return self.unit if isinstance(self.unit, str) else self.unit[parameters["by"]]


def largest_cosine(tasks_MD: np.ndarray, set_PD: np.ndarray) -> np.ndarray:
    """The largest cosine of each task to a set, negative ones counting as zero, [M]; computed in blocks."""
    largest_M = np.zeros(len(tasks_MD))
    step = max(1, _PAIRS_AT_ONCE // max(1, len(set_PD)))
    for begin in range(0, len(tasks_MD), step):
        cosine_MP = tasks_MD[begin : begin + step] @ set_PD.T
        largest_M[begin : begin + step] = cosine_MP.max(axis=1, initial=0.0)
    return largest_M.clip(max=1.0)
