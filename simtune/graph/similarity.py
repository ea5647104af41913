"""The complete weighted graph of tasks: the cosine similarity of every pair.

Up to `DENSE_TASKS` tasks the graph holds all similarities as a float64 matrix. Larger graphs hold only the vectors: a
row of similarities is a product in float32, accurate to `row_error`, and a strategy that decides by it calls `cosine`
for the few pairs that are too close to call. So both forms lead to the same choices.

Legend: N tasks of the pool, T test tasks, D dimensions, M some tasks, U different vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from simtune.graph.unit_vectors import centred_rows, normalised, rows_not_finite, unit_rows_in_order
from simtune.wording import counted

DENSE_TASKS = 8192
"""Above this a float64 matrix would take more than 0.5 GB."""
_ROW_ERROR = 4e-6
"""Of a float32 dot product of unit vectors; about twenty times what was observed with 384 dimensions."""
_BLOCK_BYTES = 1 << 26


class _SimilarityMatrix:
    """All similarities of some unit vectors, computed when they are first needed."""

    def __init__(self, vectors_ND: np.ndarray) -> None:
        self._vectors_ND = vectors_ND
        self._similarity_NN: np.ndarray | None = None

    @property
    def computed(self) -> bool:
        return self._similarity_NN is not None

    def get(self) -> np.ndarray:
        """Float64 [N, N], symmetric, 1 on the diagonal."""
        if self._similarity_NN is None:
            self._similarity_NN = self._compute()
        return self._similarity_NN

    def _compute(self) -> np.ndarray:
        # Each different vector once: a matrix product rounds equal rows differently depending on their position, and
        # tasks with equal vectors would not tie.
        first: dict[bytes, int] = {}
        rows = (row.tobytes() for row in self._vectors_ND + 0.0)
        number_N = np.array([first.setdefault(row, len(first)) for row in rows], dtype=np.int64)
        _, tasks_U = np.unique(number_N, return_index=True)
        unique_UD = self._vectors_ND[tasks_U]
        similarity_NN: np.ndarray = unique_UD @ unique_UD.T
        np.clip(similarity_NN, -1.0, 1.0, out=similarity_NN)
        np.fill_diagonal(similarity_NN, unique_UD.any(axis=1))
        if len(tasks_U) < len(number_N):
            similarity_NN = similarity_NN[np.ix_(number_N, number_N)]
        np.fill_diagonal(similarity_NN, 1.0)
        return similarity_NN


@dataclass(frozen=True, eq=False)
class SimilarityGraph:
    """Cosine similarities within the pool and between test tasks and the pool.

    Attributes:
        names: the pool's tasks, sorted; the order of all arrays.
        categories: one for each task.
        sources: the data sets that a task was made from, none where unknown.
        vectors_ND: unit rows, zero where a task has no direction; float64 up to `DENSE_TASKS` tasks, else float32.
        test_vectors_TD: unit rows of the test tasks, float64.
        is_centred: whether the pool's mean vector was subtracted first.
        dense: whether all similarities are held as a matrix.
    """

    names: tuple[str, ...]
    categories: tuple[str, ...]
    sources: tuple[tuple[str, ...], ...]
    vectors_ND: np.ndarray
    test_vectors_TD: np.ndarray
    is_centred: bool = False
    dense: bool = True
    _matrix: _SimilarityMatrix = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_matrix", _SimilarityMatrix(self.vectors_ND))

    @classmethod
    def build(
        cls,
        names: Sequence[str],
        categories: Sequence[str],
        vectors_ND: np.ndarray,
        test_vectors_TD: np.ndarray | None = None,
        sources: Sequence[Sequence[str]] | None = None,
    ) -> SimilarityGraph:
        """Builds the graph; tasks are sorted by name, so that the order of the input has no effect.

        Args:
            names: of the pool's tasks, each once.
            categories: one for each task.
            vectors_ND: [N, D] of any length; a zero vector has similarity 0 to everything.
            test_vectors_TD: [T, D]; none where there is no target.
            sources: data sets of each task.

        Raises:
            ValueError: a vector is not finite, shapes do not fit, or a name is given twice.
        """
        if len(set(names)) != len(names):
            duplicate = next(name for index, name in enumerate(names) if name in names[:index])
            raise ValueError(f"duplicate task name {duplicate!r}")
        if test_vectors_TD is None:
            test_vectors_TD = np.zeros((0, vectors_ND.shape[1]))
        if vectors_ND.shape[1] != test_vectors_TD.shape[1]:
            found = f"{counted(vectors_ND.shape[1], 'dimension')}, but the target's have {test_vectors_TD.shape[1]}"
            raise ValueError(f"the pool's vectors have {found}")
        for label, array in (("pool", vectors_ND), ("target", test_vectors_TD)):
            rows = rows_not_finite(array)
            if len(rows):
                who = repr(names[rows[0]]) if label == "pool" else f"number {rows[0]} of the target"
                raise ValueError(
                    f"the embedding of task {who} contains NaN or an infinity ({counted(len(rows), 'such task')})"
                )
        dense = len(names) <= DENSE_TASKS
        order_N = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
        return cls(
            names=tuple(names[index] for index in order_N),
            categories=tuple(categories[index] for index in order_N),
            sources=tuple(tuple(sources[index]) for index in order_N) if sources is not None else ((),) * len(names),
            vectors_ND=unit_rows_in_order(vectors_ND, order_N, np.float64 if dense else np.float32),
            test_vectors_TD=unit_rows_in_order(test_vectors_TD, np.arange(len(test_vectors_TD)), np.float64),
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
        """The index of each task."""
        return {name: index for index, name in enumerate(self.names)}

    @cached_property
    def category_names(self) -> tuple[str, ...]:
        """Every category once, sorted."""
        return tuple(sorted(set(self.categories)))

    @property
    def similarity_NN(self) -> np.ndarray:
        """All similarities, float64, symmetric, 1 on the diagonal; of a dense graph only.

        Raises:
            ValueError: the graph is too large.
        """
        if not self.dense:
            raise ValueError(f"a matrix of {len(self)} x {len(self)} similarities is too large to hold")
        return self._matrix.get()

    @property
    def has_matrix(self) -> bool:
        """Whether `similarity_NN` has been computed already."""
        return self._matrix.computed

    @cached_property
    def test_similarity_TN(self) -> np.ndarray:
        """Of each test task to each pool task, float64 [T, N], or float32 where the graph is not dense."""
        test_TD = self.test_vectors_TD if self.dense else self.test_vectors_TD.astype(np.float32)
        cosine_TN: np.ndarray = np.clip(test_TD @ self.vectors_ND.T, -1.0, 1.0)
        return cosine_TN

    def row(self, task: int) -> np.ndarray:
        """Similarities of one task to all, [N], accurate to `row_error`."""
        row_N: np.ndarray
        if self.dense:
            row_N = self.similarity_NN[task]
            return row_N
        row_N = self.vectors_ND @ self.vectors_ND[task]
        row_N[task] = 1.0
        return row_N

    def rows(self, tasks: Sequence[int] | np.ndarray) -> np.ndarray:
        """Similarities of some tasks to all, [M, N], accurate to `row_error`; the caller limits M."""
        rows_MN: np.ndarray
        if self.dense:
            rows_MN = self.similarity_NN[tasks]
            return rows_MN
        rows_MN = self.vectors_ND[tasks] @ self.vectors_ND.T
        rows_MN[np.arange(len(tasks)), tasks] = 1.0
        return rows_MN

    def blocks(self, num_columns: int | None = None) -> Iterator[slice]:
        """Ranges of tasks for which `num_columns` float64 each (the pool's size by default) take about 64 MB."""
        step = max(1, _BLOCK_BYTES // (8 * max(1, len(self) if num_columns is None else num_columns)))
        return (slice(begin, min(begin + step, len(self))) for begin in range(0, len(self), step))

    def cosine(self, tasks: Sequence[int] | np.ndarray, others: Sequence[int] | np.ndarray) -> np.ndarray:
        """Exact similarities of some tasks to others, float64."""
        cosine_MK: np.ndarray
        if self.dense:
            # Rows first: they are contiguous and few.
            cosine_MK = self.similarity_NN[np.asarray(tasks)][:, np.asarray(others)]
        else:
            cosine_MK = np.clip(self.exact(tasks) @ self.exact(others).T, -1.0, 1.0)
        return cosine_MK

    def exact(self, tasks: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        """Unit vectors of some tasks in float64 [M, D]; read only."""
        vectors_MD: np.ndarray = self.vectors_ND[tasks]
        return vectors_MD if self.dense else normalised(vectors_MD.astype(np.float64))

    @cached_property
    def total_similarity_N(self) -> np.ndarray:
        """Sum of each task's similarities to all others, float64 [N]; linear in N through the sum of all vectors."""
        if self.dense:
            total_N: np.ndarray = self.similarity_NN.sum(axis=1) - 1.0
            return total_N
        blocks = [np.arange(block.start, block.stop) for block in self.blocks(self.vectors_ND.shape[1])]
        # From exact vectors: the length of float32 rows differs from 1 by enough to break ties.
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
        """The graph of the same tasks with the pool's mean vector subtracted before normalising.

        Sentence encoders map all texts into a narrow cone (Ethayarajh 2019); centring leaves what distinguishes tasks.
        """
        if self.is_centred:
            return self
        return replace(
            self,
            vectors_ND=centred_rows(self.vectors_ND, self.mean_vector_D),
            test_vectors_TD=centred_rows(self.test_vectors_TD, self.mean_vector_D),
            is_centred=True,
        )

    @cached_property
    def without_test_tasks(self) -> SimilarityGraph:
        """The same pool without test tasks, for strategies that must not see them."""
        graph = replace(self, test_vectors_TD=self.test_vectors_TD[:0])
        # Both have the same similarities: they are computed once.
        object.__setattr__(graph, "_matrix", self._matrix)
        return graph
