"""Shared by the tests of selection: pools, every strategy with its parameters, and functions that apply an arm."""

import tempfile
from pathlib import Path

import numpy as np
from graph_forms import build_graph

from simtune.config import ArmSettings, SelectionSettings
from simtune.selection.arms import choose_tasks, resolve_arm

BOTH = ({"similarity": "mean-vector"}, {"similarity": "mean-pair", "min_category_tasks": 2})

VARIANTS = [
    *(("different", {}), ("similar", {}), ("min-sum", {}), ("max-sum", {}), ("max-min", {})),
    *(("facility-location", {}), ("k-means", {}), ("lowest-mean", {}), ("highest-mean", {})),
    *(("graph-cut", {"lambda": weight}) for weight in (0, 0.4, 3.0)),
    *(("log-det", {"ridge": ridge}) for ridge in (1e-3, 1.0)),
    *(("near-target", {"by": by}) for by in ("mean", "max", "coverage")),
    *(("far-from-target", {"by": by}) for by in ("mean", "max")),
    *((name, parameters) for name in ("different-category", "similar-category") for parameters in BOTH),
    *(("random", {}), ("random-stratified", {}), ("category-balanced", {}), ("list", {})),
]

IDS = [f"{name}{''.join(f'-{value}' for value in parameters.values())}" for name, parameters in VARIANTS]


def name_of(task):
    return f"task{task:04}"


def _list_file():
    """Names in no particular order, of more tasks than any pool here has."""
    path = Path(tempfile.mkdtemp()) / "published.txt"
    path.write_text("".join(f"{name_of(task)}\n" for task in np.random.default_rng(5).permutation(400)))
    return str(path)


LIST_FILE = _list_file()


def build(vectors_ND, categories=None, sources=None, test_TD=None, dense=None, names=None):
    names = [name_of(task) for task in range(len(vectors_ND))] if names is None else names
    return build_graph(names, categories or ["X"] * len(names), vectors_ND, test_TD, sources, dense=dense)


def drawn(num_tasks, seed=0, dense=None, dimensions=6, num_equal=0, num_zero=0, num_categories=4):
    """A pool of random vectors, the last ones equal to the first and the ones before them zero."""
    generator = np.random.default_rng(seed)
    vectors_ND = (generator.normal(size=(num_tasks, dimensions)) + 0.3).astype(np.float32)
    vectors_ND[num_tasks - num_equal :] = vectors_ND[0]
    vectors_ND[num_tasks - num_equal - num_zero : num_tasks - num_equal] = 0.0
    return build(
        vectors_ND,
        [f"c{number}" for number in generator.integers(0, num_categories, num_tasks)],
        [[f"s{number}" for number in generator.integers(0, 6, generator.integers(0, 3))] for _ in range(num_tasks)],
        generator.normal(size=(3, dimensions)),
        dense,
    )


def arm_of(strategy, selection=None, **settings):
    if strategy == "list" and "file" not in settings:
        settings = {"file": LIST_FILE, "missing": "skip", **settings}
    shared = selection or SelectionSettings()
    return resolve_arm(ArmSettings.model_validate({"strategy": strategy, **settings}), shared)


def choose(graph, strategy, size, seed=0, **settings):
    """Positions of the chosen tasks, in the order of choice."""
    return choose_tasks(arm_of(strategy, **settings), graph, [size], seed)[size]
