"""The tables of a graph of tasks: nodes, edges, neighbours and near-duplicates.

Tables hold names as they are, so that they join with the run's other tables.

Legend: A all tasks, N tasks of the pool, D dimensions, K neighbours, E edges, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from simtune.graph.neighbours import Neighbours, SimilarPairs

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class AllTasks:
    """The pool's tasks, then the test tasks.

    Attributes:
        unit_AD: unit vectors, or zero.
        num_pool: how many of them, from the first on, are the pool's.
    """

    names: tuple[str, ...]
    categories: tuple[str, ...]
    sources: tuple[tuple[str, ...] | None, ...]
    unit_AD: np.ndarray
    num_pool: int

    @property
    def roles(self) -> list[str]:
        """`pool` or `test`, one a task."""
        return ["pool"] * self.num_pool + ["test"] * (len(self.names) - self.num_pool)

    @property
    def pool_ND(self) -> np.ndarray:
        """Unit vectors of the pool."""
        return self.unit_AD[: self.num_pool]

    @property
    def test_TD(self) -> np.ndarray:
        """Unit vectors of the test tasks."""
        return self.unit_AD[self.num_pool :]


def nodes_table(
    tasks: AllTasks, position_A2: np.ndarray, nearest: tuple[Neighbours, Neighbours], subsets: Mapping[str, np.ndarray]
) -> pa.Table:
    """`nodes.parquet`: one row a task.

    Args:
        tasks: all of them.
        position_A2: in the plane.
        nearest: neighbours in the pool of the pool's tasks, and of the test tasks; the first of each is named.
        subsets: label and rows of each; a column `subset:<label>`.
    """
    import pyarrow as pa

    names = [tasks.names[row[0]] if len(row) else None for part in nearest for row in part.index_NK]
    cosines = [float(row[0]) if len(row) else None for part in nearest for row in part.similarity_NK]
    columns: dict[str, Any] = {
        "task": pa.array(tasks.names, pa.string()),
        "role": pa.array(tasks.roles, pa.string()),
        "category": pa.array(tasks.categories, pa.string()),
        "sources": pa.array(tasks.sources, pa.list_(pa.string())),
        "x": position_A2[:, 0],
        "y": position_A2[:, 1],
        "mean_similarity": pa.array(_mean_similarity(tasks), pa.float64()),
        "nearest": pa.array(names, pa.string()),
        "nearest_similarity": pa.array(cosines, pa.float64()),
    }
    for label, rows in subsets.items():
        columns[f"subset:{label}"] = np.isin(np.arange(len(tasks.names)), rows)
    return pa.table(columns)


def _mean_similarity(tasks: AllTasks) -> list[float | None]:
    """Of each task to the pool's other tasks: a product with the sum of all vectors is the sum over all pairs."""
    pool_ND = tasks.pool_ND
    # einsum sums in one order wherever it runs; a BLAS does not.
    total_A = np.einsum("ad,d->a", tasks.unit_AD, pool_ND.sum(axis=0))
    total_A[: tasks.num_pool] -= np.einsum("nd,nd->n", pool_ND, pool_ND)
    num_others = [tasks.num_pool - (role == "pool") for role in tasks.roles]
    return [total / count if count else None for total, count in zip(total_A.tolist(), num_others, strict=True)]


def unique_edges(found: Neighbours) -> SimilarPairs:
    """Each pair of neighbours once, the smaller row first, in the order of rows."""
    num_tasks, k = found.index_NK.shape
    task_E, other_E = np.repeat(np.arange(num_tasks), k), found.index_NK.ravel()
    ends_E2 = np.stack([np.minimum(task_E, other_E), np.maximum(task_E, other_E)], axis=1)
    # A pair's similarity is the same to the bit from either end.
    unique_E2, first = np.unique(ends_E2, axis=0, return_index=True)
    return SimilarPairs(unique_E2[:, 0], unique_E2[:, 1], found.similarity_NK.ravel()[first])


def edges_table(tasks: AllTasks, edges: SimilarPairs) -> pa.Table:
    """`edges.parquet`: one row an edge."""
    import pyarrow as pa

    return pa.table(
        {
            "source": _names(tasks, edges.first_P),
            "target": _names(tasks, edges.second_P),
            "similarity": edges.similarity_P,
        }
    )


def neighbours_table(tasks: AllTasks, found: Neighbours) -> pa.Table:
    """`neighbours.parquet`: the neighbours of each task of the pool, by rank."""
    import pyarrow as pa

    num_tasks, k = found.index_NK.shape
    return pa.table(
        {
            "task": _names(tasks, np.repeat(np.arange(num_tasks), k)),
            "rank": np.tile(np.arange(1, k + 1, dtype=np.int64), num_tasks),
            "neighbour": _names(tasks, found.index_NK.ravel()),
            "similarity": found.similarity_NK.ravel(),
        }
    )


def near_duplicates_table(tasks: AllTasks, pairs: SimilarPairs) -> pa.Table:
    """`near_duplicates.parquet`: one row a pair."""
    import pyarrow as pa

    role = np.array(tasks.roles, dtype=object)
    return pa.table(
        {
            "task_a": _names(tasks, pairs.first_P),
            "role_a": pa.array(role[pairs.first_P], pa.string()),
            "task_b": _names(tasks, pairs.second_P),
            "role_b": pa.array(role[pairs.second_P], pa.string()),
            "similarity": pairs.similarity_P,
        }
    )


def _names(tasks: AllTasks, rows: np.ndarray) -> pa.Array:
    import pyarrow as pa

    return pa.array([tasks.names[row] for row in rows.tolist()], pa.string())
