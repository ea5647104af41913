"""Strategies by name: the house's own, and those of installed packages."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType

from simtune.errors import ConfigError
from simtune.selection.strategies.by_category import different_category, similar_category
from simtune.selection.strategies.facility_location import facility_location
from simtune.selection.strategies.greedy_sum import graph_cut, max_sum, min_sum
from simtune.selection.strategies.k_means import k_means
from simtune.selection.strategies.log_det import log_det
from simtune.selection.strategies.max_min import max_min
from simtune.selection.strategies.mean_similarity import highest_mean, lowest_mean
from simtune.selection.strategies.named_tasks import task_list
from simtune.selection.strategies.near_target import far_from_target, near_target
from simtune.selection.strategies.shuffled import balanced, shuffled, stratified
from simtune.selection.strategy import Parameter, Strategy
from simtune.wording import nearest

ENTRY_POINTS = "simtune.strategies"

_CATEGORY_PARAMETERS = {
    "similarity": Parameter("mean-vector", choices=("mean-vector", "mean-pair"), help="how categories are compared"),
    "min_category_tasks": Parameter(1, at_least=1, help="smaller categories come last"),
}

STRATEGIES = MappingProxyType(
    {
        "different": Strategy(min_sum),
        "similar": Strategy(max_sum),
        "random": Strategy(shuffled, seeded=True),
        "different-category": Strategy(different_category, _CATEGORY_PARAMETERS),
        "similar-category": Strategy(similar_category, _CATEGORY_PARAMETERS),
        "random-stratified": Strategy(stratified, seeded=True),
        "category-balanced": Strategy(balanced, seeded=True),
        "min-sum": Strategy(min_sum),
        "max-sum": Strategy(max_sum),
        "max-min": Strategy(max_min),
        "facility-location": Strategy(facility_location),
        "graph-cut": Strategy(
            graph_cut, {"lambda": Parameter(0.5, at_least=0.0, help="weight of similarity within the set")}
        ),
        "log-det": Strategy(log_det, {"ridge": Parameter(1e-3, above=0.0, help="added to the diagonal")}),
        "k-means": Strategy(k_means, nested=False),
        "lowest-mean": Strategy(lowest_mean),
        "highest-mean": Strategy(highest_mean),
        "near-target": Strategy(
            near_target,
            {"by": Parameter("mean", choices=("mean", "max", "coverage"), help="what near means")},
            oracle=True,
        ),
        "far-from-target": Strategy(
            far_from_target, {"by": Parameter("mean", choices=("mean", "max"), help="what far means")}, oracle=True
        ),
        "list": Strategy(
            task_list,
            {
                "file": Parameter("", help="task names, one a line"),
                "missing": Parameter(
                    "refuse", choices=("refuse", "skip"), help="what is done about names that the pool does not have"
                ),
            },
        ),
    }
)


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
    found: dict[str, Strategy] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        where = f"entry point {ENTRY_POINTS}: {entry.name} = {entry.value}"
        if entry.name in STRATEGIES or entry.name in found:
            raise ConfigError(f"{where}: there is a strategy {entry.name!r} already; give it another name")
        try:
            loaded = entry.load()
        except Exception as error:
            raise ConfigError(f"{where}: cannot be loaded ({type(error).__name__}: {error})") from error
        if not isinstance(loaded, Strategy):
            if not callable(loaded):
                raise ConfigError(f"{where}: neither a function of a draft nor a simtune.selection.strategy.Strategy")
            # Nothing is known of it: taken to draw, each seed is asked for.
            loaded = Strategy(loaded, seeded=True)
        found[entry.name] = loaded
    return found
