"""The complete weighted graph of tasks: cosine similarity of every pair, without ever holding a pair too many.

Legend: N tasks of the pool, T test tasks, D dimensions, M some tasks, U different vectors.

Up to `DENSE_TASKS` tasks the graph is a float64 matrix. Beyond, it is the vectors alone: a row is a matrix product
in float32, good to `row_error`, and whoever decides by it asks `cosine` for the few pairs that are too close to call.
Both forms so give the same choices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from simtune.wording import counted

DENSE_TASKS = 8192
"""Above this a matrix of float64 would take more than 0.5 GB."""
_ROW_ERROR = 4e-6
"""Of a float32 dot product of unit vectors; some twenty times what 384 dimensions show."""
_BLOCK_BYTES = 1 << 26


@dataclass(frozen=True)
class SimilarityGraph:
    """Cosine similarities among the pool and from the test tasks to it.

    Attributes:
        names: the pool's tasks, sorted; the order of all arrays.
        categories: one a task.
        sources: the data sets a task was made from, none where unknown.
        vectors_ND: unit rows, zero where a task has no direction; float64 up to `DENSE_TASKS` tasks, else float32.
        test_vectors_TD: the same of the test tasks, float64.
        cosine_kind: `centred` where the pool's mean vector was subtracted first.
        dense: whether all similarities are held.
    """

    names: tuple[str, ...]
    categories: tuple[str, ...]
    sources: tuple[tuple[str, ...], ...]
    vectors_ND: np.ndarray
    test_vectors_TD: np.ndarray
    cosine_kind: Literal["uncentred", "centred"] = "uncentred"
    dense: bool = True

    @classmethod
    def build(
        cls,
        names: Sequence[str],
        categories: Sequence[str],
        vectors_ND: np.ndarray,
        test_vectors_TD: np.ndarray | None = None,
        sources: Sequence[Sequence[str]] | None = None,
        dense: bool | None = None,
    ) -> SimilarityGraph:
        """Builds the graph; tasks come out sorted by name, so that input order changes nothing.

        Args:
            names: of the pool's tasks, different ones.
            categories: one a task.
            vectors_ND: [N, D] of any length; a zero vector is like nothing.
            test_vectors_TD: [T, D]; none where there is no target.
            sources: data sets of each task.
            dense: whether to hold all similarities; by default up to `DENSE_TASKS` tasks.

        Raises:
            ValueError: a vector is not finite, shapes do not fit, or a name stands twice.
        """
        if len(set(names)) != len(names):
            twice = next(name for index, name in enumerate(names) if name in names[:index])
            raise ValueError(f"task {twice!r} stands twice in the graph")
        if test_vectors_TD is None:
            test_vectors_TD = np.zeros((0, vectors_ND.shape[1]))
        if vectors_ND.shape[1] != test_vectors_TD.shape[1]:
            found = f"{counted(vectors_ND.shape[1], 'dimension')}, the target's {test_vectors_TD.shape[1]}"
            raise ValueError(f"the pool's vectors have {found}")
        for label, array in (("pool", vectors_ND), ("target", test_vectors_TD)):
            rows = _rows_not_finite(array)
            if len(rows):
                who = repr(names[rows[0]]) if label == "pool" else f"number {rows[0]} of the target"
                raise ValueError(
                    f"the embedding of task {who} holds NaN or an infinity ({counted(len(rows), 'such task')})"
                )
        dense = len(names) <= DENSE_TASKS if dense is None else dense
        order_N = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
        return cls(
            names=tuple(names[index] for index in order_N),
            categories=tuple(categories[index] for index in order_N),
            sources=tuple(tuple(sources[index]) for index in order_N) if sources is not None else ((),) * len(names),
            vectors_ND=_unit_rows(vectors_ND, order_N, np.float64 if dense else np.float32),
            test_vectors_TD=_unit_rows(test_vectors_TD, np.arange(len(test_vectors_TD)), np.float64),
            dense=dense,
        )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def row_error(self) -> float:
        """The largest error of a similarity in `row` and `rows`; `cosine` is exact to rounding."""
        return 0.0 if self.dense else _ROW_ERROR

    @cached_property
    def index(self) -> dict[str, int]:
        """The place of each task."""
        return {name: place for place, name in enumerate(self.names)}

    @cached_property
    def category_names(self) -> tuple[str, ...]:
        """Every category once, sorted."""
        return tuple(sorted(set(self.categories)))

    @cached_property
    def similarity_NN(self) -> np.ndarray:
        """All similarities, float64, symmetric, 1 on the diagonal; only of a dense graph."""
        if not self.dense:
            raise ValueError(f"a matrix of {len(self)} x {len(self)} similarities is too large to hold")
        # Each different vector once: a matrix product rounds equal rows differently by their place, and tasks with
        # equal vectors would not tie.
        first: dict[bytes, int] = {}
        rows = (row.tobytes() for row in self.vectors_ND + 0.0)
        place_N = np.array([first.setdefault(row, len(first)) for row in rows], dtype=np.int64)
        _, tasks_U = np.unique(place_N, return_index=True)
        unique_UD = self.vectors_ND[tasks_U]
        similarity_NN: np.ndarray = unique_UD @ unique_UD.T
        np.clip(similarity_NN, -1.0, 1.0, out=similarity_NN)
        np.fill_diagonal(similarity_NN, unique_UD.any(axis=1))
        if len(tasks_U) < len(self):
            similarity_NN = similarity_NN[np.ix_(place_N, place_N)]
        np.fill_diagonal(similarity_NN, 1.0)
        return similarity_NN

    @cached_property
    def test_similarity_TN(self) -> np.ndarray:
        """Of each test task to each pool task, float64 [T, N], or float32 where the graph is not dense."""
        if self.dense:
            return np.clip(self.test_vectors_TD @ self.vectors_ND.T, -1.0, 1.0)
        return np.clip(self.test_vectors_TD.astype(np.float32) @ self.vectors_ND.T, -1.0, 1.0)

    def row(self, task: int) -> np.ndarray:
        """Similarities of one task to all, [N], good to `row_error`."""
        if self.dense:
            return self.similarity_NN[task]
        row_N = self.vectors_ND @ self.vectors_ND[task]
        row_N[task] = 1.0
        return row_N

    def rows(self, tasks: Sequence[int] | np.ndarray) -> np.ndarray:
        """Similarities of some tasks to all, [M, N], good to `row_error`; the caller bounds M."""
        if self.dense:
            return self.similarity_NN[tasks]
        rows_MN = self.vectors_ND[tasks] @ self.vectors_ND.T
        rows_MN[np.arange(len(tasks)), tasks] = 1.0
        return rows_MN

    def blocks(self, num_columns: int | None = None) -> Iterator[slice]:
        """Ranges of tasks for which `num_columns` float64 each (the pool's size by default) take some 64 MB."""
        step = max(1, _BLOCK_BYTES // (8 * max(1, len(self) if num_columns is None else num_columns)))
        return (slice(begin, min(begin + step, len(self))) for begin in range(0, len(self), step))

    def cosine(self, tasks: Sequence[int] | np.ndarray, others: Sequence[int] | np.ndarray) -> np.ndarray:
        """Exact similarities of some tasks to others, float64."""
        if self.dense:
            # Rows first: they lie together, and are few.
            return self.similarity_NN[np.asarray(tasks)][:, np.asarray(others)]
        return np.clip(self.exact(tasks) @ self.exact(others).T, -1.0, 1.0)

    def exact(self, tasks: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        """Unit vectors of some tasks in float64 [M, D]; not to be written to."""
        vectors_MD: np.ndarray = self.vectors_ND[tasks]
        return vectors_MD if self.dense else _normalised(vectors_MD.astype(np.float64))

    @cached_property
    def total_similarity_N(self) -> np.ndarray:
        """Sum of each task's similarities to all others, float64 [N]; linear in N through the sum of all vectors."""
        if self.dense:
            return self.similarity_NN.sum(axis=1) - 1.0
        blocks = [np.arange(block.start, block.stop) for block in self.blocks(self.vectors_ND.shape[1])]
        # Of exact vectors: rows of float32 miss length 1 by enough to break ties.
        sum_D = np.zeros(self.vectors_ND.shape[1])
        for tasks in blocks:
            sum_D += self.exact(tasks).sum(axis=0)
        total_N = np.empty(len(self))
        for tasks in blocks:
            vectors_MD = self.exact(tasks)
            total_N[tasks] = vectors_MD @ sum_D - vectors_MD.any(axis=1)
        return total_N

    @cached_property
    def mean_vector_D(self) -> np.ndarray:
        """The pool's mean vector, float64 [D]."""
        return self.vectors_ND.mean(axis=0, dtype=np.float64) if len(self) else np.zeros(self.vectors_ND.shape[1])

    @cached_property
    def centred(self) -> SimilarityGraph:
        """The graph of the same tasks with the pool's mean vector subtracted before lengths are made 1.

        Sentence encoders put all texts in a narrow cone (Ethayarajh 2019); what is left after centring is what
        tells tasks apart.
        """
        if self.cosine_kind == "centred":
            return self
        return replace(
            self,
            vectors_ND=centred_rows(self.vectors_ND, self.mean_vector_D),
            test_vectors_TD=centred_rows(self.test_vectors_TD, self.mean_vector_D),
            cosine_kind="centred",
        )

    @cached_property
    def blind(self) -> SimilarityGraph:
        """The same pool with no test task: what a strategy sees that may not look at them."""
        blind = replace(self, test_vectors_TD=self.test_vectors_TD[:0])
        # Computed once for both.
        if self.dense:
            blind.__dict__["similarity_NN"] = self.similarity_NN
        return blind


def _rows_not_finite(vectors_ND: np.ndarray) -> np.ndarray:
    if np.isfinite(vectors_ND.sum(dtype=np.float64)):
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(~np.isfinite(vectors_ND).all(axis=1))


def _normalised(vectors_MD: np.ndarray) -> np.ndarray:
    """Rows of length 1 in float64; zero rows stay."""
    lengths_M = np.sqrt(np.einsum("md,md->m", vectors_MD, vectors_MD))
    return vectors_MD / np.where(lengths_M > 0, lengths_M, 1.0)[:, None]


def _unit_rows(vectors_ND: np.ndarray, order_N: np.ndarray, dtype: type) -> np.ndarray:
    """Rows in this order with length 1, a block at a time so that no second copy in float64 is made.

    Rows of float32 that have it to rounding already stay as they are, so that `exact` gives what a dense graph holds.
    """
    unit_ND: np.ndarray = np.empty(vectors_ND.shape, dtype=dtype)
    step = max(1, _BLOCK_BYTES // (8 * max(1, vectors_ND.shape[1])))
    for begin in range(0, len(order_N), step):
        given_MD = vectors_ND[order_N[begin : begin + step]]
        normalised_MD = _normalised(given_MD.astype(np.float64))
        if dtype == vectors_ND.dtype == np.float32:
            near_M = np.abs(normalised_MD - given_MD).max(axis=1, initial=0.0) < 1e-6
            normalised_MD = np.where(near_M[:, None], given_MD, normalised_MD)
        unit_ND[begin : begin + step] = normalised_MD
    return unit_ND


def centred_rows(vectors_ND: np.ndarray, mean_D: np.ndarray) -> np.ndarray:
    """Vectors less the mean with length 1, or 0 where nothing is left, in the vectors' own precision."""
    centred_ND = np.empty_like(vectors_ND)
    step = max(1, _BLOCK_BYTES // (8 * max(1, vectors_ND.shape[1])))
    for begin in range(0, len(vectors_ND), step):
        shifted_MD = vectors_ND[begin : begin + step].astype(np.float64) - mean_D
        # Equal vectors leave nothing but rounding, which has no direction.
        shifted_MD[np.einsum("md,md->m", shifted_MD, shifted_MD) < 1e-20] = 0.0
        centred_ND[begin : begin + step] = _normalised(shifted_MD)
    return centred_ND
