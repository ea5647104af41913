"""What keeps a driver small with thousands of trials: what it reads, what it keeps, and what it does only once."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from results_made_up import SCORE, finished_run, metrics_of, trial_id

from simtune import redaction
from simtune.errors import RunError
from simtune.report.table_metadata import ArmInfo, MetricInfo, ResultsMetadata
from simtune.sweep.results import Planned, results_tables
from simtune.sweep.results_schemas import scores_schema
from simtune.sweep.score_rows import score_part, scores_table
from simtune.trial import files as module
from simtune.trial.files import Outcome, ScoreOf, read_outcomes

NAMES = {"suite": "test", "prompt": "a prompt", "num_tasks": 2, "num_examples": 8, "num_categories": 1, "note": ""}
STATISTICS = dict.fromkeys(("mean_similarity", "max_similarity", "coverage"))


def row(number: int, arm: str = "random") -> dict[str, Any]:
    return {"trial": trial_id(number), "score": SCORE, "arm": arm, "size": 10, "seed": number} | NAMES | STATISTICS


def planned(*rows: dict[str, Any]) -> Planned:
    metrics = tuple(
        MetricInfo(name=name, column=name.replace("-", "_"), title=name, unit="", digits=1, higher_is_better=True)
        for name in ("rouge-l", "exact-match")
    )
    arms = tuple(ArmInfo(name=name, type="strategy", style=None) for name in ("random", "different"))
    return Planned(rows, (), ResultsMetadata(arms=arms, metrics=metrics))


def test_trials_that_have_not_started_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_run(tmp_path, num_trials=3)
    read: list[str] = []

    def counted(directory: Path, score: str) -> Outcome:
        read.append(directory.name)
        return module_read(directory, score)

    module_read = module.read_outcome
    monkeypatch.setattr(module, "read_outcome", counted)
    scores = [(trial_id(number), SCORE) for number in range(1000)]
    found = dict(read_outcomes(tmp_path / "trials", scores))
    assert list(found) == scores
    assert read == [trial_id(number) for number in range(3)]
    assert [outcome.metrics is not None for outcome in found.values()] == [True] * 3 + [False] * 997


def test_an_unreadable_folder_of_trials_is_not_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("simtune.storage.files.os.listdir", refuse)
    with pytest.raises(RunError, match=r"trials: cannot be read \(Permission denied\); check its permissions"):
        list(read_outcomes(tmp_path / "trials", [(trial_id(0), SCORE)]))


def test_damaged_results_are_counted_after_the_others(tmp_path: Path) -> None:
    finished_run(tmp_path, num_trials=600)
    for number in (3, 500):
        path = tmp_path / "trials" / trial_id(number) / "scores" / SCORE / "metrics.json"
        path.write_bytes(path.read_bytes()[:-20])
    scores = [(trial_id(number), SCORE) for number in range(600)]
    seen: list[ScoreOf] = []
    with pytest.raises(RunError, match=rf"{trial_id(3)}/.*\(1 more damaged; `simtune doctor` lists them\)"):
        seen.extend(score for score, _ in read_outcomes(tmp_path / "trials", scores))
    assert len(seen) == 598


def test_tables_keep_no_outcome_and_share_one_among_the_arms_that_have_it() -> None:
    made: list[weakref.ref[Any]] = []
    most = 0

    def outcomes() -> Iterator[tuple[ScoreOf, Outcome]]:
        nonlocal most
        for number in range(20):
            metrics = metrics_of(trial_id(number), num_tasks=20)
            made.append(weakref.ref(metrics))
            yield (trial_id(number), SCORE), Outcome(metrics, None, None)
            del metrics
            most = max(most, sum(metrics() is not None for metrics in made))
        yield (trial_id(20), SCORE), Outcome(None, None, None)

    rows = [*(row(number) for number in range(21)), row(5, "different")]
    tables = results_tables(planned(*rows), outcomes())
    assert most <= 2
    assert tables["results"]["status"].to_pylist() == ["done"] * 20 + ["missing", "done"]
    # 20 tasks, 2 categories, the suite and the mean of tasks; two metrics of each; 21 rows that are done.
    assert len(tables["scores"]) == 24 * 2 * 21
    assert set(tables["scores"]["arm"].to_pylist()[-48:]) == {"different"}
    assert tables["costs"]["trial"].to_pylist() == [trial_id(number) for number in range(20)]


def test_the_table_of_scores_is_that_of_its_rows() -> None:
    keys = ("trial", "score", "suite", "prompt", "arm", "size", "seed")
    rows = [row(0), {**row(1), "size": None, "seed": None}, row(0, "different"), row(2)]
    parts = {(trial_id(number), SCORE): score_part(metrics_of(trial_id(number), num_tasks=20)) for number in (0, 1)}
    expected = []
    for each in rows[:3]:
        metrics = metrics_of(each["trial"], num_tasks=20)
        groups: list[tuple[str, Any]] = [("suite", metrics.overall), ("task mean", metrics.task_mean)]
        groups += [("category", group) for group in metrics.categories] + [("task", group) for group in metrics.tasks]
        for level, group in groups:
            for metric, value in group.values.items():
                about = {"level": level, "name": getattr(group, "name", level)}
                about |= {"category": getattr(group, "category", None), "num_instances": group.num_instances}
                headline = metric == getattr(group, "metric", None)
                of_row = {key: each[key] for key in keys}
                expected.append({**of_row, **about, "metric": metric, "value": value, "is_headline": headline})
    table = scores_table(rows, parts)
    assert table.equals(pa.Table.from_pylist(expected, scores_schema()), check_metadata=True)
    assert scores_table(rows, {}).schema.equals(scores_schema(), check_metadata=True)


def test_the_environment_is_searched_for_secrets_once_for_all_texts_of_a_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AN_API_TOKEN", "something-secret")
    searched = 0
    find = redaction._secret_values

    def counted() -> list[str]:
        nonlocal searched
        searched += 1
        return find()

    monkeypatch.setattr(redaction, "_secret_values", counted)
    texts = [f"text {number} something-secret" for number in range(100)] * 2
    assert redaction.redact_each(texts) == {text: text.replace("something-secret", "***") for text in texts}
    assert redaction.redact_values({"a": texts, "b": {"something-secret": 1}})["b"] == {"***": 1}
    assert searched == 2
