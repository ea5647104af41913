"""What a user sees while stages run."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from simtune.cli.live_display import ConsoleDisplay
from simtune.cli.options import display_for
from simtune.config import CorpusSettings, EmbeddingSettings, EvaluationSettings, SelectionSettings, Sweep
from simtune.config.holdout import HoldoutSettings
from simtune.corpus.pool import build_task_sets
from simtune.embedding.embed import embed_tasks, encode_here
from simtune.graph.similarity import SimilarityGraph
from simtune.planning.plan import plan_sweep
from simtune.selection.subsets import build_subsets

Calls = list[tuple[int, int]]


def live_lines(total: int | None, done: int = 0) -> str:
    """What a stage's line in a live terminal says."""
    console = Console(file=StringIO(), width=100, color_system=None, force_terminal=True)
    display = ConsoleDisplay(console)
    with display.stage("embed tasks") as on_progress:
        if total is not None:
            on_progress(done, total)
        console.print(display._render())
        return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_stage_shows_its_total_and_no_question_mark_where_there_is_none() -> None:
    assert "0/12" in live_lines(12)
    assert "5/12" in live_lines(12, 5)
    for total in (None, 0):
        assert re.search(r"\d/|\?", live_lines(total, 7)) is None


def test_whatever_a_trial_reports_its_seconds_and_its_label_are_those_of_its_start() -> None:
    console = Console(file=StringIO(), width=100, color_system=None)
    display = ConsoleDisplay(console)
    display.trials_start(1, 0)
    display.trial_started("a", "random, seed 0")
    display.trial_progress("a", {"phase": "waiting", "completed": 0, "total": 0, "since": 1.8e9, "label": "x"})
    display.trial_ended("a", "ROUGE-L 1.00")
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1/1 random, seed 0: ROUGE-L 1.00 (0 s)" in said


def first_call(run: Callable[[Callable[[int, int], None]], object]) -> tuple[Calls, Calls]:
    calls: Calls = []
    run(lambda done, total: calls.append((done, total)))
    return calls[:1], calls[-1:]


def test_every_stage_says_how_much_there_is_before_the_first_is_done(tmp_path: Path) -> None:
    corpus, evaluation = CorpusSettings(min_instances=1), EvaluationSettings()
    tasks = build_task_sets(corpus, evaluation)
    first, last = first_call(lambda progress: build_task_sets(corpus, evaluation, progress))
    total = len(tasks.pool) + len(tasks.test)
    assert (first, last) == ([(0, total)], [(total, total)])
    held = corpus.model_copy(update={"holdout": HoldoutSettings(categories=(tasks.test[0].category,))})
    assert first_call(lambda progress: build_task_sets(held, evaluation, progress))[0] == [(0, total)]

    few = tasks.pool[:3]
    first, last = first_call(lambda progress: embed_tasks(few, EmbeddingSettings(), tmp_path, encode_here, progress))
    assert (first, last) == ([(0, 3)], [(3, 3)])

    vectors_ND = np.random.default_rng(0).normal(size=(9, 4))
    graph = SimilarityGraph.build(tuple("abcdefghi"), ("",) * 9, vectors_ND)
    selection = SelectionSettings.model_validate({"strategies": ["different"], "sizes": [4]})
    first, last = first_call(lambda progress: build_subsets(graph, selection, progress))
    assert (first, last) == ([(0, 4)], [(4, 4)])


def test_plan_says_what_it_is_doing() -> None:
    console = Console(file=StringIO(), width=100, color_system=None)
    settings = {"name": "s", "model": {"init": "random", "tokenizer": "pool"}, "corpus": {"min_instances": 60}}
    plan = plan_sweep(Sweep.model_validate(settings), ConsoleDisplay(console))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"measure lengths {plan.pool_tasks + plan.test_tasks} (" in said
    assert "read tasks" in said


@pytest.mark.parametrize(("number", "said"), [(1, "1 trial to run"), (2, "2 trials to run")])
def test_trials_are_counted_in_words_that_agree(number: int, said: str) -> None:
    console = Console(file=StringIO(), width=100, color_system=None)
    ConsoleDisplay(console).trials_start(number, 0)
    assert console.file.getvalue().strip() == said  # type: ignore[attr-defined]


def test_with_json_warnings_alone_are_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with display_for(quiet=True) as display, display.stage("embed tasks") as on_progress:
        on_progress(1, 2)
        display.note("a note")
        display.warn("a warning")
    said = capsys.readouterr()
    assert said.err == "warning: a warning\n"
    assert said.out == ""
