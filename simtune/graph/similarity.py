"""The complete weighted graph of tasks: cosine similarity of every pair, and statistics of sets of tasks.

Legend: N tasks of the pool, T test tasks, D dimensions, C categories. Everything is float64 on the driver; a pool of
1,600 tasks is a matrix of 20 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SimilarityGraph:
    """Cosine similarities among the pool and from the test tasks to it.

    Attributes:
        names: the pool's tasks, sorted; the order of all arrays.
        categories: one a task.
        similarity_NN: symmetric, 1 on the diagonal.
        test_similarity_TN: of each test task to each pool task.
    """

    names: tuple[str, ...]
    categories: tuple[str, ...]
    similarity_NN: np.ndarray
    test_similarity_TN: np.ndarray

    @classmethod
    def build(
        cls,
        names: Sequence[str],
        categories: Sequence[str],
        embeddings_ND: np.ndarray,
        test_embeddings_TD: np.ndarray,
    ) -> SimilarityGraph:
        """Builds the graph from unit vectors; tasks come out sorted by name, so that input order changes nothing.

        Raises:
            ValueError: a vector is not finite, or a name stands twice.
        """
        if len(set(names)) != len(names):
            raise ValueError("a task stands twice in the graph")
        if not (np.isfinite(embeddings_ND).all() and np.isfinite(test_embeddings_TD).all()):
            raise ValueError("an embedding holds NaN or an infinity")
        order = sorted(range(len(names)), key=lambda index: names[index])
        pool_ND, test_TD = _unit(embeddings_ND[order]), _unit(test_embeddings_TD)
        # Each different vector once (U of them): a matrix product rounds equal rows differently by their place, and
        # tasks with equal vectors would not tie.
        unique_UD, place_N = np.unique(pool_ND, axis=0, return_inverse=True)
        product_UU = unique_UD @ unique_UD.T
        similarity_UU = np.clip((product_UU + product_UU.T) / 2, -1.0, 1.0)
        np.fill_diagonal(similarity_UU, unique_UD.any(axis=1))
        similarity_NN = similarity_UU[np.ix_(place_N, place_N)]
        np.fill_diagonal(similarity_NN, 1.0)
        return cls(
            names=tuple(names[index] for index in order),
            categories=tuple(categories[index] for index in order),
            similarity_NN=similarity_NN,
            test_similarity_TN=np.clip(test_TD @ pool_ND.T, -1.0, 1.0),
        )

    def __len__(self) -> int:
        return len(self.names)


def _unit(vectors_ND: np.ndarray) -> np.ndarray:
    """Rows of length 1 in float64: float32 rows are so only to 1e-7, which would give cosines above 1."""
    vectors_ND = vectors_ND.astype(np.float64)
    lengths_N = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return vectors_ND / np.where(lengths_N > 0, lengths_N, 1.0)


@dataclass(frozen=True)
class SetStatistics:
    """What a set of tasks looks like.

    Attributes:
        mean_similarity: over all unordered pairs; None below two tasks.
        max_similarity: the most similar pair; None below two tasks.
        num_categories: different first categories.
        coverage: mean over the test tasks of the largest similarity to the set.
    """

    mean_similarity: float | None
    max_similarity: float | None
    num_categories: int
    coverage: float


def prefix_statistics(graph: SimilarityGraph, order: Sequence[int], sizes: Sequence[int]) -> dict[int, SetStatistics]:
    """Statistics of the first `size` tasks of an order, for each size, in one pass of len(order) x N.

    Sizes above len(order) count as len(order).
    """
    wanted = {min(size, len(order)) for size in sizes}
    statistics: dict[int, SetStatistics] = {}
    similarity_sum, similarity_max = 0.0, -np.inf
    covered_T = np.full(len(graph.test_similarity_TN), -np.inf)
    categories: set[str] = set()
    for position, task in enumerate(order):
        if position:
            to_chosen = graph.similarity_NN[task, order[:position]]
            similarity_sum += float(to_chosen.sum())
            similarity_max = max(similarity_max, float(to_chosen.max()))
        covered_T = np.maximum(covered_T, graph.test_similarity_TN[:, task])
        categories.add(graph.categories[task])
        size = position + 1
        if size in wanted:
            pairs = size * (size - 1) / 2
            statistics[size] = SetStatistics(
                mean_similarity=similarity_sum / pairs if pairs else None,
                max_similarity=similarity_max if pairs else None,
                num_categories=len(categories),
                coverage=float(covered_T.mean()),
            )
    return {size: statistics[min(size, len(order))] for size in sizes}


def category_similarity(graph: SimilarityGraph) -> tuple[tuple[str, ...], np.ndarray]:
    """Cosine of the mean vectors of every two categories.

    The mean vectors themselves are not needed: the dot product of two means is the mean of the pairwise products.

    Returns:
        categories sorted by name, and float64 [C, C].
    """
    categories = tuple(sorted(set(graph.categories)))
    index = {category: row for row, category in enumerate(categories)}
    member_CN = np.zeros((len(categories), len(graph)))
    for task, category in enumerate(graph.categories):
        member_CN[index[category], task] = 1.0
    member_CN /= member_CN.sum(axis=1, keepdims=True)
    products_CC = member_CN @ graph.similarity_NN @ member_CN.T
    products_CC = (products_CC + products_CC.T) / 2
    # Opposite vectors have the mean zero, up to rounding: it is like nothing, not like everything.
    squares_C = np.diag(products_CC)
    lengths_C = np.sqrt(np.where(squares_C > 1e-12, squares_C, np.inf))
    return categories, products_CC / np.outer(lengths_C, lengths_C)
