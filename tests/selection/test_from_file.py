"""Choosing from a file of embeddings: what is written, with and without a target."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from displays import RecordingDisplay
from typer.testing import CliRunner

from simtune.corpus.task_lists import read_task_list
from simtune.errors import ConfigError, CorpusError, UserError
from simtune.progress import Quiet
from simtune.selection.from_file import select_from_file, selection_of
from simtune.selection.tables import statistics_table
from simtune.storage.parquet_files import read_table


@pytest.fixture
def write(tmp_path):
    def write(name, vectors_ND, prefix="task", **columns):
        table = pa.table(
            {
                "task": [f"{prefix}{row:03}" for row in range(len(vectors_ND))],
                "embedding": vectors_ND.tolist(),
                **columns,
            }
        )
        pq.write_table(table, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def pool(write):
    generator = np.random.default_rng(0)
    categories = [f"c{number}" for number in generator.integers(0, 4, 30)]
    return write("pool.parquet", generator.normal(size=(30, 5)), category=categories, source=categories)


@pytest.fixture
def target(write):
    return write("target.parquet", np.random.default_rng(1).normal(size=(3, 5)), "held")


def lists(output):
    return {str(path.relative_to(output / "splits")) for path in (output / "splits").rglob("*.txt")}


def test_subsets_are_written_as_tables_and_split_lists(pool, target, tmp_path):
    selection = selection_of(["different", "random(per_category_cap=3)", "near-target(by=max)"], [4, 8], [0, 1])
    output = tmp_path / "out"
    subsets = select_from_file(pool, selection, target, output, Quiet())
    assert sorted(path.name for path in output.iterdir()) == [
        *("categories.parquet", "overlaps.parquet", "quotas.parquet", "select.json", "splits", "subsets.parquet"),
    ]
    folders = {
        *(f"different-{size}" for size in (4, 8)),
        *(f"random-per_category_cap=3-{size}-seed{seed}" for size in (4, 8) for seed in (0, 1)),
        *(f"near-target-by=max-oracle-{size}" for size in (4, 8)),
    }
    assert lists(output) == {f"{name}/{kind}_tasks.txt" for name in folders for kind in ("train", "test")}
    for subset in subsets:
        folder = f"{subset.arm.replace(' (oracle)', '-oracle').replace('(', '-').replace(')', '')}-{subset.size}"
        folder += f"-seed{subset.seed}" if subset.arm.startswith("random") else ""
        assert read_task_list(output / "splits" / folder / "train_tasks.txt") == subset.tasks
        assert read_task_list(output / "splits" / folder / "test_tasks.txt") == ("held000", "held001", "held002")
    rows = read_table(output / "subsets.parquet").to_pylist()
    assert [row["task"] for row in rows] == [task for subset in subsets for task in subset.tasks]
    assert all(row["coverage"] is not None and row["num_sources"] > 0 for row in rows)
    assert read_table(output / "overlaps.parquet").num_rows == 2 * 4


def test_without_a_target_there_is_no_coverage_and_no_oracle(pool, tmp_path):
    output = tmp_path / "out"
    subsets = select_from_file(pool, selection_of(["max-min"], [3], [0]), None, output, Quiet())
    assert lists(output) == {"max-min-3/train_tasks.txt"}
    assert [subset.statistics.coverage for subset in subsets] == [None]
    missing = tmp_path / "missing.parquet"
    with pytest.raises(CorpusError, match=r"near-target \(oracle\): needs the target tasks; .*--target FILE"):
        select_from_file(missing, selection_of(["near-target", "random"], [3], [0]), None, None, Quiet())


def test_seeds_that_choose_the_same_share_a_list(pool, tmp_path):
    select_from_file(
        pool, selection_of(["random", "different"], [2, 30, "all"], [0, 1]), None, tmp_path / "out", Quiet()
    )
    assert lists(tmp_path / "out") == {
        *(f"random-2-seed{seed}/train_tasks.txt" for seed in (0, 1)),
        *(f"random-30-seed{seed}/train_tasks.txt" for seed in (0, 1)),
        *(f"{name}/train_tasks.txt" for name in ("different-2", "different-30", "full-30")),
    }


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_results_of_another_choice_are_refused_and_left_alone_those_of_the_same_are_written_again(
    pool, target, tmp_path
):
    output, names = tmp_path / "out", tmp_path / "names.txt"
    names.write_text("task001\ntask002\n")
    arguments = (selection_of(["random", "similar", f"list:{names}"], [2, 4], [0, 1]), target)
    select_from_file(pool, *arguments, output, Quiet())
    before = contents(output)
    others = [
        (pool, selection_of(["similar"], [2, 4], [0, 1]), target),
        (pool, arguments[0].model_copy(update={"sizes": (2, 5)}), target),
        (pool, arguments[0], None),
        (target, arguments[0].model_copy(update={"sizes": (2,), "strategies": arguments[0].strategies[:2]}), None),
    ]
    for pool_file, selection, target_file in others:
        with pytest.raises(UserError, match=r"out: already contains other results \(select\.json, subsets\.parquet"):
            select_from_file(pool_file, selection, target_file, output, Quiet())
        assert contents(output) == before
    # The file of a list has the same name and other tasks.
    names.write_text("task003\n")
    with pytest.raises(UserError, match="another folder, or remove them"):
        select_from_file(pool, *arguments, output, Quiet())
    names.write_text("task001\ntask002\n")
    # An interrupted call has left a part of its files.
    (output / "overlaps.parquet").unlink()
    select_from_file(pool, *arguments, output, Quiet())
    assert contents(output) == before


def test_a_folder_with_other_files_of_these_names_is_refused_and_one_with_none_is_not(pool, tmp_path):
    selection = selection_of(["similar"], [2], [0])
    for name in ("subsets.parquet", "select.json"):
        output = tmp_path / name
        output.mkdir()
        (output / name).write_text("mine")
        with pytest.raises(UserError, match=f"already contains other results .*{name}"):
            select_from_file(pool, selection, None, output, Quiet())
        assert contents(output) == {name: b"mine"}
    output = tmp_path / "new"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    select_from_file(pool, selection, None, output, Quiet())
    assert (output / "notes.txt").read_text() == "mine"


def test_the_same_input_gives_the_same_bytes_in_any_order_of_rows(pool, tmp_path):
    shuffled = tmp_path / "shuffled.parquet"
    pq.write_table(pq.read_table(pool).take(np.random.default_rng(3).permutation(30)), shuffled)
    selection = selection_of(["log-det", "facility-location", "random"], [5], [0])
    for name, path in (("a", pool), ("b", shuffled)):
        select_from_file(path, selection, None, tmp_path / name, Quiet())
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path


def test_a_set_that_ends_early_is_warned_of_once(pool, tmp_path):
    display = RecordingDisplay()
    selection = selection_of(["random(per_category_cap=1)", "different"], [10, 99], [0, 1])
    select_from_file(pool, selection, None, None, display)
    assert display.warnings == [
        "random(per_category_cap=1): 4 of 10 tasks: its list or its options allow no more",
        "random(per_category_cap=1): 4 of 99 tasks: its list or its options allow no more",
        "different: size 99 capped to the pool's 30 tasks",
    ]


@pytest.mark.parametrize(("category", "counts"), [(None, (0, 0)), ([""] * 9, (0, 0)), (["a", "", ""] * 3, (1, 1))])
def test_a_task_without_a_category_adds_none_to_the_count(write, tmp_path, category, counts):
    columns = {} if category is None else {"category": category}
    file = write("plain.parquet", np.random.default_rng(0).normal(size=(9, 3)), **columns)
    subsets = select_from_file(file, selection_of(["different"], [5, 9], [0]), None, tmp_path / "out", Quiet())
    assert tuple(subset.statistics.num_categories for subset in subsets) == counts
    rows = read_table(tmp_path / "out" / "subsets.parquet").to_pylist()
    assert {row["num_categories"] for row in rows} == set(counts)
    shown = {str(column.header) for column in statistics_table(subsets).columns}
    assert ("categories" in shown) == any(counts)


def test_an_option_that_needs_a_missing_column_gives_a_warning(write, pool):
    plain = write("plain.parquet", np.random.default_rng(0).normal(size=(9, 3)))
    strategies = ["category-balanced", "random(per_category_cap=2)", "different(per_source_cap=1)"]
    display = RecordingDisplay()
    select_from_file(plain, selection_of(strategies, [2], [0]), None, None, display)
    assert display.warnings == [
        f"category-balanced, random(per_category_cap=2): {plain} has no column category, so all tasks count as one "
        "category",
        f"different(per_source_cap=1): {plain} has no column source, so per_source_cap has no effect",
    ]
    display = RecordingDisplay()
    select_from_file(pool, selection_of(strategies, [2], [0]), None, None, display)
    assert display.warnings == []


@pytest.mark.parametrize(
    ("vectors_ND", "prefix", "complaint"),
    [
        (np.ones((2, 5)), "task", r"target\.parquet: 2 tasks are in .*pool\.parquet too \(task000, task001\)"),
        (
            np.ones((2, 4)),
            "held",
            r"target\.parquet: 4 dimensions, but .*pool\.parquet has 5; embed both with one encoder",
        ),
    ],
)
def test_a_target_that_does_not_fit_is_refused(pool, write, tmp_path, vectors_ND, prefix, complaint):
    wrong = write("target.parquet", vectors_ND, prefix)
    with pytest.raises(CorpusError, match=complaint):
        select_from_file(pool, selection_of(["random"], [2], [0]), wrong, tmp_path / "out", Quiet())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("strategies", "sizes", "seeds", "complaint"),
    [
        (["graph-cut(lambda)"], [2], [0], "--strategy: .*not of the form name=value"),
        (["random"], [0], [0], "--sizes: 0 is wrong"),
        (["random"], [], [0], "--sizes: "),
        (["random"], [2, 2], [0], "--sizes: lists a value twice"),
        (["random"], [2], [-1], "--seeds: -1 is wrong"),
        (["random", "random"], [2], [0], "--strategy: lists a value twice"),
    ],
)
def test_wrong_settings_name_the_option(strategies, sizes, seeds, complaint):
    with pytest.raises(ConfigError, match=f"^{complaint}"):
        selection_of(strategies, sizes, seeds)


def test_the_command_prints_what_it_wrote(pool, tmp_path):
    from simtune.cli import app

    arguments = ["select", "--embeddings", str(pool), "--strategy", "different", "--strategy", "list:/none.txt"]
    result = CliRunner().invoke(app, [*arguments[:5], "--sizes", "2,3", "--output", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0
    assert [(subset["arm"], subset["size"]) for subset in json.loads(result.stdout)] == [
        ("different", 2),
        ("different", 3),
    ]
    assert lists(tmp_path / "out") == {"different-2/train_tasks.txt", "different-3/train_tasks.txt"}
    assert CliRunner().invoke(app, arguments).exit_code != 0


@pytest.mark.slow
def test_a_hundred_thousand_tasks_are_chosen_from_in_little_memory(tmp_path):
    num_tasks, dimensions = 100_000, 384
    vectors_ND = np.random.default_rng(0).standard_normal((num_tasks, dimensions), dtype=np.float32)
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.ravel()), dimensions)
    names = [f"task{row:06}" for row in range(num_tasks)]
    pq.write_table(pa.table({"task": names, "embedding": embedding}), tmp_path / "pool.parquet", compression="none")
    # What the limit refuses ends the process; all pairs in float32 would be 40 GB. Arrow's own allocator reserves more
    # than it uses, and the limit counts that.
    script = """
import os, resource, sys
os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
resource.setrlimit(resource.RLIMIT_DATA, (3 << 29, 3 << 29))
from simtune.cli import app
app(sys.argv[1:], standalone_mode=False)
from simtune.training.process_memory import peak_host_memory_mib
print(peak_host_memory_mib(), file=sys.stderr)
"""
    strategies = ["min-sum", "max-min", "graph-cut(lambda=100)", "log-det", "random"]
    arguments = ["select", "--embeddings", str(tmp_path / "pool.parquet"), "--sizes", "10,100", "--json"]
    arguments += [part for name in strategies for part in ("--strategy", name)]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    # Of the process's own memory: what `getrusage` says counts the test run that it was forked from.
    assert float(done.stderr.splitlines()[-1]) < 1536
    unit_ND = vectors_ND / np.linalg.norm(vectors_ND.astype(np.float64), axis=1, keepdims=True)
    subsets = [subset for subset in json.loads(done.stdout) if subset["size"] == 100]
    assert [len(set(subset["tasks"])) for subset in subsets] == [100] * len(strategies)
    for subset in subsets:
        chosen_KD = unit_ND[[int(name[4:]) for name in subset["tasks"]]]
        pairs = (chosen_KD @ chosen_KD.T)[np.triu_indices(100, 1)]
        assert subset["statistics"]["mean_similarity"] == pytest.approx(pairs.mean(), abs=1e-6)
        assert subset["statistics"]["max_similarity"] == pytest.approx(pairs.max(), abs=1e-6)
