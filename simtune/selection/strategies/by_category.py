"""`different-category` and `similar-category`: categories ordered by similarity, then filled round-robin.

The study does not say how its category arms were filled. About half of all categories have a single task, so a
number of *categories* would give sets of any size. Here each round adds one task of each category, in the order of the
categories, until the subset has the requested number of *tasks*.

Legend: C categories, M members of a category.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np

from simtune.graph.categories import category_similarity
from simtune.graph.similarity import SimilarityGraph
from simtune.selection.partial_subset import PartialSubset
from simtune.selection.strategy import FigureStyle, Parameter, Strategy


def different_category(subset: PartialSubset) -> None:
    """Categories in the order in which each adds the least similarity; one task of each a round.

    `similarity` compares categories by the cosine of their mean vectors or by the mean over pairs of tasks. Categories
    with fewer than `min_category_tasks` tasks come after all others: one task says little about a category. Within a
    category the most typical task comes first. Categories are ordered greedily as `min-sum` orders tasks; for the sum
    over tasks that guarantees nothing. O(N x D + C^2 x D).
    """
    _round_robin(subset, 1.0)


def similar_category(subset: PartialSubset) -> None:
    """The mirror of `different-category`: categories in the order in which each adds the most similarity.

    Greedy as `max-sum` is, and like it without a guarantee. O(N x D + C^2 x D).
    """
    _round_robin(subset, -1.0)


def _round_robin(subset: PartialSubset, sign: float) -> None:
    graph = subset.graph
    similarity = category_similarity(graph)
    by_pairs = subset.parameters["similarity"] == "mean-pair"
    matrix_CC = (similarity.mean_pair_CC if by_pairs else similarity.mean_vector_CC).copy()
    # A category's similarity to itself does not count.
    np.fill_diagonal(matrix_CC, 0.0)
    small_C = similarity.num_tasks_C < subset.parameters["min_category_tasks"]
    members: dict[str, list[int]] = defaultdict(list)
    for task, category in enumerate(graph.categories):
        members[category].append(task)
    for group in (np.flatnonzero(~small_C), np.flatnonzero(small_C)):
        order = group[_greedy_order(sign * matrix_CC[np.ix_(group, group)])]
        queues = [_most_typical_first(graph, members[similarity.names[row]]) for row in order]
        for turn in range(max(map(len, queues), default=0)):
            subset.add_in_order(queue[turn] for queue in queues if turn < len(queue))


def _greedy_order(cost_CC: np.ndarray) -> list[int]:
    """Each next has the lowest sum of costs to the chosen, the first to all; ties go to the lower index."""
    taken_C = np.zeros(len(cost_CC), dtype=bool)
    sum_C = cost_CC.sum(axis=1)
    order: list[int] = []
    while len(order) < len(cost_CC):
        open_C = np.where(taken_C, np.inf, sum_C)
        chosen = int(np.flatnonzero(open_C <= open_C.min() + 1e-10)[0])
        sum_C = sum_C + cost_CC[chosen] if order else cost_CC[chosen].copy()
        taken_C[chosen] = True
        order.append(chosen)
    return order


def _most_typical_first(graph: SimilarityGraph, members: list[int]) -> list[int]:
    """Tasks of a category, most similar to the whole of it first, ties by name."""
    vectors_MD = graph.exact(members)
    typical_M = vectors_MD @ vectors_MD.sum(axis=0)
    return [members[index] for index in PartialSubset.ranked(-typical_M)]


DIFFERENT_CATEGORY = Strategy(
    different_category,
    {
        "similarity": Parameter(
            "mean-vector", choices=("mean-vector", "mean-pair"), help="how categories are compared"
        ),
        "min_category_tasks": Parameter(1, at_least=1, help="smaller categories come last"),
    },
    uses_categories=True,
    style=FigureStyle("#2b9fdc", "^"),
    known_for="`min_category_tasks: 2` puts categories of one task last",
)
SIMILAR_CATEGORY = replace(DIFFERENT_CATEGORY, choose=similar_category, style=FigureStyle("#d69400", "v"))
