"""Folders, the demo corpus and split lists."""

import json

import pytest

from simtune.corpus.registry import open_corpus
from simtune.corpus.source import read_split
from simtune.corpus.task_lists import read_task_list
from simtune.errors import CorpusError

TASK = {"Definition": ["Do."], "Categories": ["A"], "Instances": [{"input": "a", "output": ["b"]}]}


def write_tasks(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.json").write_text(json.dumps(TASK))


@pytest.mark.parametrize("below", ["tasks", "."])
def test_a_folder_has_its_tasks_below_it_or_in_tasks(tmp_path, below):
    names = ["task075_squad1.1_answer_generation", "task672_b", "task672_a"]
    write_tasks(tmp_path / below, *names)
    (tmp_path / below / "README.md").write_text("no task")
    source = open_corpus(str(tmp_path))
    assert source.names() == tuple(sorted(names))
    assert [source.read(name).task.name for name in names] == names


def test_the_demo_corpus_goes_through_the_same_parser():
    source = open_corpus("demo")
    files = [source.read(name) for name in source.names()]
    assert all(file.task is not None and not file.problems for file in files)
    train, test = source.split("default")
    assert set(train) | set(test) == set(source.names())
    with pytest.raises(CorpusError, match="demo: no such split 'xlingual'; known splits: default"):
        read_split(source, "xlingual")


def test_a_folder_that_is_not_a_corpus_is_refused_with_a_remedy(tmp_path):
    with pytest.raises(CorpusError, match=r"no such folder.*simtune data fetch natural-instructions"):
        open_corpus(str(tmp_path / "nowhere"))
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match="not a folder"):
        open_corpus(str(tmp_path / "file"))
    with pytest.raises(CorpusError, match=r"no task file of a known format here \(natural-instructions\)"):
        open_corpus(str(tmp_path))


def test_a_split_that_is_not_there_names_those_that_are(tmp_path):
    write_tasks(tmp_path / "tasks", "a")
    with pytest.raises(
        CorpusError, match=r"corpus\.holdout\.split: .*no such split .default.*corpus\.holdout: {categories"
    ):
        read_split(open_corpus(str(tmp_path)), "default", "corpus.holdout.split")
    for name in ("xlingual", "default"):
        (tmp_path / "splits" / name).mkdir(parents=True)
    with pytest.raises(CorpusError, match="known splits: default, xlingual"):
        read_split(open_corpus(str(tmp_path)), "defualt")
    with pytest.raises(CorpusError, match=r"train_tasks\.txt: no such split list"):
        read_split(open_corpus(str(tmp_path)), "default")


def test_a_split_list_may_have_a_mark_suffixes_blanks_and_windows_lines(tmp_path):
    path = tmp_path / "train_tasks.txt"
    path.write_bytes(b"\xef\xbb\xbftask1_a\r\n\r\n  task075_squad1.1_b.json \ntask3_c")
    assert read_task_list(path) == ("task1_a", "task075_squad1.1_b", "task3_c")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"a\n\nb\na\n", "train_tasks.txt, line 4: duplicate task name 'a', first on line 1"),
        (b"a\n../b\n", "train_tasks.txt, line 2: '../b' is not a task name"),
        (b"a\\b\n", "train_tasks.txt, line 1: .* is not a task name"),
        (b"\n \n", "train_tasks.txt: lists no tasks"),
        ("task1_a".encode("utf-16"), "train_tasks.txt, byte 0: not UTF-8"),
    ],
)
def test_a_bad_split_list_is_named_with_its_line(tmp_path, content, complaint):
    path = tmp_path / "train_tasks.txt"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=complaint):
        read_task_list(path)


def test_a_folder_instead_of_a_split_list_is_an_error_without_a_traceback(tmp_path):
    with pytest.raises(CorpusError, match="a folder, not a split list"):
        read_task_list(tmp_path)
