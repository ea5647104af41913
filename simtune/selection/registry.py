"""Strategies by name: the built-in ones, and those of installed packages.

A built-in strategy is a file under `strategies/` and a line of `BUILT_IN`; an installed package registers one under
the entry point group `simtune.strategies`, in the same form.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from simtune.entry_points import load_installed, load_lines
from simtune.errors import ConfigError
from simtune.selection.strategy import Strategy
from simtune.wording import nearest

ENTRY_POINTS = "simtune.strategies"

BUILT_IN = {
    "different": "greedy_sum:DIFFERENT",
    "similar": "greedy_sum:SIMILAR",
    "random": "shuffled:RANDOM",
    "different-category": "by_category:DIFFERENT_CATEGORY",
    "similar-category": "by_category:SIMILAR_CATEGORY",
    "random-stratified": "shuffled:RANDOM_STRATIFIED",
    "category-balanced": "shuffled:CATEGORY_BALANCED",
    "min-sum": "greedy_sum:MIN_SUM",
    "max-sum": "greedy_sum:MAX_SUM",
    "max-min": "max_min:MAX_MIN",
    "facility-location": "facility_location:FACILITY_LOCATION",
    "graph-cut": "greedy_sum:GRAPH_CUT",
    "log-det": "log_det:LOG_DET",
    "k-means": "k_means:K_MEANS",
    "lowest-mean": "mean_similarity:LOWEST_MEAN",
    "highest-mean": "mean_similarity:HIGHEST_MEAN",
    "near-target": "near_target:NEAR_TARGET",
    "far-from-target": "near_target:FAR_FROM_TARGET",
    "list": "listed_tasks:LIST",
}
"""Name -> module under `strategies/` and the strategy in it."""


STRATEGIES: Mapping[str, Strategy] = MappingProxyType(load_lines("simtune.selection.strategies", BUILT_IN))


def all_strategies() -> dict[str, Strategy]:
    """Every strategy by name, those of installed packages last."""
    return {**STRATEGIES, **_installed()}


def strategy(name: str) -> Strategy:
    """The strategy of this name.

    Raises:
        ConfigError: there is none (names the nearest), or an installed package's cannot be loaded.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    known = all_strategies()
    if name in known:
        return known[name]
    extra = " (the whole pool is `all` in selection.sizes)" if name == "full" else ""
    if "," in name:
        extra += f" (several strategies are a list: [{name}])"
    unknown = f"unknown strategy {name!r}{nearest(name, known)}{extra}"
    raise ConfigError(f"{unknown}{'' if unknown.endswith('?') else '.'} Known: {', '.join(known)}")


@cache
def _installed() -> dict[str, Strategy]:
    def accept(loaded: object) -> Strategy | None:
        if isinstance(loaded, Strategy):
            return loaded
        # A plain function says nothing about itself: assume that the seed changes what it chooses.
        return Strategy(loaded, seeded=True) if callable(loaded) else None

    expected = "a function that fills a subset, or a simtune.selection.strategy.Strategy"
    return load_installed(ENTRY_POINTS, "strategy", STRATEGIES, accept, expected)
