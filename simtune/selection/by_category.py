"""`different-category` and `similar-category`: categories ordered by their mean vectors, then filled round-robin.

The study does not say how its category arms were filled. About half of all categories have a single task, so a
number of *categories* would give sets of any size: here each round takes one task of each category, in the order
of the categories, until the requested number of *tasks* is there.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from simtune.graph.similarity import SimilarityGraph, category_similarity
from simtune.selection.greedy_sum import greedy_sum


def different_category(graph: SimilarityGraph, size: int, seed: int) -> list[int]:
    """Round-robin over categories in the order in which each adds the least similarity of mean vectors."""
    return _round_robin(graph, size, "lowest")


def similar_category(graph: SimilarityGraph, size: int, seed: int) -> list[int]:
    """Round-robin over categories in the order in which each adds the most similarity of mean vectors."""
    return _round_robin(graph, size, "highest")


def _round_robin(graph: SimilarityGraph, size: int, extreme: Literal["lowest", "highest"]) -> list[int]:
    categories, similarity_CC = category_similarity(graph)
    queues = [_most_typical_first(graph, categories[c]) for c in greedy_sum(similarity_CC, len(categories), extreme)]
    order: list[int] = []
    for turn in range(max(map(len, queues), default=0)):
        order.extend(queue[turn] for queue in queues if turn < len(queue))
        if len(order) >= size:
            break
    return order[:size]


def _most_typical_first(graph: SimilarityGraph, category: str) -> list[int]:
    """Tasks of a category, nearest to its mean vector first, ties by name."""
    members = [task for task, other in enumerate(graph.categories) if other == category]
    nearness = graph.similarity_NN[np.ix_(members, members)].mean(axis=1)
    return [members[index] for index in np.argsort(-nearness, kind="stable")]
