"""Tasks by definition alone: every form of a source of tasks; wrong sources and lines are named with their position."""

import json

import pytest

from simtune.corpus.definitions import read_definitions
from simtune.corpus.registry import open_corpus
from simtune.errors import CorpusError

BARE = {"Definition": ["Say it in Twi."], "Categories": ["Translation"]}


def corpus(root, tasks, **lists):
    (root / "tasks").mkdir(parents=True)
    for name, fields in tasks.items():
        (root / "tasks" / f"{name}.json").write_text(json.dumps(fields))
    for part, names in lists.items():
        (root / "splits" / "s").mkdir(parents=True, exist_ok=True)
        (root / "splits" / "s" / f"{part}_tasks.txt").write_text("\n".join(names) + "\n")
    return root


def test_task_files_need_no_instances_here_and_still_do_elsewhere(tmp_path):
    tasks = {
        "none": BARE,
        "empty": BARE | {"Instances": []},
        "broken": BARE | {"Instances": [{"input": 3}]},
        "bare": {"Definition": "Say it."},
        "full": BARE | {"Instances": [{"input": "a", "output": ["b"]}]},
    }
    reported = []
    found = read_definitions(
        str(corpus(tmp_path / "c", tasks)), on_progress=lambda done, total: reported.append((done, total))
    )
    assert [(task.name, task.definition, task.category, task.instances) for task in found.tasks] == [
        (name, "Say it." if name == "bare" else "Say it in Twi.", "" if name == "bare" else "Translation", ())
        for name in sorted(tasks)
    ]
    assert reported == [(done, 5) for done in range(1, 6)]
    usual = {name: open_corpus(str(tmp_path / "c")).read(name).task for name in tasks}
    assert {name for name, task in usual.items() if task is not None} == {"empty", "full"}


def test_a_place_may_name_one_list_of_a_split(tmp_path):
    root = corpus(tmp_path / "c", dict.fromkeys("abcd", BARE), train=["c", "a", "gone"], test=["d"])
    train, test = read_definitions(f"{root}:s/train"), read_definitions(f"{root}:s/test")
    assert [task.name for task in train.tasks] == ["a", "c"]
    assert (train.absent, [task.name for task in test.tasks]) == (("gone",), ["d"])
    (tmp_path / "x:s").mkdir()
    (root / "tasks" / "a.json").rename(tmp_path / "x:s" / "e.json")
    assert [task.name for task in read_definitions(str(tmp_path / "x:s")).tasks] == ["e"]
    train, test = read_definitions("demo:default/train"), read_definitions("demo:default/test")
    assert len(read_definitions("demo").tasks) == len(train.tasks) + len(test.tasks) == 92


def test_lines_of_definitions_are_read_whole(tmp_path):
    path = tmp_path / "wanted.jsonl"
    lines = [
        {"task": "b", "definition": "Two\u2028lines.", "category": "C", "language": "tw"},
        {"task": "a", "definition": " Say it. ", "category": None},
    ]
    text = "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    path.write_bytes(f"\ufeff{text}\r\n".encode())
    assert [(task.name, task.definition, task.category) for task in read_definitions(str(path)).tasks] == [
        ("a", "Say it.", ""),
        ("b", "Two\u2028lines.", "C"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"task": "a", "definition": "x"}\n{"task": "a", "definition": "y"}',
            "line 2: duplicate task name 'a', first on",
        ),
        ('{"task": "a"}', "line 1, definition: missing"),
        ('\n{"task": "a", "definition": ["x"]}', r"line 2, definition: expected a string, found \['x'\]"),
        ('{"task": " ", "definition": "x"}', "line 1, task: expected a string"),
        ('{"task": "a", "definition": "x", "category": 3}', "line 1, category: expected a string, found 3"),
        ('{"task": "a", "definition": "\\ud800"}', "line 1, definition: contains an unpaired surrogate"),
        ('["a"]', "line 1: not an object"),
        ("{", "line 1: not JSON"),
        ('{"task": "a", "task": "b", "definition": "x"}', "line 1: not JSON .the key 'task' is given twice"),
        ("\n", "lists no tasks"),
        (b"\xff", "byte 0: not UTF-8"),
        (None, "no such file of definitions"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, text, message):
    path = tmp_path / "wanted.jsonl"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CorpusError, match=f"^{path}.*{message}"):
        read_definitions(str(path))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere", "no such folder. Give demo, a folder of task files, FOLDER:SPLIT/train"),
        ("file.txt", "file.txt: not a folder"),
        ("c:s", "'s' is not a side of a split; write .*c:SPLIT/train or"),
        ("c:s/dev", "'s/dev' is not a side of a split"),
        ("c:other/train", "^[^:]*c: no such split 'other'; known splits: s$"),
        ("c:s/test", "none of the 1 task that it names is on disk"),
        ("c", r"tasks/x.json, Definition: missing\nFix these files"),
    ],
)
def test_a_wrong_place_is_named(tmp_path, place, message):
    corpus(tmp_path / "c", {"a": BARE, "x": {"Categories": ["C"]}}, train=["a"], test=["gone"])
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(CorpusError, match=message):
        read_definitions(f"{tmp_path}/{place}")
