"""`random`, `random-stratified` and `category-balanced`: one order for each seed.

Tasks are ranked by a hash of seed and name, so an order is the same on every machine, and adding or removing a task
does not change the order of the others.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict

from simtune.graph.similarity import SimilarityGraph
from simtune.selection.partial_subset import PartialSubset
from simtune.selection.strategy import FigureStyle, Strategy


def shuffled(subset: PartialSubset) -> None:
    """Uniform without replacement: the first tasks of the seed's permutation.

    Optimises nothing: every set of a size is equally likely, so its means are unbiased for the pool's. O(N log N).
    """
    subset.add_in_order(_permutation(subset.graph, subset.seed))


def stratified(subset: PartialSubset) -> None:
    """Proportional to category: every prefix holds each category about as the pool does, tasks drawn at random.

    Systematic sampling within strata: the r-th of a category's n tasks (in the seed's permutation) has the position (r
    + u) / n with one draw u for each category, so a prefix of a share p holds p x n of them, up or down by one; every
    task is equally likely (Madow and Madow 1944). O(N log N).
    """
    queues = _queues(subset.graph, subset.seed)
    position = {
        task: (rank + _unit_interval(subset.seed, category)) / len(queue)
        for category, queue in queues.items()
        for rank, task in enumerate(queue)
    }
    subset.add_in_order(sorted(position, key=lambda task: (position[task], task)))


def balanced(subset: PartialSubset) -> None:
    """As many tasks of every category as of any other, until it has no more; drawn at random.

    Round-robin over the categories in the seed's order, so two categories that are not used up differ by one at most:
    equal allocation to strata (Cochran 1977). O(N log N).
    """
    queues = _queues(subset.graph, subset.seed)
    turn = sorted(queues, key=lambda category: _digest(subset.seed, f"category\0{category}"))
    position = {
        task: (rank, number) for number, category in enumerate(turn) for rank, task in enumerate(queues[category])
    }
    subset.add_in_order(sorted(position, key=position.__getitem__))


def _permutation(graph: SimilarityGraph, seed: int) -> list[int]:
    return sorted(range(len(graph)), key=lambda task: _digest(seed, graph.names[task]))


def _queues(graph: SimilarityGraph, seed: int) -> dict[str, list[int]]:
    queues: dict[str, list[int]] = defaultdict(list)
    for task in _permutation(graph, seed):
        queues[graph.categories[task]].append(task)
    return queues


def _unit_interval(seed: int, category: str) -> float:
    return int.from_bytes(_digest(seed, f"stratum\0{category}")[:6], "big") / 2**48


def _digest(seed: int, text: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{text}".encode(), digest_size=16).digest()


RANDOM = Strategy(
    shuffled, seeded=True, style=FigureStyle("#4d4d4d", "D"), known_for="the reference; unbiased for the pool"
)
RANDOM_STRATIFIED = Strategy(stratified, seeded=True, uses_categories=True, known_for="every task is equally likely")
CATEGORY_BALANCED = Strategy(
    balanced, seeded=True, uses_categories=True, known_for="equal allocation, whatever the categories' sizes"
)
