"""`facility-location`: the tasks that represent the pool best.

Legend: N tasks of the pool, M some of them, A covered better by a choice, or that could be, K chosen, B of a block, D
dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from simtune.graph.blocks import block_ranges
from simtune.selection.objective import Additions, Objective, largest_cosine
from simtune.selection.partial_subset import PartialSubset
from simtune.selection.strategy import Strategy

KEPT_TASKS = 20_000
"""Up to this many tasks the float32 similarities of the first pass are stored (1.6 GB at most)."""
_CACHED_BYTES = 1 << 19
_PAIR_ERROR = 1e-5
"""An upper bound of the combined error of float32 similarities and coverage."""
_NOTHING = 1e-10


def facility_location(subset: PartialSubset) -> None:
    """Facility location: f(A) = sum over the pool of the largest similarity to A, negative ones counting as zero.

    Monotone submodular: greedy reaches 1 - 1/e of the best (Nemhauser, Wolsey and Fisher 1978). A choice lowers the
    gains of others only through the tasks that it covers better than before, and these become few: in practice k
    choices read about N x ln k rows in all, fewer than lazy greedy (Minoux 1978) evaluates. O(N^2 x D) for the first
    gains. Beyond `KEPT_TASKS` rows are computed again and memory is O(N).
    """
    if not subset.is_full:
        _Greedy(subset).run()


class _Greedy:
    """Gains of all tasks, updated after every choice.

    Updates are float32 and accumulate errors. Gains that may be the largest are summed again, and where they are too
    close to call, float64 decides.
    """

    def __init__(self, subset: PartialSubset) -> None:
        self._subset = subset
        self._graph = graph = subset.graph
        self._covered_N = np.zeros(len(graph), dtype=np.float32)
        # Rounding errors of a row are independent of each other: their sum grows with the root.
        self._rows_error = 3e-7 * float(np.sqrt(len(graph)))
        self._vectors_ND = graph.vectors_ND.astype(np.float32, copy=False)
        self._kept_NN: np.ndarray | None = None
        if subset.chosen:
            self._covered_N = self._product(np.array(subset.chosen)).max(axis=0).clip(min=0.0)
        if len(graph) <= KEPT_TASKS:
            self._kept_NN = np.empty((len(graph), len(graph)), dtype=np.float32)
            for block in graph.blocks():
                # Written directly into the result: copying so much memory takes as long as the product.
                np.matmul(self._vectors_ND[block], self._vectors_ND.T, out=self._kept_NN[block])
            np.fill_diagonal(self._kept_NN, 1.0)
        self._gain_N = np.empty(len(graph))
        self._nothing_to_gain = False
        self._has_matrix = graph.has_matrix
        # After the first `_num_exact` choices; updated when needed.
        self._exactly_covered_N = np.zeros(len(graph))
        self._chosen_KD = np.empty((min(subset.size, len(graph)), graph.vectors_ND.shape[1]))
        self._num_exact = 0
        self._sum_up_all()

    def run(self) -> None:
        subset = self._subset
        while not subset.is_full and not self._nothing_to_gain:
            self._gain_N[~subset.open_N] = -np.inf
            in_question_M = self._in_question()
            if len(in_question_M) > 1:
                self._sum_up(in_question_M)
                task = subset.lowest(-self._gain_N, self._error(), self._exact)
            else:
                task = int(in_question_M[0])
            subset.add(task)
            self._cover(task)
        # All remaining tasks gain nothing, now and later.
        subset.add_in_order(range(len(self._graph)))

    def _sum_up_all(self) -> None:
        """Computes the gains of all tasks from their rows and the current coverage."""
        graph = self._graph
        if self._kept_NN is not None:
            for part in self._parts(len(graph)):
                self._gain_N[part] = _added(self._kept_NN[part], self._covered_N)
        else:
            arrays = {"vectors_ND": self._vectors_ND, "covered_N": self._covered_N}
            ranges = block_ranges(len(graph), len(graph))
            for (begin, end), gain_M in zip(ranges, self._subset.map_blocks(_gains, arrays, ranges), strict=True):
                self._gain_N[begin:end] = gain_M
        # Later updates subtract at most the gain, which bounds the sum of their errors.
        self._updates_error = 2 * self._rows_error + 1e-6 * float(self._gain_N.max(initial=0.0))

    def _in_question(self) -> np.ndarray:
        """Tasks whose gain may be the largest, given the errors of updates."""
        return np.flatnonzero(self._gain_N >= self._gain_N.max() - 2 * self._updates_error)

    def _sum_up(self, in_question_M: np.ndarray) -> None:
        """Recomputes these gains, then those that may be the largest as a result, until none is left."""
        summed_N = np.zeros(len(self._gain_N), dtype=bool)
        while len(in_question_M):
            for part in self._parts(len(in_question_M)):
                tasks_M = in_question_M[part]
                self._gain_N[tasks_M] = _added(self._rows(tasks_M), self._covered_N)
            summed_N[in_question_M] = True
            in_question_M = self._in_question()
            in_question_M = in_question_M[~summed_N[in_question_M]]

    def _cover(self, task: int) -> None:
        """Updates the coverage and all gains after a choice."""
        (row_N,) = self._rows(np.array([task]))
        better_A = np.flatnonzero(row_N > self._covered_N)
        # For each task that is covered better now, a gain loses the difference between the old and the new coverage.
        before_A1 = self._covered_N[better_A, None]
        more_A1 = row_N[better_A, None] - before_A1
        self._covered_N[better_A] = row_N[better_A]
        if 2 * len(better_A) > len(self._graph):
            # Hardly more rows than an update, and the errors are reset.
            self._sum_up_all()
            return
        for part in self._parts(len(better_A)):
            lost_AN = self._rows(better_A[part])
            lost_AN -= before_A1[part]
            np.clip(lost_AN, 0.0, more_A1[part], out=lost_AN)
            self._gain_N -= lost_AN.sum(axis=0)

    def _parts(self, num_rows: int) -> list[slice]:
        """Blocks of rows: stored rows in blocks that fit the CPU's cache, computed rows in larger ones."""
        num_tasks = len(self._graph)
        kept = self._kept_NN is not None
        ranges = block_ranges(num_rows, num_tasks, _CACHED_BYTES) if kept else block_ranges(num_rows, num_tasks)
        return [slice(begin, end) for begin, end in ranges]

    def _error(self) -> float:
        """The largest error of a recomputed gain: that of the rows and that of summing float32."""
        return self._rows_error + 5e-7 * float(self._gain_N.max(initial=0.0))

    def _rows(self, tasks_M: np.ndarray) -> np.ndarray:
        """Similarities of some tasks to all, float32 [M, N], a copy."""
        return self._product(tasks_M) if self._kept_NN is None else self._kept_NN[tasks_M]

    def _product(self, tasks_M: np.ndarray) -> np.ndarray:
        return _product(self._vectors_ND, tasks_M)

    def _exact(self, tasks_M: np.ndarray) -> np.ndarray:
        """Negated gains in float64: the lowest wins."""
        pending = self._subset.chosen[self._num_exact :]
        gain_M = (self._gains_from_matrix if self._has_matrix else self._exact_gains)(tasks_M, pending)
        self._num_exact += len(pending)
        self._nothing_to_gain = bool(gain_M.max() <= _NOTHING)
        return -gain_M

    def _gains_from_matrix(self, tasks_M: np.ndarray, pending: list[int]) -> np.ndarray:
        """Gains from the similarities that the graph has in float64 already."""
        covered_N = self._exactly_covered_N
        for task in pending:
            np.maximum(covered_N, self._graph.row(task), out=covered_N)
        return np.array([np.maximum(self._graph.row(task) - covered_N, 0.0).sum() for task in tasks_M])

    def _exact_gains(self, tasks_M: np.ndarray, pending: list[int]) -> np.ndarray:
        """Gains from the vectors, summed over the tasks that one of the candidates may cover better."""
        graph, chosen, gain_M = self._graph, self._subset.chosen, np.zeros(len(tasks_M))
        self._chosen_KD[self._num_exact : len(chosen)] = graph.exact(pending)
        asked_MD, chosen_KD = graph.exact(tasks_M), self._chosen_KD[: len(chosen)]
        could_gain_N = np.zeros(len(graph), dtype=bool)
        for part in self._parts(len(tasks_M)):
            could_gain_N |= (self._rows(tasks_M[part]) > self._covered_N - _PAIR_ERROR).any(axis=0)
        to_cover_A = np.flatnonzero(could_gain_N)
        for begin, end in block_ranges(len(to_cover_A), 2 * max(*asked_MD.shape, len(chosen_KD))):
            tasks_B = to_cover_A[begin:end]
            vectors_BD = graph.exact(tasks_B)
            covered_B = (vectors_BD @ chosen_KD.T).max(axis=1, initial=0.0)
            covered_B[np.isin(tasks_B, chosen)] = 1.0
            above_MB = asked_MD @ vectors_BD.T
            # A task has similarity 1 to itself, even one without a direction.
            above_MB[tasks_M[:, None] == tasks_B] = 1.0
            above_MB -= covered_B
            gain_M += np.maximum(above_MB, 0.0, out=above_MB).sum(axis=1)
        return gain_M


def _product(vectors_ND: np.ndarray, tasks_M: np.ndarray) -> np.ndarray:
    rows_MN: np.ndarray = vectors_ND[tasks_M] @ vectors_ND.T
    # A task has similarity 1 to itself, even one without a direction.
    rows_MN[np.arange(len(tasks_M)), tasks_M] = 1.0
    return rows_MN


def _added(rows_MN: np.ndarray, covered_N: np.ndarray) -> np.ndarray:
    """The coverage that each row adds, [M]."""
    above_MN = rows_MN - covered_N
    # Three times as fast as `maximum` with a number.
    np.clip(above_MN, 0.0, np.inf, out=above_MN)
    # A pairwise sum; the error of a product with ones is ten times as large in large pools.
    added_M: np.ndarray = above_MN.sum(axis=1)
    return added_M


def _gains(arrays: Mapping[str, np.ndarray], begin: int, end: int) -> np.ndarray:
    """Gains of a block of tasks; a module-level function, so that it can run in another process."""
    return _added(_product(arrays["vectors_ND"], np.arange(begin, end)), arrays["covered_N"])


def _marginal_gains(given: Additions) -> Iterator[float]:
    # The pool's own tasks are covered by themselves: only candidates can gain.
    covered_C = largest_cosine(given.candidates_CD, given.pool_PD)
    for index in given.added_K:
        row_C = (given.candidates_CD @ given.candidates_CD[index]).clip(max=1.0)
        row_C[index] = 1.0
        yield float(np.maximum(row_C - covered_C, 0.0).sum())
        np.maximum(covered_C, row_C, out=covered_C)


FACILITY_LOCATION = Strategy(
    facility_location,
    objective=Objective("cosine gained over candidates", _marginal_gains, represents_candidates=True),
    known_for="1 - 1/e of the best; the highest coverage of the pool",
)
