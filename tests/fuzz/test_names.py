"""A task's name never leaves its folder, and never splits a list, whoever gave it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simtune.config import CorpusSettings, EvaluationSettings
from simtune.corpus.definitions import read_definitions
from simtune.corpus.pool import build_task_sets
from simtune.corpus.registry import open_corpus
from simtune.corpus.task_lists import read_task_list
from simtune.embedding.embedding_file import read_embeddings
from simtune.errors import ConfigError, CorpusError
from simtune.selection.from_file import graph_of_files, select_from_file, selection_of
from simtune.selection.split_lists import split_lists, write_split_lists
from simtune.selection.subsets import build_subsets

PATHS = ["../../x", "/etc/passwd", "..\\x", "a/b", ".hidden", "..", "C:\\x"]
CONTROLS = ["a\0b", "a\x1b[2Jb", "a\tb"]
LINE_ENDS = ["a\nb", "a\rb", "a\x85b", "a\u2028../../x", "a\x0cb"]
HARMLESS = ["con", "nul.txt", "x" * 5000, "質問", "e\u0301", "-rf", "$(exit)", "%s", "task 1", "~", "\u202ex"]
TASK = {
    "Definition": ["Say it."],
    "Categories": ["c"],
    "Instances": [{"id": f"i{number}", "input": f"in {number}", "output": ["o"]} for number in range(3)],
}


class Silent:
    def stage(self, name):
        from contextlib import nullcontext

        return nullcontext(lambda done, total: None)

    def note(self, text):
        pass

    warn = note


@pytest.mark.parametrize("name", PATHS + CONTROLS)
def test_a_split_list_names_no_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "list.txt").write_text(f"task1\n{name}\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"list\.txt, line 2: .* is not a task name"):
        read_task_list(tmp_path / "list.txt")


@pytest.mark.parametrize("name", HARMLESS)
def test_a_name_that_no_file_has_is_a_task_that_is_not_on_disk(tmp_path: Path, name: str) -> None:
    for task in ("task1", "task2"):
        (tmp_path / f"{task}.json").write_text(json.dumps(TASK))
    (tmp_path / "splits" / "default").mkdir(parents=True)
    (tmp_path / "splits" / "default" / "train_tasks.txt").write_text(f"task1\n{name}\n", encoding="utf-8")
    (tmp_path / "splits" / "default" / "test_tasks.txt").write_text("task2\n")
    before = sorted(tmp_path.rglob("*"))
    sets = build_task_sets(CorpusSettings(path=str(tmp_path), min_instances=1), EvaluationSettings())
    assert [task.name for task in sets.pool] == ["task1"]
    assert [record.task for record in sets.dropped] == [name]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("file", [b"a\nb.json", b"a\x1bb.json", b"\xff.json"])
def test_a_file_whose_name_cannot_be_in_a_list_is_not_a_task(tmp_path: Path, file: bytes) -> None:
    (tmp_path / "task1.json").write_text(json.dumps(TASK))
    (tmp_path / os.fsdecode(file)).write_text(json.dumps(TASK))
    source = open_corpus(str(tmp_path))
    (name,) = set(source.names()) - {"task1"}
    (problem,) = source.read(name).problems
    assert problem.severity == "error"
    assert "the file's name" in problem.where
    assert problem.message.endswith("rename it")


@pytest.mark.parametrize("name", LINE_ENDS + CONTROLS)
def test_no_list_is_written_with_a_task_in_two_lines(tmp_path: Path, name: str) -> None:
    (tmp_path / "d.jsonl").write_text(json.dumps({"task": name, "definition": "Say it."}))
    with pytest.raises(CorpusError, match=r"line 1, task: .* contains a line end or another control character"):
        read_definitions(str(tmp_path / "d.jsonl"))
    pq.write_table(pa.table({"task": ["b", name], "embedding": [[1.0], [2.0]]}), tmp_path / "e.parquet")
    selection = selection_of(["different"], [1], [0])
    with pytest.raises(CorpusError, match=r"row 2: task .* control character, so a split list cannot contain it"):
        select_from_file(tmp_path / "e.parquet", selection, None, tmp_path / "out", Silent())
    assert not (tmp_path / "out").exists()


def test_embeddings_may_name_tasks_like_paths_and_only_lists_are_written(tmp_path: Path) -> None:
    names = [*PATHS, *HARMLESS]
    vectors = [[float(row == column) for column in range(len(names))] for row in range(len(names))]
    pq.write_table(pa.table({"task": names, "embedding": vectors}), tmp_path / "e.parquet")
    selection = selection_of(["different"], [len(names)], [0])
    select_from_file(tmp_path / "e.parquet", selection, None, tmp_path / "out", Silent())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.parquet", "out"]
    (written,) = (tmp_path / "out").rglob("train_tasks.txt")
    assert sorted(written.read_text("utf-8").splitlines()) == sorted(names)


@pytest.mark.parametrize("label", [*PATHS, *CONTROLS, *LINE_ENDS, *HARMLESS, "-"])
def test_an_arms_label_and_a_grid_points_name_folders_below_their_own(tmp_path: Path, label: str) -> None:
    pq.write_table(pa.table({"task": ["a", "b"], "embedding": [[1.0, 0.0], [0.0, 1.0]]}), tmp_path / "e.parquet")
    graph = graph_of_files(read_embeddings(tmp_path / "e.parquet"), None)
    (subset,) = build_subsets(graph, selection_of(["different"], [1], [0]))
    subset = replace(subset, arm=label)
    (tmp_path / "run").mkdir()
    lists = split_lists([subset], ()) | split_lists([subset], (), label)
    write_split_lists(tmp_path / "run", lists)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.parquet", "run"]
    lists = sorted((tmp_path / "run").rglob("train_tasks.txt"))
    assert len(lists) == 2
    assert all(path.is_relative_to(tmp_path / "run" / "splits") for path in lists)


@pytest.mark.parametrize("name", ["../x", "..", ".", "a/b", "", "a\0b", "trials", "cache", "x" * 101, "a b", "a\n"])
def test_a_sweeps_name_is_a_folders_name(tmp_path: Path, name: str) -> None:
    from simtune.config import load_sweep

    (tmp_path / "s.yaml").write_text(f"name: {json.dumps(name)}\n")
    with pytest.raises(ConfigError, match=r"s\.yaml, line 1: name: "):
        load_sweep(tmp_path / "s.yaml")
