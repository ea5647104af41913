"""Every quirk of the published files is read, every bad file is named with its place, and nothing raises."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtune.corpus.natural_instructions import parse_task_bytes, read_task_file
from simtune.corpus.pool import task_fingerprint
from simtune.corpus.task import Demonstration, Instance

GOOD = {
    "Contributors": ["A"],
    "Source": ["squad1.1"],
    "URL": ["https://example.org"],
    "Categories": ["Question Answering", "Other"],
    "Definition": ["Answer it.", "A second text that scripts ignore."],
    "Input_language": ["English"],
    "Output_language": ["French"],
    "Positive Examples": [{"input": "p", "output": "q", "explanation": "because"}],
    "Negative Examples": [{"input": "n", "output": "m"}],
    "Instances": [
        {"id": "x-1", "input": "a", "output": ["b", "c"]},
        {"input": "d", "output": ["e"]},
    ],
}


def parse(fields, name="task1_x"):
    data = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return parse_task_bytes(name, data, "f.json")


def changed(**fields):
    return GOOD | {key.replace("_examples", " Examples"): value for key, value in fields.items()}


def shown(file):
    return [(problem.severity, str(problem)) for problem in file.problems]


def test_a_task_is_read_as_the_datas_own_scripts_read_it():
    file = parse(GOOD, "task075_squad1.1_answer_generation")
    task = file.task
    assert file.problems == ()
    assert (task.name, task.category) == ("task075_squad1.1_answer_generation", "Question Answering")
    assert task.definition == "Answer it."
    assert task.positive == (Demonstration("p", "q", "because"),)
    assert task.negative == (Demonstration("n", "m", None),)
    assert task.instances[0] == Instance("x-1", "a", ("b", "c"))
    assert task.instances[1].id == "task075_squad1.1_answer_generation-1"
    assert (task.input_languages, task.output_languages, task.sources) == (("English",), ("French",), ("squad1.1",))


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"Definition": "An older file."}, "definition", "An older file."),
        ({"Categories": "Translation"}, "categories", ("Translation",)),
        ({"Positive_examples": [{"input": "p", "output": ["q", "r"]}]}, "positive", (Demonstration("p", "q"),)),
        ({"Negative_examples": []}, "negative", ()),
        ({"Instances": [{"id": 7, "input": "", "output": "b"}]}, "instances", (Instance("task1_x-0", "", ("b",)),)),
    ],
    ids=["definition", "category", "demonstration", "no negatives", "instance"],
)
def test_both_generations_of_the_schema_are_read(change, field, value):
    file = parse(changed(**change))
    assert file.problems == ()
    assert getattr(file.task, field) == value


def test_a_harmless_flaw_is_a_warning_and_the_task_is_used():
    data = b"\xef\xbb\xbf" + json.dumps(changed(URL=math.nan, Instances=[{"input": "a", "output": [" "]}])).encode()
    file = parse(data)
    assert file.task is not None
    assert shown(file) == [
        ("warning", "f.json, byte 0: begins with a byte order mark, which was ignored"),
        ("warning", "f.json, URL: contains NaN or an infinity, which is not JSON"),
        ("warning", "f.json, Instances[0].output: every reference is empty"),
    ]


INSTANCE = {"input": "a", "output": ["b"]}
BAD = {
    "truncated": (json.dumps(GOOD, indent=1).encode()[:100], "f.json, line 11, column 2: broken JSON"),
    "empty": (b"", "f.json, line 1, column 1: broken JSON"),
    "utf-16": (json.dumps(GOOD).encode("utf-16"), "f.json, byte 0: UTF-16"),
    "latin-1": ('{"a": "é"}'.encode("latin-1"), "f.json, byte 7: not UTF-8"),
    "a list": (b"[]", "f.json: a task file is a JSON object, found a list"),
    "very deep": (b"[" * 5000 + b"]" * 5000, "f.json: nested too deeply"),
    "a huge number": (b'{"a": ' + b"1" * 5000 + b"}", "f.json: broken JSON"),
    "key twice": (b'{"Instances": [], "Instances": []}', "f.json: the key 'Instances' is given twice"),
    "control characters in a key": (rb'{"\u001b[2J": 1, "\u001b[2J": 2}', r"f.json: the key '\x1b[2J' is given twice"),
    "half a character": (changed(Definition=["\ud800"]), "f.json, Definition[0]: contains an unpaired surrogate"),
    "no definition": ({**GOOD, "Definition": []}, "f.json, Definition: expected a string"),
    "NaN definition": (changed(Definition=[math.nan]), "f.json, Definition: expected a string .*found the token NaN"),
    "no category": (changed(Categories=[" "]), "f.json, Categories: is empty"),
    "category": (changed(Categories=[1]), "f.json, Categories: expected a list of strings"),
    "language": (changed(Input_language=[1]), "f.json, Input_language: expected a list of strings"),
    "source": (changed(Source=None), "f.json, Source: expected a list of strings, found null"),
    "demonstrations": (changed(Positive_examples={}), "f.json, Positive Examples: expected a list"),
    "demonstration": (changed(Positive_examples=[1]), r"f.json, Positive Examples[0]: expected an object"),
    "its output": (changed(Negative_examples=[{"input": "a"}]), "f.json, Negative Examples[0].output: missing"),
    "its explanation": (
        changed(Positive_examples=[{"input": "a", "output": "b", "explanation": 3}]),
        "f.json, Positive Examples[0].explanation: expected a string, found a number",
    ),
    "no instances": ({k: v for k, v in GOOD.items() if k != "Instances"}, "f.json, Instances: missing"),
    "instances": (changed(Instances="x"), "f.json, Instances: expected a list, found a string"),
    "instance": (changed(Instances=[INSTANCE, []]), "f.json, Instances[1]: expected an object"),
    "input": (changed(Instances=[INSTANCE, {"output": ["b"]}]), "f.json, Instances[1].input: missing"),
    "NaN input": (changed(Instances=[{**INSTANCE, "input": math.nan}]), "f.json, Instances[0].input: .*the token NaN"),
    "no output": (changed(Instances=[{**INSTANCE, "output": []}]), "f.json, Instances[0].output: .*an empty list"),
    "output": (changed(Instances=[{**INSTANCE, "output": ["b", None]}]), "f.json, Instances[0].output: expected"),
}


@pytest.mark.parametrize(("content", "complaint"), BAD.values(), ids=BAD)
def test_a_bad_file_gives_no_task_and_one_error_with_file_position_and_field(content, complaint):
    file = parse(content)
    assert file.task is None
    ((severity, text),) = shown(file)
    assert severity == "error"
    start, _, end = complaint.partition(".*")
    assert text.startswith(start)
    assert end in text


def test_all_bad_instances_are_named_at_once():
    file = parse(changed(Instances=[{"input": 1, "output": ["b"]}, INSTANCE, {"input": "a"}]))
    assert [problem.where for problem in file.problems] == ["f.json, Instances[0].input", "f.json, Instances[2].output"]


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    (tmp_path / "x.json").mkdir()
    assert shown(read_task_file(tmp_path / "x.json")) == [
        ("error", f"{tmp_path / 'x.json'}: cannot be read (Is a directory)")
    ]
    assert "No such file" in shown(read_task_file(tmp_path / "y.json"))[0][1]


def test_deep_nesting_around_a_nan_is_no_crash():
    for depth in range(850, 1000, 7):
        file = parse(json.dumps(GOOD)[:-1].encode() + b', "Extra": ' + b"[" * depth + b"NaN" + b"]" * depth + b"}")
        assert file.problems


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "a-1", "a-2", "a-1-2", "task1_x-1", "", None]), min_size=1, max_size=8))
def test_identifiers_are_unique_whatever_the_file_repeats(identifiers):
    file = parse(changed(Instances=[{**INSTANCE, "id": identifier} for identifier in identifiers]))
    found = [instance.id for instance in file.task.instances]
    assert len(set(found)) == len(identifiers)
    assert {identifier for identifier in identifiers if identifier} <= set(found)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_task_or_problems(data):
    file = parse(data)
    assert file.task is None
    assert file.problems


# Surrogates too: JSON can escape them.
TEXT = st.text(st.characters(), max_size=4) | st.sampled_from(["\ud83d", "\ud83d\ude00", " "])
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(TEXT | st.sampled_from(["id", "input", "output", "explanation"]), inner, max_size=4)
    ),
    max_leaves=8,
)
NEARLY = st.fixed_dictionaries(
    {}, optional={key: VALUE | st.just(value) | st.tuples(VALUE) for key, value in GOOD.items()}
).map(lambda change: GOOD | change)


@settings(deadline=None)
@given(NEARLY)
def test_any_json_is_a_task_that_can_be_used_or_an_error(fields):
    file = parse(fields)
    assert (file.task is None) == any(problem.severity == "error" for problem in file.problems)
    for problem in file.problems:
        assert problem.where.startswith("f.json")
        assert str(problem).encode()
    if file.task is not None:
        assert file.task.category.strip()
        assert file.task.definition.strip()
        assert all(instance.outputs for instance in file.task.instances)
        assert len(task_fingerprint(file.task)) == 64
