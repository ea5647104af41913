"""Readers of files from outside open regular files only, of bounded size, and never wait for one.

The pipes, sockets and devices are real, and nobody writes to the pipes: a reader that opened one would hang.
"""

from __future__ import annotations

import json
import os
import re
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simtune.config import CorpusSettings, EvaluationSettings, ModelSettings, load_sweep
from simtune.corpus.archive.fetch import read_fetch_record
from simtune.corpus.definitions import read_definitions
from simtune.corpus.pool import build_task_sets
from simtune.corpus.registry import open_corpus
from simtune.corpus.source import read_split
from simtune.corpus.task_lists import read_task_list
from simtune.embedding.embedding_file import read_embeddings
from simtune.embedding.encoder import resolve_encoder
from simtune.errors import CorpusError, SimtuneError
from simtune.evaluation.leaderboard import read_predictions, read_references
from simtune.evaluation.xlingual import gpt2_tokenize
from simtune.outside_files import read_outside
from simtune.prompting.tokenizer import load_tokenizer
from simtune.training.parameter_count import expected_parameters

TASK = {
    "Definition": ["Say it."],
    "Categories": ["c"],
    "Instances": [{"id": f"i{number}", "input": f"in {number}", "output": ["o"]} for number in range(3)],
}

pytestmark = pytest.mark.timeout(30)


@pytest.fixture(params=["pipe", "socket", "device", "link to a device", "link to a pipe"])
def special(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch) -> Callable[[Path], str]:
    """Puts something that is not a regular file at a path; returns what messages call it."""

    def make(path: Path) -> str:
        kind = request.param
        path.unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            # A socket's address is short; its folder's name is not.
            monkeypatch.chdir(path.parent)
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(path.name)
        elif kind == "device":
            try:
                os.mknod(path, 0o20666, os.makedev(1, 5))
            except PermissionError:
                pytest.skip("only the superuser makes devices")
        elif kind == "link to a device":
            path.symlink_to("/dev/zero")
        else:
            os.mkfifo(tmp_path / "the pipe")
            path.symlink_to(tmp_path / "the pipe")
        return f"it is a {kind.rpartition(' ')[2]}"

    return make


def write_corpus(root: Path) -> Path:
    (root / "tasks").mkdir(parents=True)
    (root / "splits" / "default").mkdir(parents=True)
    for task in ("task1", "task2"):
        (root / "tasks" / f"{task}.json").write_text(json.dumps(TASK))
    (root / "splits" / "default" / "train_tasks.txt").write_text("task1\n")
    (root / "splits" / "default" / "test_tasks.txt").write_text("task2\n")
    return root


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "sweep file": ("s.yaml", load_sweep),
    "split list": ("l.txt", read_task_list),
    "definitions": ("d.jsonl", lambda path: read_definitions(str(path))),
    "references": ("r.jsonl", read_references),
    "predictions": ("p.jsonl", read_predictions),
    "embeddings": ("e.parquet", read_embeddings),
    "scoring tokenizer": ("tokenizer.json", lambda path: gpt2_tokenize(str(path))),
    "scoring tokenizer's folder": ("tokenizer.json", lambda path: gpt2_tokenize(str(path.parent))),
    "first scoring tokenizer": ("vocab.json", lambda path: gpt2_tokenize(str(path.parent))),
    "record of a download": ("x.fetch.json", lambda path: read_fetch_record(path.parent / "x")),
    "tokenizer": ("tokenizer.json", lambda path: load_tokenizer(ModelSettings(tokenizer=str(path.parent)), ())),
    "encoder's module": ("1_Pooling/config.json", lambda path: encoder(path.parent.parent)),
}


def encoder(folder: Path) -> Any:
    (folder / "model.safetensors").touch()
    return resolve_encoder(str(folder))


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_refuses_anything_but_a_regular_file_without_waiting(tmp_path: Path, special, reader) -> None:
    name, read = READERS[reader]
    path = tmp_path / "given" / name
    path.parent.mkdir(parents=True)
    kind = special(path)
    with pytest.raises(SimtuneError, match=rf"{kind}.*, not a regular file") as caught:
        read(path)
    assert path.name in str(caught.value)


def test_a_special_file_in_a_corpus_is_a_problem_of_its_task(tmp_path: Path, special) -> None:
    root = write_corpus(tmp_path / "corpus")
    kind = special(root / "tasks" / "task1.json")
    (problem,) = open_corpus(str(root)).read("task1").problems
    assert problem.severity == "error"
    assert kind in problem.message or "outside the folder" in problem.message
    with pytest.raises(CorpusError, match=r"task1\.json: cannot be read"):
        build_task_sets(CorpusSettings(path=str(root), min_instances=1), EvaluationSettings())


def test_a_special_file_as_a_list_of_a_split_is_refused(tmp_path: Path, special) -> None:
    root = write_corpus(tmp_path / "corpus")
    special(root / "splits" / "default" / "test_tasks.txt")
    with pytest.raises(
        CorpusError, match=r"test_tasks\.txt: cannot be read \((it is a|splits/default/test_tasks.txt is)"
    ):
        open_corpus(str(root)).split("default")


def test_a_models_size_is_unknown_where_its_files_are_special(tmp_path: Path, special) -> None:
    (tmp_path / "model").mkdir()
    special(tmp_path / "model" / "config.json")
    assert expected_parameters(ModelSettings(name=str(tmp_path / "model"), init="random"), 300) is None


def test_a_link_that_leads_out_of_a_corpus_is_named_with_its_target_and_a_remedy(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps(TASK))
    root = write_corpus(tmp_path / "corpus")
    (root / "tasks" / "task1.json").unlink()
    (root / "tasks" / "task1.json").symlink_to("../../secret.json")
    (problem,) = open_corpus(str(root)).read("task1").problems
    assert f"tasks/task1.json is a link to {secret}, outside the folder" in problem.message
    assert f"cp -rL {root} COPY" in problem.message
    (root / "splits" / "default" / "train_tasks.txt").unlink()
    (root / "splits" / "default" / "train_tasks.txt").symlink_to(secret)
    with pytest.raises(CorpusError, match=rf"train_tasks\.txt is a link to {secret}, outside the folder"):
        open_corpus(str(root)).split("default")


def test_folders_of_a_corpus_that_are_links_out_of_it_are_refused(tmp_path: Path) -> None:
    whole = write_corpus(tmp_path / "whole")
    root = tmp_path / "corpus"
    root.mkdir()
    (root / "tasks").symlink_to(whole / "tasks")
    with pytest.raises(CorpusError, match=rf"tasks is a link to {whole}/tasks, outside the folder"):
        open_corpus(str(root))
    (root / "tasks").unlink()
    (root / "tasks").mkdir()
    (root / "tasks" / "task1.json").write_text(json.dumps(TASK))
    (root / "splits").symlink_to(whole / "splits")
    with pytest.raises(CorpusError, match=rf"splits is a link to {whole}/splits/default/train_tasks.txt, outside"):
        open_corpus(str(root)).split("default")


def test_links_inside_a_corpus_and_to_it_are_followed(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "corpus")
    (root / "store").mkdir()
    (root / "tasks" / "task1.json").rename(root / "store" / "1a2b")
    (root / "tasks" / "task1.json").symlink_to("../store/1a2b")
    (tmp_path / "here").symlink_to(root)
    source = open_corpus(str(tmp_path / "here"))
    assert source.read("task1").task is not None
    assert source.split("default") == (("task1",), ("task2",))
    (root / "tasks" / "task1.json").unlink()
    (root / "tasks" / "task1.json").symlink_to("task1.json")
    (problem,) = source.read("task1").problems
    assert "cannot be read" in problem.message


def test_hidden_files_are_neither_tasks_nor_splits(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "corpus")
    for hidden in ("tasks/._task1.json", "tasks/.DS_Store", "splits/default/._train_tasks.txt", "splits/._default"):
        (root / hidden).write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X")
    (root / "splits" / ".git").mkdir()
    source = open_corpus(str(root))
    assert source.names() == ("task1", "task2")
    with pytest.raises(CorpusError, match=r"known splits: default$"):
        read_split(source, "other")
    sets = build_task_sets(CorpusSettings(path=str(root), min_instances=1), EvaluationSettings())
    assert ([task.name for task in sets.pool], sets.problems) == (["task1"], ())
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "._task1.json").write_bytes(b"\0\5\26\7")
    with pytest.raises(CorpusError, match="no task file of a known format here"):
        open_corpus(str(tmp_path / "hidden"))


@pytest.mark.parametrize(
    ("reader", "size"),
    [("sweep file", 5 << 20), ("split list", 1 << 29), ("definitions", 3 << 30), ("references", 5 << 30)],
)
def test_a_file_larger_than_any_of_its_kind_is_refused_unread(tmp_path: Path, reader: str, size: int) -> None:
    name, read = READERS[reader]
    with (tmp_path / name).open("wb") as file:
        file.truncate(size)
    with pytest.raises(SimtuneError, match=rf"{re.escape(name)}: cannot be read \({size:,} bytes, and no such file is"):
        read(tmp_path / name)


def test_a_task_file_larger_than_any_is_refused_unread(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "corpus")
    with (root / "tasks" / "task1.json").open("wb") as file:
        file.truncate(1 << 40)
    (problem,) = open_corpus(str(root)).read("task1").problems
    assert "no such file is larger than 1,024 MiB" in problem.message


def test_a_file_that_holds_more_than_it_says_is_read_to_its_limit() -> None:
    # The kernel gives no size for it.
    path = Path("/proc/self/maps")
    assert path.stat().st_size == 0
    with pytest.raises(OSError, match="no such file is larger than"):
        read_outside(path, 100)
    assert read_outside(path, 1 << 24)


def test_a_small_file_takes_little_memory_whatever_its_limit(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"y" * 5000)
    tracemalloc.start()
    try:
        assert read_outside(tmp_path / "x", 1 << 30) == b"y" * 5000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_embeddings_by_a_link_are_read(tmp_path: Path) -> None:
    table = pa.table({"task": ["a"], "embedding": [np.ones(2, np.float32)]})
    pq.write_table(table, tmp_path / "real.parquet")
    (tmp_path / "e.parquet").symlink_to("real.parquet")
    assert read_embeddings(tmp_path / "e.parquet").names == ("a",)
