"""A value of a list is set by its position, or by its name where it has one: in suites, plain lists and grids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simtune.config import Sweep, expand_grid
from simtune.config.loading import read_sweep
from simtune.errors import ConfigError

SUITES = """\
name: s
evaluation:
  suites:
  - name: english
  - name: other
    metrics: [rouge-l, exact-match]
"""


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def read(text: str, *overrides: str) -> Sweep:
        (tmp_path / "s.yaml").write_text(text)
        return read_sweep(tmp_path / "s.yaml", overrides)[0]

    return read


def suites(sweep: Sweep) -> list[tuple[str, int | None, tuple[str, ...] | None]]:
    return [(suite.name, suite.instances_per_task, suite.metrics) for suite in sweep.evaluation.suites or ()]


BOTH = ("rouge-l", "exact-match")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["evaluation.suites.0.instances_per_task=5"], [("english", 5, None), ("other", None, BOTH)]),
        (["evaluation.suites.other.instances_per_task=5"], [("english", None, None), ("other", 5, BOTH)]),
        (["evaluation.suites.other.metrics.1=f1"], [("english", None, None), ("other", None, ("rouge-l", "f1"))]),
        (["evaluation.suites.1={name: third}"], [("english", None, None), ("third", None, None)]),
        # The second override finds what the first has named.
        (
            ["evaluation.suites.0.name=first", "evaluation.suites.first.instances_per_task=7"],
            [("first", 7, None), ("other", None, BOTH)],
        ),
        (["evaluation.suites=[{name: a}]", "evaluation.suites.a.instances_per_task=7"], [("a", 7, None)]),
        # A number is a position, as in messages.
        (
            ["evaluation.suites=[{name: a}, {name: '0'}]", "evaluation.suites.0.instances_per_task=7"],
            [("a", 7, None), ("0", None, None)],
        ),
    ],
)
def test_one_suite_is_set_by_position_or_name(load: Any, overrides: list[str], expected: Any) -> None:
    assert suites(load(SUITES, *overrides)) == expected


@pytest.mark.parametrize("key", ["evaluation.suites.0.split", "evaluation.suites.one.split", "evaluation.suites.split"])
def test_a_single_suite_is_a_list_of_one(load: Any, key: str) -> None:
    (suite,) = load("name: s\nevaluation: {suites: {name: one, instances_per_task: 3}}\n", f"{key}=b").evaluation.suites
    assert (suite.name, suite.split, suite.instances_per_task) == ("one", "b", 3)


def test_plain_lists_single_values_and_defaults_too(load: Any) -> None:
    assert load("selection: {sizes: [5, 10]}", "selection.sizes.1=20").selection.sizes == (5, 20)
    assert load("selection: {sizes: 5}", "selection.sizes.0=20").selection.sizes == (20,)
    defaults = Sweep(name="s").selection
    sweep = load("name: s", "selection.sizes.0=20", "selection.strategies.4=log-det")
    assert sweep.selection.sizes == (20, *defaults.sizes[1:])
    assert [arm.name for arm in sweep.selection.strategies] == [
        *(arm.name for arm in defaults.strategies[:4]),
        "log-det",
    ]
    listed = "name: s\ncorpus: {holdout: {categories: [A, B]}}\n"
    assert load(listed, "corpus.holdout.categories.0=C").corpus.holdout.categories == ("C", "B")


def test_aliases_in_the_file_stay_apart(load: Any) -> None:
    text = "evaluation:\n  metrics: &both [rouge-l, exact-match]\n  suites: [{name: a, metrics: *both}]\n"
    sweep = load(text, "evaluation.suites.a.metrics.0=f1")
    assert sweep.evaluation.metrics == BOTH
    assert suites(sweep) == [("a", None, ("f1", "exact-match"))]


def test_a_value_of_the_grid_is_set_by_its_position(load: Any) -> None:
    lists = "[[{name: a}, {name: b}], [{name: c}]]"
    grid = f"grid:\n  training.epochs: [1, 2]\n  model.revision: a\n  evaluation.suites: {lists}\n"
    keys = (
        "training.epochs.1=5",
        "model.revision.0=b",
        "evaluation.suites.0.b.split=x",
        "training.learning_rate=[1.0]",
    )
    found = load(grid, *(f"grid.{key}" for key in keys)).grid
    assert found == {
        "training.epochs": (1, 5),
        "model.revision": ("b",),
        "evaluation.suites": ([{"name": "a"}, {"name": "b", "split": "x"}], [{"name": "c"}]),
        "training.learning_rate": (1.0,),
    }


@pytest.mark.parametrize("place", ["0", "english"])
def test_a_field_of_one_suite_can_be_swept(load: Any, place: str) -> None:
    sweep = load(f"{SUITES}grid:\n  evaluation.suites.{place}.instances_per_task: [3, 4]\n")
    points = expand_grid(sweep)
    assert [suites(point.sweep)[0] for point in points] == [("english", 3, None), ("english", 4, None)]
    assert suites(sweep)[0] == ("english", None, None)
    assert points[0].label == f"evaluation.suites.{place}.instances_per_task=3"


def test_a_swept_list_and_a_field_in_it_do_not_mix(load: Any) -> None:
    lists = "[[{name: a}], [{name: a, split: b}]]"
    points = expand_grid(
        load(f"grid:\n  evaluation.suites: {lists}\n  evaluation.suites.a.instances_per_task: [3, 4]\n")
    )
    found = [
        (suite.split, suite.instances_per_task) for point in points for suite in point.sweep.evaluation.suites or ()
    ]
    assert found == [(None, 3), (None, 4), ("b", 3), ("b", 4)]


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("evaluation.suites.2.split=x", "evaluation.suites has no value '2'; it has 0 (english), 1 (other)"),
        (
            "evaluation.suites.englsh.split=x",
            "has no value 'englsh'; did you mean 'english'? It has 0 (english), 1 (other)",
        ),
        ("evaluation.suites.-1.split=x", "evaluation.suites has no value '-1'; it has 0 (english), 1 (other)"),
        ("evaluation.suites.01.split=x", "evaluation.suites has no value '01'; it has 0 (english), 1 (other)"),
        (
            "evaluation.suites.english.splt=x",
            "evaluation.suites.0.splt: unknown key; did you mean 'evaluation.suites.0.split'?",
        ),
        (
            "evaluation.suites.english.instances_per_task=0",
            "evaluation.suites.0.instances_per_task: 0 is wrong: expected",
        ),
        ("evaluation.suites.other.metrics.2=f1", "evaluation.suites.1.metrics has no value '2'; it has 0 to 1"),
        ("evaluation.suites.0.name.x=1", "evaluation.suites.0.name is a value, not a section"),
        ("selection.sizes.6=1", "selection.sizes has no value '6'; it has 0 to 5"),
        ("selection.include.0=a", "selection.include has no value '0'; it is empty. Set the whole list"),
        ("evaluation.metrics.0=f1", "evaluation.metrics has no value '0'; it is not set. Set the whole list"),
        ("grid.training.epochs.2=1", "grid.training.epochs has no value '2'; it has 0 to 1"),
        ("grid.training.epochs.0=0", "grid.training.epochs: 0 is wrong"),
        ("selection.sizes.0=x", "selection.sizes.0: 'x' is wrong: expected a whole number of at least 1, or all"),
        ("selection.sizes.0=50", "selection.sizes: lists a value twice"),
    ],
)
def test_a_wrong_position_or_name_is_named_with_those_that_there_are(
    tmp_path: Path, override: str, complaint: str
) -> None:
    (tmp_path / "s.yaml").write_text(f"{SUITES}grid: {{training.epochs: [1, 2]}}\n")

    def expand() -> None:
        sweep, origins = read_sweep(tmp_path / "s.yaml", [override])
        with origins.in_errors():
            expand_grid(sweep)

    with pytest.raises(ConfigError) as caught:
        expand()
    assert complaint in str(caught.value)
    assert f"--set {override}: " in str(caught.value)


def test_no_list_has_no_position(load: Any) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.suites has no value '0'; it is not set\. Set the whole list"):
        load("name: s", "evaluation.suites.0.split=x")


def test_a_later_error_names_the_option_or_the_line_of_the_suite(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"{SUITES}grid:\n  evaluation.suites.other.split: [x, y]\n")
    _, origins = read_sweep(path, ["evaluation.suites.english.rouge_tokenizer=nowhere"])
    assert origins.of_dotted("evaluation.suites.0.rouge_tokenizer").startswith("--set evaluation.suites.english.rouge")
    assert origins.of_dotted("evaluation.suites.1.split") == f"{path}, line 8"
    assert origins.of_dotted("evaluation.suites.1.metrics") == f"{path}, line 6"


def test_a_folder_in_one_suite_of_a_grid_becomes_absolute(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").mkdir()
    for place in ("1", "other"):
        grid = load(f"{SUITES}grid:\n  evaluation.suites.{place}.rouge_tokenizer: [gpt2, org/name]\n").grid
        assert list(grid.values()) == [(str(tmp_path / "gpt2"), "org/name")]


@pytest.mark.parametrize(
    ("keys", "refused"),
    [
        (("evaluation.suites.english.max_new_tokens", "evaluation.suites.0.max_new_tokens"), True),
        (("evaluation.suites.0.max_new_tokens", "evaluation.suites.english.max_new_tokens"), True),
        (("evaluation.suites.english.max_new_tokens", "evaluation.suites.1.max_new_tokens"), False),
    ],
)
def test_a_field_is_swept_under_one_key(load: Any, keys: tuple[str, str], refused: bool) -> None:
    grid = f"grid:\n  {keys[0]}: [4, 6]\n  {keys[1]}: [5, 7]\n"
    if refused:
        with pytest.raises(ConfigError, match=f"is set again by {keys[1]}; keep one of them"):
            expand_grid(load(SUITES + grid))
    else:
        assert len(expand_grid(load(SUITES + grid))) == 4
