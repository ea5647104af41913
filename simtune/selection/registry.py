"""Strategies by name.

A strategy is a function from the graph, a size and a seed to an order of `size` tasks (indices into the graph).
Orders are nested: the order of 50 begins with the order of 10, so every size is a prefix of one order.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from simtune.errors import ConfigError
from simtune.graph.similarity import SimilarityGraph
from simtune.selection.by_category import different_category, similar_category
from simtune.selection.greedy_sum import different, similar
from simtune.selection.shuffled import shuffled

Strategy = Callable[[SimilarityGraph, int, int], list[int]]

STRATEGIES = MappingProxyType(
    {
        "different": different,
        "similar": similar,
        "random": shuffled,
        "different-category": different_category,
        "similar-category": similar_category,
    }
)


def strategy(name: str) -> Strategy:
    """The strategy of this name.

    Raises:
        ConfigError: there is none; names the nearest.
    """
    if name not in STRATEGIES:
        from rapidfuzz import fuzz, process

        match = process.extractOne(name, list(STRATEGIES), scorer=fuzz.WRatio, score_cutoff=60)
        hint = f"; did you mean {match[0]!r}?" if match else ""
        extra = " (the whole pool is `all` in selection.sizes)" if name == "full" else ""
        raise ConfigError(
            f"selection.strategies: unknown strategy {name!r}{hint}{extra}. Known: {', '.join(STRATEGIES)}"
        )
    return STRATEGIES[name]
