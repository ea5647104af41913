"""What strategies take, and strategies of installed packages."""

import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest
from arms import arm_of, choose, drawn

from simtune.config import ArmSettings, SelectionSettings
from simtune.entry_points import load_lines
from simtune.errors import ConfigError, CorpusError, ExtensionError
from simtune.selection import registry, strategies
from simtune.selection.arms import choose_tasks
from simtune.selection.registry import STRATEGIES, strategy
from simtune.selection.strategy import FigureStyle
from simtune.selection.subsets import build_subsets, resolve_arms
from simtune.selection.tables import strategies_markdown

PARAMETERS = [(name, key) for name, found in STRATEGIES.items() for key in found.parameters]
WRONG = {
    "lambda": [-0.001, True, "0.5", float("nan"), float("inf")],
    "ridge": [0, 0.0, -1, False, "x", float("nan")],
    "min_category_tasks": [0, 1.0, True, "2", float("nan")],
    "similarity": ["mean", "", 1, True],
    "by": ["median", 0, True],
    "file": [3, True, 0.5],
    "missing": ["ignore", "", True],
}
RANGE = {
    "lambda": "a number of at least 0",
    "ridge": "a number above 0",
    "min_category_tasks": "a whole number of at least 1",
    "similarity": "one of mean-vector, mean-pair",
    "by": "one of mean, max",
    "file": "a string",
    "missing": "one of refuse, skip",
}


@pytest.mark.parametrize(("name", "key"), PARAMETERS)
def test_a_parameter_out_of_range_is_named_with_strategy_and_range(name, key):
    for value in WRONG[key]:
        with pytest.raises(ConfigError) as caught:
            STRATEGIES[name].check(name, {key: value})
        assert str(caught.value).startswith(f"strategy {name}: {key}: {value!r} is not {RANGE[key]}")


@pytest.mark.parametrize(
    ("name", "given", "complaint"),
    [
        (
            "graph-cut",
            {"lamda": 1},
            r"strategy graph-cut: unknown parameter 'lamda'; it takes lambda; did you mean 'lam",
        ),
        ("different", {"lambda": 1}, "strategy different: unknown parameter 'lambda'; it takes no parameters$"),
        ("far-from-target", {"by": "coverage"}, "by: 'coverage' is not one of mean, max$"),
        ("list", {"file": ""}, "strategy list: file: missing; give list: FILE"),
        (
            "diferent",
            {},
            "^unknown strategy 'diferent'; did you mean 'different'.*Known: different, ",
        ),
        ("full", {}, "unknown strategy 'full'.*the whole pool is `all` in selection.sizes"),
    ],
)
def test_what_is_unknown_is_named_with_the_nearest(name, given, complaint):
    with pytest.raises(ConfigError, match=complaint):
        arm_of(name, **given)


def test_every_strategy_is_named_where_one_is_unknown():
    with pytest.raises(ConfigError) as caught:
        strategy("zzz")
    assert str(caught.value).endswith(f"Known: {', '.join(STRATEGIES)}")


def test_parameters_at_the_end_of_their_range_and_whole_numbers_for_numbers_are_taken():
    assert arm_of("graph-cut", **{"lambda": 0}).parameters == {"lambda": 0}
    assert arm_of("log-det", ridge=1).parameters == {"ridge": 1}
    assert arm_of("near-target").parameters == {"by": "mean"}
    assert arm_of("different-category", min_category_tasks=1).parameters["similarity"] == "mean-vector"


def test_a_list_that_cannot_be_read_is_an_error_with_its_file(tmp_path):
    with pytest.raises(CorpusError, match=r"none\.txt: no such split list"):
        arm_of("list", file=str(tmp_path / "none.txt"))


def test_the_label_of_the_whole_pool_is_kept_free():
    with pytest.raises(ConfigError, match="'full' is reserved for the whole pool"):
        resolve_arms(SelectionSettings(strategies=({"strategy": "random", "label": "full"},)))


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a distribution with strategies on the path, as if it were installed."""
    modules = set(sys.modules)

    def install(code, entries, name="study_strategies"):
        (tmp_path / f"{name}.py").write_text(code)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[simtune.strategies]\n" + "".join(f"{line}\n" for line in entries))
        monkeypatch.syspath_prepend(tmp_path)
        registry._installed.cache_clear()

    yield install
    registry._installed.cache_clear()
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in sys.modules[name].__file__:
            del sys.modules[name]


ALPHABETICAL = """
def alphabetical(subset):
    subset.add_in_order(range(len(subset.graph)))
"""


def test_a_function_of_an_installed_package_is_a_strategy(install):
    install(ALPHABETICAL, ["alphabetical = study_strategies:alphabetical"])
    graph = drawn(12)
    selection = SelectionSettings(strategies=("alphabetical", "random"), sizes=(3, 5), seeds=(0, 1))
    subsets = [subset for subset in build_subsets(graph, selection) if subset.arm == "alphabetical"]
    assert [(subset.seed, subset.tasks) for subset in subsets] == [
        (seed, graph.names[:size]) for seed in (0, 1) for size in (3, 5)
    ]
    capped = build_subsets(graph, selection.model_copy(update={"per_category_cap": 1}))
    assert all(subset.statistics.num_categories == len(subset.tasks) for subset in capped)
    with pytest.raises(ConfigError, match="strategy alphabetical: unknown parameter 'x'; it takes no parameters"):
        arm_of("alphabetical", x=1)
    with pytest.raises(ConfigError, match="unknown strategy 'alphabetic'; did you mean 'alphabetical'"):
        strategy("alphabetic")


def test_the_example_of_the_docs_runs(install):
    page = (Path(__file__).parents[2] / "docs" / "choosing.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    entries = tomllib.loads(re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1])["project"]["entry-points"]
    (entry,) = [f"{name} = {value}" for name, value in entries[registry.ENTRY_POINTS].items()]
    install(code, [entry], "my_strategies")
    graph = drawn(12, 0)
    (subset,) = build_subsets(graph, SelectionSettings(strategies=("shortest-name",), sizes=(5,), seeds=(0,)))
    assert list(subset.tasks) == sorted(graph.names, key=len)[:5]


def test_the_table_of_the_docs_is_what_the_command_prints(monkeypatch, capsys):
    command_line = importlib.import_module("simtune.cli.main")
    monkeypatch.setattr(command_line.signals, "install", lambda: None)
    monkeypatch.setattr(sys, "argv", ["simtune", "strategies", "--markdown"])
    with pytest.raises(SystemExit) as stopped:
        command_line.main()
    printed = capsys.readouterr().out
    assert stopped.value.code == 0
    assert printed == f"{strategies_markdown()}\n"
    page = (Path(__file__).parents[2] / "docs" / "choosing.md").read_text()
    assert f"\n\n{printed}\n" in page, "paste the output of `simtune strategies --markdown`"


def test_a_built_in_strategy_is_one_file_and_one_line_of_the_registry(tmp_path, monkeypatch):
    (tmp_path / "alphabetical.py").write_text(
        """
from simtune.selection.strategy import FigureStyle, Strategy

def alphabetical(subset):
    \"\"\"Tasks by name.\"\"\"
    subset.add_in_order(range(len(subset.graph)))

ALPHABETICAL = Strategy(alphabetical, uses_categories=True, oracle=True, style=FigureStyle("#123456", "x"))
"""
    )
    monkeypatch.setattr(strategies, "__path__", [*strategies.__path__, str(tmp_path)])
    lines = {**registry.BUILT_IN, "alphabetical": "alphabetical:ALPHABETICAL"}
    monkeypatch.setattr(registry, "STRATEGIES", load_lines("simtune.selection.strategies", lines))
    graph = drawn(12)
    (subset,) = build_subsets(graph, SelectionSettings(strategies=("alphabetical",), sizes=(3,), seeds=(0,)))
    assert (subset.arm, subset.tasks) == ("alphabetical (oracle)", graph.names[:3])
    assert registry.strategy("alphabetical").style.colour == "#123456"
    assert "| `alphabetical` | Tasks by name | **oracle** |" in strategies_markdown().splitlines()


def test_an_installed_strategy_has_parameters_and_sees_the_seed(install):
    install(
        """
from simtune.selection.strategy import Parameter, Strategy

def every(subset):
    \"\"\"Every few tasks.\"\"\"
    subset.add_in_order(range(subset.seed, len(subset.graph), subset.parameters["step"]))

strategy = Strategy(every, {"step": Parameter(2, at_least=1)}, seeded=True, nested=False)
""",
        ["every = study_strategies:strategy"],
    )
    assert choose(drawn(12), "every", 4, 1, step=3) == [1, 4, 7, 10]
    assert (strategy("every").summary, arm_of("every").parameters) == ("Every few tasks.", {"step": 2})
    with pytest.raises(ConfigError, match="strategy every: step: 0 is not a whole number of at least 1"):
        arm_of("every", step=0)


@pytest.mark.parametrize(
    ("code", "entry", "complaint"),
    [
        (
            ALPHABETICAL,
            "random = study_strategies:alphabetical",
            "there is already a strategy 'random'; give this one another",
        ),
        (ALPHABETICAL, "mine = study_strategies:alphabet", r"cannot be loaded \(AttributeError: .*'alphabet'"),
        ("import not_installed_anywhere", "mine = study_strategies:x", r"cannot be loaded \(ModuleNotFoundError: "),
        ("1 / 0", "mine = study_strategies:x", r"cannot be loaded \(ZeroDivisionError: "),
        ("mine = 3", "mine = study_strategies:mine", "not a function that fills a subset, or a .*Strategy"),
    ],
)
def test_an_entry_point_that_is_wrong_is_named_and_own_strategies_still_run(install, code, entry, complaint):
    install(code, [entry])
    with pytest.raises(ConfigError, match=complaint) as caught:
        strategy("mine")
    assert f"entry point simtune.strategies: {entry}" in str(caught.value)
    assert len(choose(drawn(5), "random", 2)) == 2


def test_a_name_that_two_packages_give_is_refused(install):
    install(ALPHABETICAL, ["mine = study_strategies:alphabetical"])
    install(ALPHABETICAL, ["mine = other_strategies:alphabetical"], "other_strategies")
    with pytest.raises(ConfigError, match="there is already a strategy 'mine'"):
        strategy("mine")


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("1 / 0", "strategy mine failed: ZeroDivisionError: division by zero"),
        (
            "[subset.add(0) for _ in range(2)]",
            "strategy mine failed: ValueError: added 'task0000', which is already chosen or ruled",
        ),
        ("[subset.add(task) for task in range(5)]", "mine failed: ValueError: added more than the 3 tasks wanted"),
        ("subset.add(99)", "strategy mine failed: ValueError: added task 99; the pool has the tasks 0 to 5"),
        ("subset.add(-1)", "strategy mine failed: ValueError: added task -1; "),
        ("pass", "strategy mine: chose none of 6 tasks that may be chosen"),
    ],
)
def test_a_function_that_fails_is_named(install, body, complaint):
    install(f"def mine(subset):\n    {body}\n", ["mine = study_strategies:mine"])
    with pytest.raises(ExtensionError, match=complaint):
        build_subsets(drawn(6), SelectionSettings(strategies=("mine",), sizes=(3,), seeds=(0,)))


def test_a_function_that_takes_too_few_tasks_is_no_error_unless_it_takes_none(install):
    install("def mine(subset):\n    subset.add_in_order([2])\n", ["mine = study_strategies:mine"])
    selection = SelectionSettings(strategies=("mine",), sizes=(3,), seeds=(0,))
    (subset,) = build_subsets(drawn(6), selection)
    assert (subset.tasks, subset.note[:19]) == (("task0002",), "mine: 1 of 3 tasks:")
    with pytest.raises(ExtensionError, match="strategy mine: chose none of 5 tasks that may be chosen"):
        choose_tasks(arm_of("mine", exclude=["task0002"]), drawn(6), [3], 0)


def test_an_error_in_a_built_in_strategy_is_not_blamed_on_a_package(monkeypatch):
    monkeypatch.setattr("simtune.selection.partial_subset.PartialSubset.add_in_order", lambda subset, tasks: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        choose(drawn(5), "random", 2)


def test_arms_are_settings_whichever_way_they_are_written():
    assert ArmSettings.model_validate("graph-cut(lambda=0.3)") == ArmSettings.model_validate(
        {"strategy": "graph-cut", "lambda": 0.3}
    )


@pytest.mark.parametrize(("colour", "marker"), [("red", "o"), ("#0072B2", "o"), ("#0072b2", "oo"), ("#0072b2", "$")])
def test_a_style_that_figures_cannot_draw_is_refused(colour, marker):
    with pytest.raises(ValueError, match="give a colour as #rrggbb"):
        FigureStyle(colour, marker)
