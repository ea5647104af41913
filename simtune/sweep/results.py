"""Results gathered: rows of the tables, each a pure function of what lies under `trials/`.

`results.parquet` has only what the inputs decide, so the same inputs give the same bytes; what was measured
(seconds, memory) is in `costs.parquet`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simtune.errors import RunError, shown
from simtune.report.rows import SCHEMA_KEY, TABLES_SCHEMA
from simtune.storage import AnyPath, check_shape, read_json
from simtune.sweep.failures import read_failure
from simtune.sweep.trial_run import loss_of
from simtune.sweep.trials import SCHEMA_VERSION, PlannedRow

if TYPE_CHECKING:
    import pyarrow as pa

_READERS = 16
_MOVE_ASIDE = "move the trial's folder aside and run again"
_SCORES = {"rouge_l": float, "exact_match": float, "num_instances": int}
_GROUP = {**_SCORES, "name": str, "category": str, "metric": str, "headline": float}
_METRICS = {"overall": _SCORES, "task_mean": _SCORES, "categories": [_GROUP], "tasks": [_GROUP], "training": object}
_TRAINING = {"num_source_tokens": int, "num_target_tokens": int, "num_steps": int, "loss_by_epoch": [float]}
_METRIC_NAMES = {"rouge_l": "rouge-l", "exact_match": "exact-match"}


def read_metrics(directory: AnyPath) -> dict[str, Any] | None:
    """A trial's final metrics, or None where it is not done.

    Raises:
        RunError: the file is damaged or of another version.
    """
    path = directory / "metrics.json"
    if not path.is_file():
        return None
    metrics = read_json(path)
    if not isinstance(metrics, dict) or metrics.get("schema") != SCHEMA_VERSION:
        raise RunError(
            f"{path}: not a result of this version (schema {SCHEMA_VERSION}). Move {directory} aside and run again"
        )
    check_shape(metrics, _METRICS, str(path))
    groups = [("overall", metrics["overall"]), ("task_mean", metrics["task_mean"])]
    groups += [(group["name"], group) for group in (*metrics["categories"], *metrics["tasks"])]
    for name, group in groups:
        _check(name, group, path)
    for group in (*metrics["categories"], *metrics["tasks"]):
        if group["metric"] not in _METRIC_NAMES:
            raise RunError(f"{path}: {shown(group['metric'])} is no metric; {_MOVE_ASIDE}")
    if metrics["training"] is not None:
        check_shape(metrics["training"], _TRAINING, f"{path}, training")
    return metrics


@dataclass(frozen=True)
class Outcome:
    """What a trial left: its metrics where it is done, why not where it failed, and what it cost."""

    metrics: dict[str, Any] | None
    failure: dict[str, Any] | None
    costs: dict[str, Any]


def read_outcomes(trials: AnyPath, ids: Iterable[str]) -> dict[str, Outcome]:
    """The outcomes of trials by id, read side by side: an object store takes its time with each.

    Raises:
        RunError: a file is damaged or of another version.
    """

    def read(trial: str) -> Outcome:
        directory = trials / trial
        metrics = read_metrics(directory)
        return Outcome(metrics, read_failure(directory), _costs(directory) if metrics else {})

    different = list(dict.fromkeys(ids))
    with ThreadPoolExecutor(_READERS) as pool:
        return dict(zip(different, pool.map(read, different), strict=True))


def _check(name: str, group: dict[str, Any], path: AnyPath) -> None:
    """The one gate: only finite scores in their range and counts above zero come in."""
    for metric in ("rouge_l", "exact_match"):
        if not 0 <= group[metric] <= 100:
            raise RunError(
                f"{path}: {shown(name)}: {metric} is {group[metric]!r}, not between 0 and 100; {_MOVE_ASIDE}"
            )
    if group["num_instances"] < 1:
        raise RunError(f"{path}: {shown(name)}: num_instances is {group['num_instances']}; {_MOVE_ASIDE}")


def results_tables(rows: Sequence[PlannedRow], trials: AnyPath) -> dict[str, pa.Table]:
    """`results`, `scores` and `costs` of planned rows, from the trials' own files; linear in rows."""
    import pyarrow as pa

    grid_keys = list(dict.fromkeys(key for row in rows for key, _ in row.grid))
    results, scores, costs = [], [], []
    seen: set[str] = set()
    outcomes = read_outcomes(trials, (row.trial.id for row in rows))
    for row in rows:
        outcome = outcomes[row.trial.id]
        metrics, failure = outcome.metrics, outcome.failure
        place = {"trial": row.trial.id, "arm": row.arm, "size": row.size, "seed": row.seed}
        results.append(_result(row, place, metrics, failure))
        if metrics is not None:
            scores.extend(_scores(place, metrics))
            if row.trial.id not in seen:
                seen.add(row.trial.id)
                costs.append({"trial": row.trial.id, "kind": row.trial.kind, **outcome.costs})
    return {
        "results": pa.Table.from_pylist(results, _results_schema(grid_keys)),
        "scores": pa.Table.from_pylist(scores, _scores_schema()),
        "costs": pa.Table.from_pylist(costs, _costs_schema()),
    }


def _result(
    row: PlannedRow, place: dict[str, Any], metrics: dict[str, Any] | None, failure: dict[str, Any] | None
) -> dict[str, Any]:
    statistics = row.subset.statistics if row.subset else None
    training = (metrics or {}).get("training") or {}
    error = f"{failure['class']}: {failure['message'].splitlines()[0]}" if failure and metrics is None else ""
    return {
        **place,
        **{key: None if value is None else str(value) for key, value in row.grid},
        "num_tasks": len(row.trial.tasks),
        "num_examples": _num_examples(row),
        "num_source_tokens": training.get("num_source_tokens", 0),
        "num_target_tokens": training.get("num_target_tokens", 0),
        "num_steps": training.get("num_steps", 0),
        "final_loss": loss_of(metrics) if metrics else None,
        "rouge_l": metrics["overall"]["rouge_l"] if metrics else None,
        "exact_match": metrics["overall"]["exact_match"] if metrics else None,
        "rouge_l_task_mean": metrics["task_mean"]["rouge_l"] if metrics else None,
        "exact_match_task_mean": metrics["task_mean"]["exact_match"] if metrics else None,
        "num_test_instances": metrics["overall"]["num_instances"] if metrics else None,
        "mean_similarity": statistics.mean_similarity if statistics else None,
        "max_similarity": statistics.max_similarity if statistics else None,
        "num_categories": statistics.num_categories if statistics else 0,
        "coverage": statistics.coverage if statistics else None,
        "status": "done" if metrics else "failed" if failure else "missing",
        "error": error,
        "failure": failure["kind"] if failure and metrics is None else None,
        "attempts": failure["attempts"] if failure and metrics is None else None,
        "log": f"trials/{row.trial.id}/{failure['log']}" if failure and failure["log"] and metrics is None else None,
        "note": row.subset.note if row.subset else "",
    }


def _num_examples(row: PlannedRow) -> int:
    chosen = set(row.trial.tasks)
    return sum(len(task.instances) for task in row.trial.study.tasks.pool if task.name in chosen)


def _scores(place: dict[str, Any], metrics: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            **place,
            "level": level,
            "name": group["name"],
            "category": group["category"],
            "num_instances": group["num_instances"],
            "rouge_l": group["rouge_l"],
            "exact_match": group["exact_match"],
            "headline_metric": _METRIC_NAMES[group["metric"]],
            "headline": group["headline"],
        }
        for level, groups in (("category", metrics["categories"]), ("task", metrics["tasks"]))
        for group in groups
    ]


def _costs(directory: AnyPath) -> dict[str, Any]:
    path = directory / "costs.json"
    costs = read_json(path) if path.is_file() else {}
    check_shape(costs, {}, str(path))
    return dict(costs)


def _results_schema(grid_keys: Sequence[str]) -> pa.Schema:
    return _schema(
        f"text trial arm; whole size seed; text {' '.join(grid_keys)}; "
        "whole num_tasks num_examples num_source_tokens num_target_tokens num_steps; "
        "real final_loss rouge_l exact_match rouge_l_task_mean exact_match_task_mean; whole num_test_instances; "
        "real mean_similarity max_similarity; whole num_categories; real coverage; text status error failure; "
        "whole attempts; text log note"
    )


def _scores_schema() -> pa.Schema:
    return _schema(
        "text trial arm; whole size seed; text level name category; whole num_instances; real rouge_l exact_match; "
        "text headline_metric; real headline"
    )


def _costs_schema() -> pa.Schema:
    return _schema(
        "text trial kind; whole workers; text device; whole threads; real train_s evaluate_s "
        "train_source_tokens_per_s test_instances_per_s peak_host_memory_mib peak_gpu_memory_mib; "
        "whole failed_attempts; text processor cpu_capability torch deepspeed transformers continued_from"
    )


def _schema(columns: str) -> pa.Schema:
    """A schema from groups of names, each led by its type."""
    import pyarrow as pa

    types = {"text": pa.string(), "whole": pa.int64(), "real": pa.float64()}
    groups = [group.split() for group in columns.split(";")]
    columns_of = [(name, types[kind]) for kind, *names in groups for name in names]
    return pa.schema(columns_of, metadata={SCHEMA_KEY: str(TABLES_SCHEMA).encode()})
