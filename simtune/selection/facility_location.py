"""`facility-location`: the tasks that represent the pool best.

Legend: N tasks of the pool, M evaluated together, A those and chosen ones not yet counted, B of a block, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simtune.graph.blocks import block_ranges
from simtune.selection.draft import Draft

KEPT_TASKS = 20_000
"""Up to this many tasks the float32 similarities of the first pass are kept (1.6 GB at most)."""
_FEWEST_TOGETHER = 8
_MOST_TOGETHER = 512
_CACHED_NUMBERS = 1 << 17


def facility_location(draft: Draft) -> None:
    """Facility location: f(A) = sum over the pool of the largest similarity to A, negative ones counting as zero.

    Monotone submodular: greedy reaches 1 - 1/e of the best (Nemhauser, Wolsey and Fisher 1978). Lazy greedy (Minoux
    1978): a gain never grows, so only tasks whose old gain could still win are evaluated anew. O(N^2 x D) for the
    first gains, then in practice some tens of rows a choice. Beyond `KEPT_TASKS` rows are computed again and memory is
    O(N).
    """
    if not draft.full:
        _LazyGreedy(draft).run()


class _LazyGreedy:
    """Gains of all tasks, most of them old and so upper bounds.

    Gains are float32, which takes half the time; where they are too close to call, float64 decides.
    """

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._graph = graph = draft.graph
        self._covered_N = np.zeros(len(graph), dtype=np.float32)
        # Brought up to date when asked for.
        self._exactly_covered_N = np.zeros(len(graph))
        self._num_exactly_covered = 0
        # Rounding errors of a row are independent of each other: their sum grows with the root.
        self._rows_error = 3e-7 * float(np.sqrt(len(graph)))
        self._vectors_ND = graph.vectors_ND.astype(np.float32, copy=False)
        self._kept_NN: np.ndarray | None = None
        if draft.chosen:
            self._covered_N = self._product(np.array(draft.chosen)).max(axis=0).clip(min=0.0)
        if len(graph) <= KEPT_TASKS:
            self._kept_NN = np.empty((len(graph), len(graph)), dtype=np.float32)
        self._gain_N = np.full(len(graph), -np.inf)
        if self._kept_NN is not None:
            for block in graph.blocks():
                # Straight into its place: a copy of so much memory takes as long as the product.
                np.matmul(self._vectors_ND[block], self._vectors_ND.T, out=self._kept_NN[block])
                np.fill_diagonal(self._kept_NN[block, block], 1.0)
                self._gain_N[block] = self._gains(np.arange(block.start, block.stop))
        else:
            arrays = {"vectors_ND": self._vectors_ND, "covered_N": self._covered_N}
            ranges = block_ranges(len(graph), len(graph))
            for (begin, end), gain_M in zip(ranges, draft.map_blocks(_first_gains, arrays, ranges), strict=True):
                self._gain_N[begin:end] = gain_M
        self._fresh_N = draft.open_N.copy()

    def run(self) -> None:
        draft = self._draft
        while not draft.full:
            self._evaluate_what_could_win()
            task = draft.lowest(-self._gain_N, self._error(), self._exact)
            draft.take(task)
            np.maximum(self._covered_N, self._rows(np.array([task]))[0], out=self._covered_N)
            self._fresh_N[:] = False

    def _evaluate_what_could_win(self) -> None:
        """Evaluates tasks in order of their old gains until none that is left could win, or tie."""
        together = _FEWEST_TOGETHER if self._kept_NN is not None else _MOST_TOGETHER // 8
        self._gain_N[~self._draft.open_N] = -np.inf
        best = self._gain_N[self._fresh_N].max(initial=-np.inf)
        while True:
            stale_M = np.flatnonzero((self._gain_N >= best - 2 * self._error() - 1e-9) & ~self._fresh_N)
            stale_M = stale_M[self._draft.open_N[stale_M]]
            if not len(stale_M):
                return
            if len(stale_M) > together:
                stale_M = np.sort(stale_M[np.argpartition(-self._gain_N[stale_M], together)[:together]])
            self._gain_N[stale_M] = self._gains(stale_M)
            self._fresh_N[stale_M] = True
            best = max(best, self._gain_N[stale_M].max())
            together = min(2 * together, _MOST_TOGETHER)

    def _error(self) -> float:
        """How far a gain may be from the truth: the rows' errors, and that of adding up float32."""
        return self._rows_error + 5e-7 * float(self._gain_N.max(initial=0.0))

    def _rows(self, tasks_M: np.ndarray) -> np.ndarray:
        """Similarities of some tasks to all, float32 [M, N], a copy."""
        return self._product(tasks_M) if self._kept_NN is None else self._kept_NN[tasks_M]

    def _product(self, tasks_M: np.ndarray) -> np.ndarray:
        return _product(self._vectors_ND, tasks_M)

    def _gains(self, tasks_M: np.ndarray) -> np.ndarray:
        """What each of these tasks would add, [M]."""
        gain_M = np.empty(len(tasks_M))
        # Few rows at a time stay in the processor's cache; one at a time would cost more in calls than in sums.
        step = max(1, _CACHED_NUMBERS // len(self._graph)) if self._kept_NN is not None else _MOST_TOGETHER
        for begin in range(0, len(tasks_M), step):
            gain_M[begin : begin + step] = _added(self._rows(tasks_M[begin : begin + step]), self._covered_N)
        return gain_M

    def _exact(self, tasks_M: np.ndarray) -> np.ndarray:
        """Gains in float64, negated: the lowest wins."""
        graph, chosen = self._graph, self._draft.chosen
        pending, self._num_exactly_covered = chosen[self._num_exactly_covered :], len(chosen)
        covered_N = self._exactly_covered_N
        if "similarity_NN" in graph.__dict__:
            for task in pending:
                np.maximum(covered_N, graph.row(task), out=covered_N)
            return -np.array([np.maximum(graph.row(task) - covered_N, 0.0).sum() for task in tasks_M])
        gain_M = np.zeros(len(tasks_M))
        asked = np.concatenate([np.array(pending, dtype=np.int64), tasks_M])
        # Rows, which are summed up one by one: a product of a few vectors with all costs one reading of all.
        asked_AD = graph.exact(asked)
        for block in graph.blocks(graph.vectors_ND.shape[1]):
            similarity_AB = asked_AD @ graph.exact(block).T
            inside_A = np.flatnonzero((asked >= block.start) & (asked < block.stop))
            # A task is like itself, one without direction too.
            similarity_AB[inside_A, asked[inside_A] - block.start] = 1.0
            for row_B in similarity_AB[: len(pending)]:
                np.maximum(covered_N[block], row_B, out=covered_N[block])
            for place, row_B in enumerate(similarity_AB[len(pending) :]):
                gain_M[place] += np.maximum(row_B - covered_N[block], 0.0).sum()
        return -gain_M


def _product(vectors_ND: np.ndarray, tasks_M: np.ndarray) -> np.ndarray:
    rows_MN: np.ndarray = vectors_ND[tasks_M] @ vectors_ND.T
    # A task is like itself, one without direction too.
    rows_MN[np.arange(len(tasks_M)), tasks_M] = 1.0
    return rows_MN


def _added(rows_MN: np.ndarray, covered_N: np.ndarray) -> np.ndarray:
    """What rows add to what is covered, [M]; the rows are used up."""
    np.subtract(rows_MN, covered_N, out=rows_MN)
    np.maximum(rows_MN, 0, out=rows_MN)
    # Adds up pairwise; a product with ones is wrong by ten times as much in large pools.
    added_M: np.ndarray = rows_MN.sum(axis=1)
    return added_M


def _first_gains(arrays: Mapping[str, np.ndarray], begin: int, end: int) -> np.ndarray:
    """Gains of a block of tasks; a function of its own, so that it can run elsewhere."""
    return _added(_product(arrays["vectors_ND"], np.arange(begin, end)), arrays["covered_N"])
