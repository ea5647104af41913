"""`lowest-mean` and `highest-mean`: tasks ranked by their mean similarity to the pool."""

from __future__ import annotations

from simtune.selection.partial_subset import PartialSubset
from simtune.selection.strategy import Strategy


def lowest_mean(subset: PartialSubset) -> None:
    """The tasks least similar to the pool on average: the study's poster read literally.

    A ranking, not a set objective: two tasks that are far from everything and equal to each other both come first.
    Exact for the sum of the tasks' own means, which says nothing of the set. O(N x D): one product with the sum of all
    vectors.
    """
    subset.add_in_order(subset.ranked(subset.graph.total_similarity_N))


def highest_mean(subset: PartialSubset) -> None:
    """The tasks most similar to the pool on average.

    The mirror of `lowest-mean`, with its cost and limits.
    """
    subset.add_in_order(subset.ranked(-subset.graph.total_similarity_N))


_KNOWN_FOR = "a ranking, so duplicates come together"

LOWEST_MEAN = Strategy(lowest_mean, known_for=_KNOWN_FOR)
HIGHEST_MEAN = Strategy(highest_mean, known_for=_KNOWN_FOR)
