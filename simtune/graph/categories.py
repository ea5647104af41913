"""Similarity between categories, by mean vectors and by the mean of pairs.

About half of all categories have a single task. Between two categories both measures are defined for them; within a
category of one task there is no pair, so its mean of pairs is not a number.

Legend: N tasks, C categories, D dimensions, M members of a category.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simtune.graph.similarity import SimilarityGraph
from simtune.graph.unit_vectors import directions

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class CategorySimilarity:
    """How similar categories are.

    Attributes:
        names: sorted.
        num_tasks_C: tasks of each in the pool.
        mean_vector_CC: cosine of the categories' mean vectors; 1 on the diagonal, 0 for a mean without direction.
        mean_pair_CC: mean similarity of pairs with one task of each; within a category over its different pairs, NaN
            where it has one task.
    """

    names: tuple[str, ...]
    num_tasks_C: np.ndarray
    mean_vector_CC: np.ndarray
    mean_pair_CC: np.ndarray

    def table(self) -> pa.Table:
        """`categories.parquet`: one row an unordered pair of categories, a category with itself included."""
        import pyarrow as pa

        first, second = np.triu_indices(len(self.names))
        pairs = self.mean_pair_CC[first, second]
        return pa.table(
            {
                "category_a": [self.names[index] for index in first],
                "category_b": [self.names[index] for index in second],
                "num_tasks_a": self.num_tasks_C[first],
                "num_tasks_b": self.num_tasks_C[second],
                "mean_vector_similarity": self.mean_vector_CC[first, second],
                "mean_pair_similarity": pa.array(pairs, mask=np.isnan(pairs)),
            }
        )


def category_similarity(graph: SimilarityGraph) -> CategorySimilarity:
    """Both similarities of every two categories, in O(N x D): the dot product of two sums is the sum over pairs."""
    names = graph.category_names
    row_of = {name: row for row, name in enumerate(names)}
    category_N = np.array([row_of[category] for category in graph.categories], dtype=np.int64)
    num_tasks_C = np.bincount(category_N, minlength=len(names))
    members = np.split(np.argsort(category_N, kind="stable"), np.cumsum(num_tasks_C)[:-1])
    sum_CD = np.zeros((len(names), graph.vectors_ND.shape[1]))
    own_C = np.zeros(len(names))
    for row, tasks in enumerate(members if names else []):
        vectors_MD = graph.exact(tasks)
        sum_CD[row] = vectors_MD.sum(axis=0)
        own_C[row] = (vectors_MD**2).sum()
    product_CC = sum_CD @ sum_CD.T
    mean_CC = (product_CC + product_CC.T) / 2 / np.outer(num_tasks_C, num_tasks_C)
    # Opposite vectors have the mean zero, up to rounding: it has no direction.
    means_CD = sum_CD / np.maximum(num_tasks_C, 1)[:, None]
    unit_CD = directions(means_CD, np.zeros_like(means_CD), 1e-6)
    mean_vector_CC = np.clip(unit_CD @ unit_CD.T, -1.0, 1.0)
    mean_pair_CC = np.clip(mean_CC, -1.0, 1.0)
    # A task with itself is not a pair.
    ordered_pairs_C = num_tasks_C * (num_tasks_C - 1.0)
    within_C = np.divide(
        np.diag(product_CC) - own_C, ordered_pairs_C, out=np.full(len(names), np.nan), where=ordered_pairs_C > 0
    )
    np.fill_diagonal(mean_pair_CC, np.clip(within_C, -1.0, 1.0))
    return CategorySimilarity(names, num_tasks_C, mean_vector_CC, mean_pair_CC)
