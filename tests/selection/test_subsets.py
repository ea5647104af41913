"""Subsets of a selection, and the tables made of them."""

from collections import Counter
from dataclasses import fields

import numpy as np
import pyarrow as pa
import pytest
from arms import build, drawn
from isolated import run_isolated

from simtune.config import SelectionSettings
from simtune.errors import ConfigError
from simtune.graph.similarity import SimilarityGraph
from simtune.graph.statistics import SetStatistics, pool_statistics, prefix_statistics
from simtune.selection import subsets as module
from simtune.selection.overlaps import overlaps_table
from simtune.selection.subsets import arms_and_sizes, build_subsets
from simtune.selection.tables import (
    compared_sizes,
    overlap_matrix,
    quotas_table,
    statistics_table,
    subsets_table,
)


def selection(*strategies, sizes=(4, 2), seeds=(0, 1), **options):
    return SelectionSettings(strategies=strategies, sizes=sizes, seeds=seeds, **options)


@pytest.mark.parametrize("dense", [True, False])
def test_subsets_are_those_of_every_arm_seed_and_size(dense):
    graph = drawn(9, 2, dense)
    chosen = selection("similar", "random", "k-means", sizes=(20, 4, 2, "all"))
    subsets = build_subsets(graph, chosen)
    assert [(subset.arm, subset.seed, subset.size, len(subset.tasks)) for subset in subsets] == [
        *((a, s, n, min(n, 9)) for a in ("similar", "random", "k-means") for s in (0, 1) for n in (2, 4, 20)),
        *(("full", seed, 9, 9) for seed in (0, 1)),
    ]
    assert [(subset.arm, subset.size) for subset in subsets if subset.seed == 0] == arms_and_sizes(chosen, 9)
    assert build_subsets(graph, chosen) == subsets
    assert subsets[-1].tasks == graph.names
    for subset in subsets:
        places = [graph.index[task] for task in subset.tasks]
        assert subset.statistics == prefix_statistics(graph, places, [len(places)])[len(places)]
        note = f"{subset.arm}: size 20 capped to the pool's 9 tasks" if subset.size == 20 else ""
        assert subset.note == note
    whole = {subset.statistics for subset in subsets if len(subset.tasks) == 9}
    assert whole == {pool_statistics(graph)}
    two, four, nine = (subset.tasks for subset in subsets[:3])
    assert (nine[:2], nine[:4]) == (two, four)


@pytest.mark.parametrize("dense", [True, False])
def test_an_arm_that_does_not_draw_is_chosen_once_for_all_seeds(dense, monkeypatch):
    calls = []

    def counted(arm, graph, sizes, seed, *rest, wrapped=module.choose_tasks, **more):
        calls.append((arm.label, seed))
        return wrapped(arm, graph, sizes, seed, *rest, **more)

    monkeypatch.setattr(module, "choose_tasks", counted)
    subsets = build_subsets(drawn(9, 2, dense), selection("different", "random", seeds=(5, 6, 7)))
    assert sorted(calls) == [("different", 5), ("random", 5), ("random", 6), ("random", 7)]
    tasks = {(subset.arm, subset.seed): subset.tasks for subset in subsets if subset.size == 4}
    assert tasks["different", 5] == tasks["different", 6] == tasks["different", 7]
    assert len({tasks["random", seed] for seed in (5, 6, 7)}) == 3


def test_quotas_name_every_category_and_add_up():
    graph = drawn(20, 1, num_categories=6)
    for subset in build_subsets(graph, selection("random", "similar-category", sizes=(3, "all"))):
        taken = Counter(graph.categories[graph.index[task]] for task in subset.tasks)
        assert list(subset.quotas) == sorted(set(graph.categories))
        assert subset.quotas == {category: taken[category] for category in subset.quotas}


def test_labels_say_strategy_and_settings_and_must_differ(tmp_path):
    published = tmp_path / "published.v2.txt"
    published.write_text("task0001\n")
    arms = [
        *("graph-cut(lambda=0.3)", "near-target(by=max, per_category_cap=2)", "max-min"),
        {"strategy": "max-min", "exclude": ["task0003", "task0004"]},
        {"strategy": "max-min", "label": "farthest", "cosine": "centred"},
        {"list": str(published)},
    ]
    assert [subset.arm for subset in build_subsets(drawn(9), selection(*arms, sizes=(1,), seeds=(0,)))] == [
        "graph-cut(lambda=0.3)",
        "near-target(by=max, per_category_cap=2) (oracle)",
        "max-min",
        "max-min(exclude=2 tasks)",
        "farthest",
        "published.v2",
    ]
    with pytest.raises(ValueError, match="lists a value twice"):
        selection("max-min", {"strategy": "random", "label": "max-min"})


def test_a_list_gives_its_tasks_in_order_and_says_when_the_pool_lacks_some(tmp_path):
    path = tmp_path / "l.txt"
    path.write_text("task0004\nelsewhere\n\ntask0001\n  task0000\n")
    with pytest.raises(
        ConfigError, match=r"l\.txt: the pool does not have 1 of its 4 tasks: elsewhere \(a test task\)"
    ):
        build_subsets(drawn(9), selection({"list": str(path)}), why_absent=lambda name: "a test task")
    skipping = selection({"list": str(path), "missing": "skip", "label": "l"}, seeds=(0,))
    two, four = build_subsets(drawn(9), skipping, why_absent=lambda name: "a test task")
    skipped = "l: 1 name of its list skipped: elsewhere (a test task)"
    assert (two.tasks, two.note) == (("task0004", "task0001"), skipped)
    assert four.tasks == ("task0004", "task0001", "task0000")
    assert four.note == f"l: 3 of 4 tasks: its list or its options allow no more; {skipped}"
    (full,) = build_subsets(drawn(9), selection({"list": str(tmp_path / "none")}, sizes=("all",), seeds=(0,)))
    assert full.arm == "full"


def test_progress_ends_at_the_number_of_tasks_chosen():
    progress = []
    build_subsets(drawn(9), selection("different", "random", "k-means"), lambda *number: progress.append(number))
    # Nested arms choose their largest size once a seed, k-means every size.
    assert {total for _, total in progress} == {4 + 2 * 4 + 2 + 4}
    assert sorted(done for done, _ in progress) == list(range(19))


def test_one_task_is_a_subset_without_pairs():
    (subset,) = build_subsets(drawn(1), selection("different", sizes=(1,), seeds=(0,)))
    assert (subset.tasks, subset.statistics.mean_similarity, subset.quotas) == (("task0000",), None, {"c2": 1})
    row = subsets_table([subset]).to_pylist()[0]
    assert (row["mean_similarity"], row["num_categories"], row["rank"]) == (None, 1, 0)


def test_an_option_that_names_no_task_stops_the_whole_selection():
    with pytest.raises(ConfigError, match="strategy different: exclude: the pool has no task 'nobody'"):
        build_subsets(drawn(5), selection("different", "random", exclude=("nobody",)))


@pytest.fixture(scope="module")
def some():
    return build_subsets(
        drawn(20, 3), selection("different", "random", "lowest-mean", sizes=(5, 8, 30), seeds=(0, 1, 2))
    )


def test_the_table_of_subsets_has_a_row_a_task(some):
    table = subsets_table(some)
    whole = {"num_categories", "num_sources"}
    assert [(field.name, field.type) for field in table.schema] == [
        *(("arm", pa.string()), ("seed", pa.int64()), ("size", pa.int64()), ("num_tasks", pa.int64())),
        *(("rank", pa.int64()), ("task", pa.string())),
        *((field.name, pa.int64() if field.name in whole else pa.float64()) for field in fields(SetStatistics)),
        ("note", pa.string()),
    ]
    assert table.to_pylist() == [
        {"arm": subset.arm, "seed": subset.seed, "size": subset.size, "num_tasks": len(subset.tasks)}
        | {"rank": rank, "task": task, "note": subset.note}
        | vars(subset.statistics)
        for subset in some
        for rank, task in enumerate(subset.tasks)
    ]


def test_tables_of_nothing_have_their_columns(some):
    for table in (subsets_table, quotas_table, overlaps_table):
        assert table([]).schema == table(some).schema
        assert table([]).num_rows == 0


def test_the_table_of_quotas_has_zeros_too(some):
    rows = quotas_table(some).to_pylist()
    assert len(rows) == len(some) * 4
    assert [row["num_tasks"] for row in rows] == [taken for subset in some for taken in subset.quotas.values()]
    assert 0 in [row["num_tasks"] for row in rows]
    for subset, first in zip(some, rows[::4], strict=True):
        assert (first["arm"], first["seed"], first["size"]) == (subset.arm, subset.seed, subset.size)


def text_of(table):
    from rich.console import Console

    console = Console(width=300)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_terminal_tables_show_each_set_once(some):
    arms = [line.split()[0] for line in text_of(statistics_table(some)).splitlines() if line.strip()]
    assert [arms.count(arm) for arm in ("different", "random", "lowest-mean")] == [3, 7, 3]
    assert compared_sizes(some) == [5, 8, 30]
    assert compared_sizes([subset for subset in some if subset.arm == "different"]) == []
    assert compared_sizes([subset for subset in some if subset.arm == "random"]) == [5, 8]
    five = {subset.arm: set(subset.tasks) for subset in some if subset.size == 5 and subset.arm != "random"}
    jaccard = len(five["different"] & five["lowest-mean"]) / len(five["different"] | five["lowest-mean"])
    lines = text_of(overlap_matrix(some, 5)).splitlines()
    last = next(line for line in lines if "3 lowest-mean" in line)
    assert last.split()[2] == f"{100 * jaccard:.0f}"
    assert last.split()[-1] == "-"


def test_a_pool_without_sources_or_target_shows_no_such_column():
    graph = build(np.random.default_rng(0).normal(size=(6, 3)))
    text = text_of(statistics_table(build_subsets(graph, selection("different"))))
    assert "sources" not in text
    assert "categories" in text
    assert "of rest" in text


def test_a_pool_without_categories_shows_no_such_column():
    vectors = np.random.default_rng(0).normal(size=(6, 3))
    graph = SimilarityGraph.build([f"task{number}" for number in range(6)], [""] * 6, vectors)
    text = text_of(statistics_table(build_subsets(graph, selection("different"))))
    assert "categories" not in text


def test_a_small_graph_has_one_core_of_every_blas_from_the_first_run_on():
    # In a process with numpy's BLAS only: competing threads made the first run seven times as long.
    script = """
import numpy as np
from threadpoolctl import threadpool_info
from simtune.graph.similarity import SimilarityGraph
from simtune.graph.spectrum import eigenvalues
from simtune.selection.subsets import _statistics_threads

with _statistics_threads(SimilarityGraph.build(["a", "b"], ["c", "c"], np.eye(2))):
    eigenvalues(np.eye(3))
    print({library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"})
"""
    assert run_isolated(script).split() == ["{1}"]
