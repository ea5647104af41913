"""The `selection` block: three forms of an arm, the same after a round trip, and errors with file, line and field."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simtune.config import ArmSettings, Sweep, dump_sweep, load_sweep
from simtune.errors import ConfigError


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "s.yaml"
        path.write_text(text)
        return load_sweep(path)

    return load


def arm(name, parameters=None, options=None, label=None):
    return {"strategy": name, "label": label, "parameters": parameters or {}, "options": options or {}}


FORMS = {
    "different": arm("different"),
    "graph-cut()": arm("graph-cut"),
    "graph-cut(lambda=0.3)": arm("graph-cut", {"lambda": 0.3}),
    "'graph-cut( lambda = 2 , per_category_cap=5)'": arm("graph-cut", {"lambda": 2}, {"per_category_cap": 5}),
    "'near-target(by=max, include=[a, b], start=c)'": arm(
        "near-target", {"by": "max"}, {"include": ("a", "b"), "start": "c"}
    ),
    "'max-min(label=far, cosine=centred)'": arm("max-min", None, {"cosine": "centred"}, "far"),
    "{strategy: log-det, ridge: 1e-3}": arm("log-det", {"ridge": 0.001}),
    "{strategy: mine, flag: true, number: 1, text: '1'}": arm("mine", {"flag": True, "number": 1, "text": "1"}),
    "{strategy: different, label: x, per_category_cap: null}": arm("different", None, {"per_category_cap": None}, "x"),
    "{strategy: different, max_pair_similarity: 1, exclude: [a]}": arm(
        "different", None, {"max_pair_similarity": 1.0, "exclude": ("a",)}
    ),
    "{list: /lists/p.txt}": arm("list", {"file": "/lists/p.txt"}),
    "'list: /lists/p.txt'": arm("list", {"file": "/lists/p.txt"}),
    "{list: /lists/p.txt, label: mine, per_source_cap: 3}": arm(
        "list", {"file": "/lists/p.txt"}, {"per_source_cap": 3}, "mine"
    ),
}


@pytest.mark.parametrize(("text", "expected"), FORMS.items(), ids=FORMS)
def test_an_arm_in_each_form_is_read_and_written_back(load, text, expected):
    sweep = load(f"selection: {{strategies: [{text}]}}")
    (found,) = sweep.selection.strategies
    assert {name: getattr(found, name) for name in expected} == expected
    given = {**found.parameters, **found.options}
    wanted = {**expected["parameters"], **expected["options"]}
    assert {name: type(value) for name, value in given.items()} == {name: type(value) for name, value in wanted.items()}
    assert load(dump_sweep(sweep)) == sweep


def test_a_relative_list_is_found_from_the_working_directory(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = load("selection: {strategies: [{list: lists/p.txt}, 'list:~/q.txt']}")
    first, second = (found.parameters["file"] for found in sweep.selection.strategies)
    assert first == str(tmp_path / "lists/p.txt")
    assert second.startswith("/")
    assert "~" not in second


def test_an_arm_inherits_the_options_it_does_not_give(load):
    selection = load(
        """
selection:
  cosine: centred
  per_category_cap: 3
  include: [a]
  strategies: [different, {strategy: similar, per_category_cap: null, cosine: uncentred}, 'random(include=[])']
"""
    ).selection
    found = [selection.options_of(own) for own in selection.strategies]
    assert [(own.cosine, own.per_category_cap, own.include) for own in found] == [
        ("centred", 3, ("a",)),
        ("uncentred", None, ("a",)),
        ("centred", 3, ()),
    ]


WRONG = {
    "no name": ("{lambda: 1}", "has no strategy; add strategy: NAME, or list: FILE"),
    "both": ("{list: a, strategy: b}", "has both strategy and list"),
    "a number": ("5", "5 is not an arm; give a strategy's name"),
    "a list": ("[a]", r"\['a'\] is not an arm"),
    "no value": ("graph-cut(lambda)", r"'graph-cut\(lambda\)': 'lambda' is not of the form name=value"),
    "not yaml": ("'graph-cut(lambda=[)'", r"'\[' is not a value"),
    "a nested value": ("{strategy: a, b: [1]}", r"b: \[1\] is neither a number nor a string"),
    "empty": ("''", "selection.strategies.0.strategy: '' is wrong"),
    "label": ("{strategy: a, label: 3}", "selection.strategies.0.label: 3 is wrong"),
    "cap": (
        "{strategy: a, per_category_cap: 0}",
        "strategy a: per_category_cap: 0 is wrong: expected a whole number of at least 1",
    ),
    "cap type": ("{strategy: a, per_source_cap: true}", "strategy a: per_source_cap: true is wrong"),
    "similarity": ("a(max_pair_similarity=1.01)", "strategy a: max_pair_similarity: 1.01 is wrong"),
    "cosine": (
        "a(cosine=centered)",
        "strategy a: cosine: 'centered' is wrong: expected one of uncentred, centred; did you mean 'centred'",
    ),
    "a text for a list": (
        "{strategy: a, include: {b: c}}",
        "strategy a: include: {'b': 'c'} is wrong: expected a string",
    ),
    "include twice": ("'a(include=[b, b])'", "strategy a: include: .*lists a value twice"),
    "in and out": ("'a(include=[b], exclude=[b])'", r"has b in include or start and also in exclude"),
    "start and out": ("'a(start=b, exclude=[b])'", "has b in include or start and also in exclude"),
    "twice": (
        "a, 'graph-cut(lambda=0.3)', {strategy: graph-cut, lambda: 0.3}",
        r"twice: .*'graph-cut\(lambda=0.3\)', 'gr",
    ),
}


@pytest.mark.parametrize(("text", "complaint"), WRONG.values(), ids=WRONG)
def test_a_wrong_arm_is_refused_with_a_helpful_message(load, text, complaint):
    with pytest.raises(ConfigError, match=complaint) as caught:
        load(f"name: s\nselection:\n  strategies: [{text}]\n")
    assert "s.yaml, line 3: selection.strategies" in str(caught.value)
    assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("max_pair_similarity: -1", "selection.max_pair_similarity: -1 is wrong"),
        ("per_source_cap: 0", "selection.per_source_cap: 0 is wrong"),
        ("include: [a, a]", "selection.include: lists a value twice"),
        ("include: [a]\n  exclude: [a]", "selection: has a in include or start and also in exclude"),
        ("start: ''", "selection.start: '' is wrong"),
        ("per_categry_cap: 2", "selection.per_categry_cap: unknown key; did you mean 'selection.per_category_cap'"),
    ],
)
def test_wrong_options_of_the_selection_are_named(load, text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        load(f"selection:\n  {text}\n")


SHORT_FLOAT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")
TEXTS = st.text("abc xyz-_.:,'\"#&*!|>%@`{}[]()=?~/\\é\n0159e", min_size=1).filter(
    lambda text: not SHORT_FLOAT.fullmatch(text)
)
NAMES = st.lists(TEXTS, max_size=3, unique=True)
ARMS = st.fixed_dictionaries(
    {"strategy": st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True)},
    optional={
        "label": TEXTS,
        "number": st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | TEXTS,
        "cosine": st.sampled_from(["centred", "uncentred"]),
        "per_category_cap": st.integers(1, 10**6) | st.none(),
        "per_source_cap": st.integers(1, 10**6) | st.none(),
        "max_pair_similarity": st.floats(-0.999, 1) | st.none(),
        "include": NAMES,
        "start": st.none() | TEXTS,
    },
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arms=st.lists(ARMS, max_size=3, unique_by=lambda fields: ArmSettings.model_validate(fields).name), exclude=NAMES)
def test_a_dumped_selection_loads_as_the_same(load, arms, exclude):
    taken = {name for fields in arms for name in [*fields.get("include", ()), fields.get("start")]}
    selection = {"strategies": arms, "exclude": [name for name in exclude if name not in taken]}
    sweep = Sweep.model_validate({"name": "s", "storage": "/runs", "selection": selection})
    assert load(dump_sweep(sweep)) == sweep


def test_a_text_that_looks_like_a_short_float_survives(load):
    sweep = load("selection: {strategies: [{strategy: different, label: '1e-3'}]}")
    assert load(dump_sweep(sweep)) == sweep


def test_floats_in_brackets_are_floats_however_they_are_written(load):
    for text in ("1e-3", "1E-3", "1.0e-3", "0.001"):
        (found,) = load(f"selection: {{strategies: [log-det(ridge={text})]}}").selection.strategies
        assert found.parameters == {"ridge": 0.001}
