"""`simtune data check`: what it counts, that it names everything wrong, and that its screen stays short."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from simtune.corpus.check import check_corpus, histogram
from simtune.corpus.tables import render_check
from simtune.errors import CorpusError


def quiet(done, total):
    pass


def write(root, name, count=10, category="A", definition="Do.", **fields):
    instances = [{"id": str(index), "input": "x", "output": ["y"]} for index in range(count)]
    task = {"Definition": definition, "Categories": [category], "Instances": instances}
    (root / "tasks").mkdir(parents=True, exist_ok=True)
    (root / "tasks" / f"{name}.json").write_text(json.dumps(task | fields))


def split(root, name, train, test):
    folder = root / "splits" / name
    folder.mkdir(parents=True)
    (folder / "train_tasks.txt").write_text("\n".join(train))
    (folder / "test_tasks.txt").write_text("\n".join(test))


def screen(found, width=80):
    console = Console(width=width, file=io.StringIO())
    for part in render_check(found):
        console.print(part)
    return console.file.getvalue()


@pytest.fixture
def corpus(tmp_path):
    write(tmp_path, "a", 250, "Question Answering", "Say  what.", Input_language=["English", "German"])
    write(tmp_path, "b", 99, "Question Answering", "say what.")
    write(tmp_path, "c", 1200, "Translation", Output_language=["French"])
    write(tmp_path, "t", 0, "Summarisation", "Say what.")
    (tmp_path / "tasks/bad.json").write_text('{"Definition": ')
    split(tmp_path, "default", ["a", "b", "gone"], ["t", "lost", "away"])
    return tmp_path


def test_everything_is_counted(corpus):
    seen = []
    found = check_corpus(str(corpus), lambda *now: seen.append(now)).to_dict()
    assert seen == [(done, 5) for done in range(6)]
    assert (found["num_files"], found["num_tasks"], found["num_unreadable"], found["num_instances"]) == (5, 4, 1, 1549)
    assert found["categories"] == {"Question Answering": 2, "Summarisation": 1, "Translation": 1}
    assert (found["num_categories"], found["num_single_task_categories"]) == (3, 2)
    assert found["input_languages"] == {"English": 1, "German": 1}
    assert found["output_languages"] == {"French": 1}
    counts = found["instances_per_task"]
    assert (counts["min"], counts["median"], counts["max"]) == (0, 174.5, 1200)
    assert counts["tasks_left_by_minimum"] == {"50": 3, "100": 2, "200": 2, "500": 1, "1000": 1}
    assert [shown["num_tasks"] for shown in counts["histogram"]] == [1, 0, 0, 0, 1, 0, 1, 0, 1]
    assert found["splits"] == [
        {
            "name": "default",
            **{"num_train": 3, "num_train_missing": 1, "num_test": 3, "num_test_missing": 2},
            **{"num_unused": 2, "num_leaked": 2},
            "train_left_by_minimum": {"50": 2, "100": 1, "200": 1, "500": 0, "1000": 0},
        }
    ]
    assert found["shared_definitions"] == [{"excerpt": "Say what.", "tasks": ("a", "b", "t")}]
    assert (found["num_errors"], found["num_warnings"]) == (1, 1)
    assert found["problems"] == [
        {
            "severity": "error",
            "file": "tasks/bad.json",
            "position": "line 1, column 16",
            "message": "broken JSON (Expecting value)",
        },
        {"severity": "warning", "file": "tasks/t.json", "position": "Instances", "message": "has no instances"},
    ]
    json.dumps(found, allow_nan=False).encode()


def test_a_broken_split_is_an_error_and_the_others_are_checked(corpus):
    split(corpus, "both", ["a", "b"], ["b"])
    split(corpus, "path", ["a", "../b"], ["b"])
    (corpus / "splits/unfinished").mkdir()
    found = check_corpus(str(corpus), quiet)
    assert [one.name for one in found.splits] == ["both", "default"]
    assert [(problem.location, problem.message) for problem in found.problems[:3]] == [
        ("splits/both", "1 task in both train and test (b)"),
        ("splits/path/train_tasks.txt, line 2", "'../b' is not a task name"),
        ("splits/unfinished/train_tasks.txt", "no such split list"),
    ]


def test_a_list_is_named_by_its_whole_path_whatever_it_contains(corpus):
    split(corpus, "odd: 1, line 9", ["../b"], ["b"])
    (found,) = [problem for problem in check_corpus(str(corpus), quiet).problems if "odd" in problem.file]
    assert (found.file, found.position) == ("splits/odd: 1, line 9/train_tasks.txt", "line 1")
    assert found.message == "'../b' is not a task name"


def test_the_screen_is_short_however_much_is_wrong(corpus):
    for index in range(40):
        (corpus / f"tasks/cut{index}.json").write_text("{")
        write(corpus, f"odd{index}", **{"Instances": [{"input": "x", "output": []}] * 30})
        write(corpus, f"more{index}", **{"Positive Examples": [{"input": "x", f"output{index}": 1}]})
        (corpus / f"tasks/key{index}.json").write_text(f'{{"k{index}": 1, "k{index}": 2}}')
    found = check_corpus(str(corpus), quiet)
    text = screen(found)
    assert found.num_errors == 1 + 40 * (1 + 30 + 1 + 1)
    assert len(text.splitlines()) < 60
    assert "1,321 errors" in text
    assert (
        "Instances[#].output: expected at least one string, found an empty list (1,200 times in 40 files)"
        in " ".join(text.split())
    )
    assert "tasks/odd0.json, Instances[0].output, and 29 more there" in text
    assert "--json lists them all" in text
    assert len(found.to_dict()["problems"]) == found.num_errors + 1


def test_the_screen_says_what_matters(corpus):
    text = screen(check_corpus(str(corpus), quiet))
    assert "4, and 1 file that cannot be used" in text
    assert "default: 2 train tasks with the definition of a test task" in text
    assert "tasks/bad.json, line 1, column 16: broken JSON" in text
    demo = screen(check_corpus("demo", quiet))
    assert "no problems found" in demo
    assert "have exactly 64 and none has more" in demo


def test_names_from_files_cannot_steer_a_terminal(tmp_path):
    write(tmp_path, "a", category="[red]x[/]\x1b[2J\n")
    (tmp_path / "tasks/\x1b[31mb.json").write_text(r'{"\u001b[2J": 1, "\u001b[2J": 2}')
    (tmp_path / "tasks/c\udcff.json").write_text("{")
    found = check_corpus(str(tmp_path), quiet)
    text = screen(found)
    assert "\x1b" not in text
    assert "[red]x[/]�[2J" in text
    json.dumps(found.to_dict(), ensure_ascii=False).encode()


def test_a_corpus_of_nothing_but_bad_files_is_still_reported(tmp_path):
    (tmp_path / "x.json").mkdir()
    found = check_corpus(str(tmp_path), quiet)
    assert found.num_errors == 1
    assert "no task can be read" in screen(found)
    assert found.to_dict()["instances_per_task"]["median"] is None
    with pytest.raises(CorpusError, match="no such folder"):
        check_corpus(str(tmp_path / "nowhere"), quiet)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10_000), min_size=1))
def test_each_task_is_in_the_one_bin_that_holds_it(counts):
    bins = histogram(counts)
    for shown in bins:
        high = float("inf") if shown.high is None else shown.high
        assert shown.num_tasks == sum(shown.low <= count <= high for count in counts)
    assert sum(shown.num_tasks for shown in bins) == len(counts)
    assert bins[0].num_tasks > 0
    assert bins[-1].num_tasks > 0


def test_the_published_corpus(shared_data):
    found = check_corpus(str(shared_data / "sup-natinst"), quiet)
    default = next(one for one in found.splits if one.name == "default")
    assert (found.num_tasks, found.num_errors) == (1299, 0)
    assert (default.num_train, default.num_test) == (756, 119)
    assert default.train_left_by_minimum[100] == 674
    assert default.num_test - default.num_test_missing == 103
    assert len(screen(found).splitlines()) < 50
