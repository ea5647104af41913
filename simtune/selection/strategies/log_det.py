"""`log-det`: greedy maximum a posteriori of a determinantal point process.

Legend: N tasks of the pool, D dimensions, M some tasks, B pending columns.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simtune.selection.objective import Additions, Objective
from simtune.selection.partial_subset import PartialSubset
from simtune.selection.strategy import Parameter, Strategy

# Without a dense graph the variances are recomputed this often, before errors of float32 accumulate.
_REFRESH_EVERY = 64
_COLUMNS_TOGETHER = 32


def log_det(subset: PartialSubset) -> None:
    """Log-determinant: f(A) = log det(S_A + ridge x I), the volume that the set spans.

    Greedy MAP of a DPP (Kulesza and Taskar 2012); submodular. The ridge keeps every determinant above zero, so choices
    stay meaningful when the size passes the rank of the vectors, where plain greedy MAP divides by zero.
    Starts with the task least similar to the pool on average, since all single tasks have the same determinant.

    A task's gain is the log of its variance given the chosen ones. Chen, Zhang and Zhou (2018) update it with a
    Cholesky row of growing length, O(size^2 x N); here the conditioning is kept in the D dimensions of the vectors
    (Sherman and Morrison 1950), so a choice costs O(N x D + D^2) at any size, and O(N + D^2) memory.
    """
    from threadpoolctl import threadpool_limits

    # Products with one vector of a small pool finish before a second thread has started.
    with threadpool_limits(1 if subset.graph.dense else None, user_api="blas"):
        _greedy(subset)


def _greedy(subset: PartialSubset) -> None:
    graph = subset.graph
    ridge = float(subset.parameters["ridge"])
    if not subset.chosen and not subset.is_full:
        subset.add(subset.lowest(graph.total_similarity_N))
    given = _Conditioned(graph.vectors_ND.shape[1])
    variance_N = np.einsum("nd,nd->n", graph.vectors_ND, graph.vectors_ND).astype(np.float64) + ridge
    error = 0.0
    added = 0

    def exact(tasks_M: np.ndarray) -> np.ndarray:
        vectors_MD = graph.exact(tasks_M)
        score_M: np.ndarray = -np.einsum("md,md->m", vectors_MD @ given.matrix_DD(), vectors_MD) - ridge
        return score_M

    while not subset.is_full:
        for task in subset.chosen[added:]:
            (vector_D,) = graph.exact([task])
            direction_D = given.times(vector_D)
            own = float(vector_D @ direction_D) + ridge
            covariance_N = graph.vectors_ND @ direction_D.astype(graph.vectors_ND.dtype)
            covariance_N *= covariance_N / own
            variance_N -= covariance_N
            given.add(direction_D / np.sqrt(own))
            error += graph.row_error / float(np.sqrt(own))
            added += 1
            if error and added % _REFRESH_EVERY == 0:
                for block in graph.blocks(len(vector_D)):
                    variance_N[block] = -exact(np.arange(block.start, block.stop))
                error = 0.0
        subset.add(subset.lowest(-variance_N, error, exact))


class _Conditioned:
    """Covariance of the directions given the chosen tasks, float64 [D, D]; the prior is the identity.

    Each choice subtracts the outer product of a column. Columns are collected and subtracted several at a time, because
    rewriting the whole matrix for each choice would take most of the time.
    """

    def __init__(self, num_dimensions: int) -> None:
        self._matrix_DD = np.eye(num_dimensions)
        self._pending_BD = np.zeros((_COLUMNS_TOGETHER, num_dimensions))
        self._num_pending = 0

    def times(self, vector_D: np.ndarray) -> np.ndarray:
        pending_BD = self._pending_BD[: self._num_pending]
        product_D: np.ndarray = self._matrix_DD @ vector_D - (pending_BD @ vector_D) @ pending_BD
        return product_D

    def add(self, column_D: np.ndarray) -> None:
        self._pending_BD[self._num_pending] = column_D
        self._num_pending += 1
        if self._num_pending == _COLUMNS_TOGETHER:
            self.matrix_DD()

    def matrix_DD(self) -> np.ndarray:
        pending_BD = self._pending_BD[: self._num_pending]
        if self._num_pending:
            self._matrix_DD -= pending_BD.T @ pending_BD
            self._num_pending = 0
        return self._matrix_DD


def _marginal_gains(given: Additions) -> Iterator[float]:
    """The determinant of a set grows by a task's variance given the set; by Woodbury in D dimensions."""
    ridge = float(given.parameters["ridge"])
    gram_DD = given.pool_PD.T @ given.pool_PD + ridge * np.eye(given.pool_PD.shape[1])
    for vector_D in given.added_KD:
        yield float(np.log(ridge * (vector_D @ np.linalg.solve(gram_DD, vector_D)) + ridge))
        gram_DD += np.outer(vector_D, vector_D)


LOG_DET = Strategy(
    log_det,
    {"ridge": Parameter(1e-3, above=0.0, help="added to the diagonal")},
    objective=Objective("log det", _marginal_gains),
    known_for="greedy MAP of a determinantal point process; continues past the rank of the vectors",
)
