"""Every field, given what it cannot take: the message names field, value and what is allowed, in plain words."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from simtune.config import ArmSettings, Sweep, load_sweep
from simtune.config.loading import validate
from simtune.config.problems import dotted_names, unknown_key
from simtune.config.selection import OptionSettings
from simtune.config.set_value import set_value
from simtune.config.yaml_text import read_yaml
from simtune.errors import ConfigError

# How pydantic and Python speak of values.
IDIOM = re.compile(
    r"\b(pydantic|input should|should (be|have|match)|valid (tuple|integer|number|string|dictionary|boolean|list)|"
    r"value error|extra inputs|field required|constrained|instance of|unable to parse|NoneType|literal|tuple|dict|str|"
    r"int|float|bool|union|model_type|items?)\b|\[type=",
    re.IGNORECASE,
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 2.5, -0.5, 10**30, float("nan"), float("inf"), "zzz", "", "3", "1,2"),
    *([], [[]], [None], [{}], ["zzz"], [3, "zzz", -1], {}, {"a": 1}, {1: 2}, [1, 1], datetime.date(2020, 1, 1)),
)
NAMES = [name for name in dotted_names(Sweep) if name != "grid"]


def refusal(name: str, value: Any) -> str | None:
    settings: dict[str, Any] = {"name": "s"}
    set_value(settings, name, value, "here")
    try:
        validate(settings, lambda path: ".".join(map(str, path)))
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", NAMES)
def test_no_wrong_value_of_any_field_brings_another_librarys_words(name: str) -> None:
    refused = {repr(value): text for value in VALUES if (text := refusal(name, value)) is not None}
    assert len(refused) > 5
    # Quoted values are the user's own words.
    said = {value: re.sub(r"'[^']*'|\"[^\"]*\"", "''", text) for value, text in refused.items()}
    assert {value: text for value, text in said.items() if IDIOM.search(text)} == {}
    # A rule for several fields together may name the section alone, or another field of the rule.
    section = name.partition(".")[0]
    assert all(section in line for text in refused.values() for line in text.splitlines())
    # A section lists what it has; a field says what it takes.
    assert any("expected" in text for text in refused.values())


@pytest.mark.parametrize("name", list(OptionSettings.model_fields))
def test_no_wrong_value_of_an_option_brings_another_librarys_words(name: str) -> None:
    said = []
    for value in VALUES:
        text = refusal("selection.strategies", [{"strategy": "random", name: value}])
        if text is not None:
            said.append(text)
            assert "strategy random" in text
            assert IDIOM.search(re.sub(r"'[^']*'|\"[^\"]*\"", "''", text)) is None
    assert len(said) > 5


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("training.epochs", "two", "training.epochs: 'two' is wrong: expected a whole number of at least 1"),
        ("training.epochs", "2", "training.epochs: '2' is wrong: expected a whole number of at least 1; leave out the"),
        ("training.adam_beta2", 1, "training.adam_beta2: 1 is wrong: expected a number above 0 and below 1"),
        ("training.dropout", 1, "expected a number of at least 0 and below 1, or null"),
        ("training.learning_rate", float("nan"), "expected a number above 0, neither NaN nor infinite"),
        ("resources.gpus_per_worker", "all", "expected a number of at least 0, or auto"),
        ("selection.sizes", "ten", "selection.sizes: 'ten' is wrong: expected a whole number of at least 1, or all"),
        ("selection.sizes", "10,50", "or all; write several values as a list, such as [10, 50]"),
        ("selection.sizes", [10, "ten"], "selection.sizes.1: 'ten' is wrong: expected a whole number of at least 1"),
        ("selection.sizes", None, "selection.sizes: null is wrong: expected a list of at least 1 value, each a whole"),
        ("embedding.fields", "definitions", "or negative; did you mean 'definition'?"),
        ("encoding.end_of_source", 1, "encoding.end_of_source: 1 is wrong: expected true or false"),
        ("model.name", 3, "model.name: 3 is wrong: expected a string that is not empty; write it with quotes"),
        ("training", 3, "training: 3 is wrong: expected a section with epochs, learning_rate,"),
        ("encoding", None, "null is wrong: expected a section with format, end_of_source, the settings of the format"),
        (
            "evaluation.metrics",
            [],
            "evaluation.metrics: [] is wrong: expected a list of at least 1 value, each a string",
        ),
        (
            "evaluation.suites",
            [],
            "evaluation.suites: [] is wrong: expected a list of at least 1 value, each a section",
        ),
        ("evaluation.suites", [{"name": "a", "metrics": []}], "evaluation.suites.0.metrics: [] is wrong: expected a"),
        ("evaluation.suites", {"name": "a", "categories": []}, "evaluation.suites.categories: [] is wrong: expected a"),
        ("name", "a/b", "name: 'a/b' is wrong: expected a string of at most 100 letters, digits, dots"),
    ],
)
def test_messages_say_what_is_allowed(name: str, value: Any, said: str) -> None:
    found = refusal(name, value)
    assert found is not None
    assert said.replace("or negative", "one of category, definition, positive, negative") in found


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        # A word or a number where a section stands: what it would be in the section.
        ("mixture", "proportional", "; write it as a section, such as {proportional: {}}"),
        ("mixture", "oversample", "; write it as a section, such as {oversample: N}"),
        ("mixture", "per-template-cap", "; write it as a section, such as {per_template_cap: N}"),
        ("mixture", "proprtional", "; write it as a section, such as {proportional: {}}"),
        ("mixture", 5, "; write it as a section, such as {oversample: 5}"),
        (
            "mixture",
            "even",
            "expected equal, or a section with oversample, proportional, per_template_cap, examples_per_epoch",
        ),
        ("mixture", "equl", "; did you mean 'equal'?"),
        ("mixture", {"equal": {}}, "mixture.equal: unknown key; write mixture: equal. Known here: oversample,"),
        ("mixture.proportional", 3, "; write it as a section, such as {cap: 3}"),
        ("corpus.holdout", "default", "; write it as a section, such as {split: default}"),
        ("corpus.holdout", "split", "; write it as a section, such as {split: NAME}"),
        ("corpus.holdout", "each", "; write it as a section, such as {categories: each}"),
        ("corpus.holdout", "categories", "; write it as a section, such as {categories: [NAME]}"),
        ("corpus.holdout", "clusters", "; write it as a section, such as {clusters: {NAME: {...}}}"),
        ("corpus.holdout", "tasks", "; write it as a section, such as {tasks: {train: [NAME], test: [NAME]}}"),
        ("corpus.holdout.tasks", ["a"], "; write it as a section, such as {train: [NAME], test: [NAME]}"),
        ("corpus.holdout.random_per_category", 2, "; write it as a section, such as {num: 2}"),
        ("corpus.holdout.clusters", {"nli": ["a", "b"]}, "; write it as a section, such as {tasks: [a, b]}"),
        ("corpus.holdout.clusters", ["nli"], "; write it as a mapping, such as {NAME: {...}}"),
        ("grid", "a", "expected a mapping; write it as a mapping, such as {NAME: [VALUE]}"),
        ("corpus", "data/x", "; write it as a section, such as {path: data/x}"),
        ("corpus", "a: b", "; write it as a section, such as {path: 'a: b'}"),
        ("encoding", "flan", "; write it as a section, such as {format: flan}"),
        ("evaluation.suites", ["english"], "; write it as a section, such as {name: english}"),
        ("leakage", ["remove"], "expected error, remove or allow, or a section with policy,"),
        ("leakage", {"remove": {}}, "leakage.remove: unknown key; write leakage: remove. Known here: policy,"),
        # A mapping or a list where one value stands.
        ("mixture.oversample", {}, "; write a single value, such as oversample: N"),
        ("mixture", {"per-template-cap": {"cap": 5}}, "; write a single value, such as per_template_cap: N"),
        ("corpus.holdout.split", ["a"], "; write a single value, such as split: NAME"),
        ("leakage.policy", {"remove": True}, "; write a single value, such as policy: error"),
        ("selection.sizes", [[5]], "expected a whole number of at least 1, or all; write a single value, such as N"),
        # A single mapping for a list of sections.
        ("evaluation.suites", {"name": "a", "splt": "b"}, "unknown key; did you mean 'evaluation.suites.split'? Known"),
    ],
)
def test_a_word_for_a_section_and_the_reverse_get_the_right_form(name: str, value: Any, hint: str) -> None:
    found = refusal(name, value)
    assert found is not None
    assert hint in found


@pytest.mark.parametrize("name", NAMES)
def test_a_form_that_is_suggested_is_accepted(name: str) -> None:
    for value in ("zzz", "each", "remove", 2, 0.5, True, ["zzz"]):
        form = re.search(r"such as (\{.*\})$", refusal(name, value) or "", re.MULTILINE)
        if form and not re.search(r"\b(N|NAME|VALUE)\b|\.\.\.", form[1]):
            assert refusal(name, read_yaml(form[1])[0]) is None


@pytest.mark.parametrize("value", ["\uff11\uff12", "\u0663", "1_0", "10\n"])
def test_what_would_be_no_number_without_quotes_gets_no_hint_to_leave_them_out(value: str) -> None:
    found = refusal("training.epochs", value)
    assert found is not None
    assert found.endswith("is wrong: expected a whole number of at least 1")


LISTS = {
    "selection.sizes": 10,
    "selection.seeds": 3,
    "selection.strategies": "graph-cut(lambda=0.3, per_category_cap=5)",
    "selection.include": "a",
    "selection.exclude": "a",
    "embedding.fields": "definition",
    "baselines": "untuned",
    "evaluation.metrics": "rouge-l",
    "evaluation.suites": {"name": "english"},
}


def test_the_lists_are_all_there() -> None:
    def lists(model: type[BaseModel], prefix: str = "") -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            kind: Any = field.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found += lists(kind, f"{prefix}{name}.")
            elif str(kind).startswith(("tuple", "typing.Optional[typing.Annotated[tuple")):
                found.append(f"{prefix}{name}")
        return found

    assert sorted(lists(Sweep)) == sorted(LISTS)


@pytest.mark.parametrize("name", LISTS)
def test_a_single_value_is_a_list_of_one_in_a_file_and_in_an_override(name: str, tmp_path: Path) -> None:
    def loaded(value: Any) -> Any:
        settings: dict[str, Any] = {"name": "s"}
        set_value(settings, name, value, "here")
        try:
            found: Any = validate(settings, lambda path: ".".join(map(str, path)))
        except ConfigError as error:
            return str(error)
        for part in name.split("."):
            found = getattr(found, part)
        return found

    assert loaded(LISTS[name]) == loaded([LISTS[name]])
    assert isinstance(loaded(LISTS[name]), tuple)


def test_a_single_value_is_taken_from_the_command_line_and_in_a_grid(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("name: s\nselection: {seeds: 4}\ngrid: {training.epochs: 3}\n")
    sweep = load_sweep(path, ["selection.sizes=10", "selection.strategies=random", "grid.encoding.positive=1"])
    assert (sweep.selection.sizes, sweep.selection.seeds) == ((10,), (4,))
    assert sweep.selection.strategies == (ArmSettings(strategy="random"),)
    assert sweep.grid == {"training.epochs": (3,), "encoding.positive": (1,)}


@pytest.mark.parametrize(
    ("key", "suggested"),
    [
        (("epochs",), "did you mean 'training.epochs'?"),
        (("epoch",), "did you mean 'training.epochs'?"),
        (("trainng",), "did you mean 'training'?"),
        (("tokens_per_batch",), "did you mean 'training.tokens_per_batch' or 'evaluation.tokens_per_batch'?"),
        (("training", "epoch"), "did you mean 'training.epochs'?"),
        (("training", "encoder"), "did you mean 'embedding.encoder'?"),
        (("training", "learning-rate"), "did you mean 'training.learning_rate'?"),
        (("selection", "size"), "did you mean 'selection.sizes'?"),
        (("selection", "strategy"), "did you mean 'selection.strategies'?"),
        (("SIZES",), "did you mean 'selection.sizes'?"),
    ],
)
def test_the_full_name_is_suggested_for_a_bare_or_misspelt_one(key: tuple[str, ...], suggested: str) -> None:
    assert unknown_key(key, Sweep) == f"; {suggested}"


def test_a_name_unlike_any_field_has_no_suggestion() -> None:
    assert unknown_key(("qqqq",), Sweep) == "."


def test_the_suggestion_reaches_the_override_the_file_and_the_grid(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("name: s\n")
    with pytest.raises(ConfigError, match=r"--set epochs=2: epochs: unknown key; did you mean 'training\.epochs'\?"):
        load_sweep(path, ["epochs=2"])
    path.write_text("name: s\nepochs: 2\n")
    with pytest.raises(ConfigError, match=r"s\.yaml, line 2: epochs: unknown key; did you mean 'training\.epochs'\?"):
        load_sweep(path)
    from simtune.config import expand_grid

    path.write_text("name: s\ngrid: {epochs: [1, 2]}\n")
    with pytest.raises(ConfigError, match=r"grid\.epochs: cannot be swept; did you mean 'training\.epochs'\?"):
        expand_grid(load_sweep(path))
