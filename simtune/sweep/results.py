"""Rows of the tables, each a pure function of the plan and of the files under `trials/`.

`results.parquet` has only what the inputs decide, so the same inputs give the same bytes; what was measured
(seconds, memory) is in `costs.parquet`. The plan can be read back from `results.parquet` alone, so that the
tables of an interrupted run can be updated without its corpus.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simtune.config.encoding import EncodingSettings
from simtune.evaluation.metric_registry import METRICS
from simtune.report.build import build_report
from simtune.report.paper import write_paper
from simtune.report.run_rows import SOURCES
from simtune.report.table_metadata import (
    ArmInfo,
    ArmType,
    LineStyle,
    MetricInfo,
    ResultsMetadata,
    read_results_metadata,
)
from simtune.selection.subsets import FULL_ARM, resolve_arms
from simtune.storage.files import AnyPath
from simtune.storage.parquet_files import check_schema, read_table
from simtune.sweep.results_schemas import costs_schema, planned_schema, results_schema
from simtune.sweep.run_files import check_unchanged, read_checksums, renew_report_checksums
from simtune.sweep.score_rows import score_part, scores_table
from simtune.sweep.trial_details import detail_reader
from simtune.sweep.trials import PlannedRow
from simtune.trial.files import Outcome, ScoreOf, read_outcomes
from simtune.trial.records import Costs, Metrics

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Planned:
    """The rows of a run as planned, by the columns of `results.parquet` that its trials do not decide.

    Attributes:
        grid_keys: names of the swept settings, each a column.
        metadata: the arms and metrics, which the report reads from `results.parquet`.
    """

    rows: tuple[dict[str, Any], ...]
    grid_keys: tuple[str, ...]
    metadata: ResultsMetadata

    @staticmethod
    def from_rows(rows: Sequence[PlannedRow]) -> Planned:
        """The plan of a sweep; linear in rows."""
        grid_keys = tuple(dict.fromkeys(key for row in rows for key, _ in row.grid))
        return Planned(tuple(map(_planned, rows)), grid_keys, ResultsMetadata(arms=_arms(rows), metrics=_metrics(rows)))

    @staticmethod
    def read(run_directory: AnyPath) -> Planned:
        """The plan of a run, from its `results.parquet`.

        Raises:
            RunError: it is missing or damaged: the run was interrupted before it had planned its trials.
        """
        path = run_directory / "results.parquet"
        table = read_table(path)
        schema = planned_schema()
        check_schema(table, schema, path)
        grid_keys = tuple(name for name in table.column_names if "." in name)
        rows = tuple(table.select([*schema.names, *grid_keys]).to_pylist())
        return Planned(rows, grid_keys, read_results_metadata(table))

    @property
    def scores(self) -> list[ScoreOf]:
        """The scores, each once, by the ids of its trial and its own."""
        return list(dict.fromkeys((row["trial"], row["score"]) for row in self.rows))


def results_tables(
    planned: Planned, outcomes: Iterable[tuple[ScoreOf, Outcome]], left_out: Mapping[str, str] | None = None
) -> dict[str, pa.Table]:
    """`results`, `scores` and `costs` of planned rows; linear in rows.

    `results` has a row for each score of each arm with the metrics side by side; `scores` has one for each metric of
    each test task, each category and the whole suite.

    Args:
        planned: the rows.
        outcomes: of all their scores, each once; none is kept, because those of thousands of trials take gigabytes.
        left_out: why trials were not run, by their ids.
    """
    import pyarrow as pa

    # Suites with the same settings share a score.
    suites: dict[ScoreOf, dict[str, None]] = {}
    for row in planned.rows:
        suites.setdefault((row["trial"], row["score"]), {})[row["suite"]] = None
    found: dict[ScoreOf, dict[str, Any]] = {}
    costs: dict[ScoreOf, Costs | None] = {}
    parts: dict[ScoreOf, pa.RecordBatch] = {}
    for score, outcome in outcomes:
        found[score] = _found(score, outcome, (left_out or {}).get(score[0], ""))
        if outcome.metrics is not None:
            costs[score] = outcome.costs
            parts[score] = score_part(outcome.metrics)
    baselines = {arm.name for arm in planned.metadata.arms if arm.type == "baseline"}
    rows_of = {(row["trial"], row["score"]): row for row in reversed(planned.rows)}
    results = [{**row, **found[row["trial"], row["score"]]} for row in planned.rows]
    costs_rows = [
        _costs({**rows_of[score], "suite": ", ".join(of_score)}, costs[score], baselines)
        for score, of_score in suites.items()
        if score in costs
    ]
    return {
        "results": pa.Table.from_pylist(results, results_schema(planned.grid_keys, planned.metadata)),
        "scores": scores_table(planned.rows, parts),
        "costs": pa.Table.from_pylist(costs_rows, costs_schema()),
    }


def tables_now(run_directory: AnyPath) -> dict[str, pa.Table]:
    """The tables of a run with the results that exist now.

    Raises:
        RunError: it has planned no trials yet, or a result is damaged.
    """
    planned = Planned.read(run_directory)
    return results_tables(planned, read_outcomes(run_directory.parent / "trials", planned.scores))


def report_run(run_directory: AnyPath) -> AnyPath:
    """Builds a run's report at any time: from its rows once it is finished, from the results of its trials before that.

    Returns:
        The path of the page.

    Raises:
        RunError: it has planned no trials yet, or a file is damaged.
    """
    while True:
        finished = read_checksums(run_directory)
        # A table of another run has a valid checksum too.
        check_unchanged(run_directory, *SOURCES)
        tables = tables_now(run_directory) if finished is None else {}
        page = build_report(run_directory, tables, detail_reader(run_directory.parent / "trials"))
        # A driver that has finished in the meantime has a report with more results.
        if read_checksums(run_directory) == finished:
            break
    renew_report_checksums(run_directory)
    return page


def paper_of_run(run_directory: AnyPath, folder: Path) -> list[Path]:
    """Writes a run's tables and figures for a paper, at any time, as `report_run` builds its report.

    Raises:
        RunError: it has planned no trials yet, or a file is damaged.
    """
    check_unchanged(run_directory, *SOURCES)
    return write_paper(
        run_directory, folder, tables_now(run_directory) if read_checksums(run_directory) is None else {}
    )


def _arms(rows: Sequence[PlannedRow]) -> tuple[ArmInfo, ...]:
    """Every arm of a run, in the order of the sweep file."""
    styles = {
        arm.label: arm.strategy.style
        for sweep in {id(row.trial.sweep): row.trial.sweep for row in rows}.values()
        for arm in resolve_arms(sweep.selection)
    }
    arm_types: dict[str, ArmType] = {}
    for row in rows:
        arm_type: ArmType = "baseline" if row.subset is None else "full" if row.arm == FULL_ARM else "strategy"
        arm_types.setdefault(row.arm, arm_type)
    return tuple(
        ArmInfo(
            name=name,
            type=arm_type,
            style=LineStyle(colour=style.colour, marker=style.marker) if (style := styles.get(name)) else None,
        )
        for name, arm_type in arm_types.items()
    )


def _metrics(rows: Sequence[PlannedRow]) -> tuple[MetricInfo, ...]:
    """The metrics of all suites, in the order of the first suite that has them."""
    names = dict.fromkeys(name for row in rows for name in row.score.suite.metrics)
    return tuple(
        MetricInfo.model_validate({field: getattr(METRICS[name], field) for field in MetricInfo.model_fields})
        for name in names
    )


def _planned(row: PlannedRow) -> dict[str, Any]:
    statistics = row.subset.statistics if row.subset else None
    notes = (row.subset.note if row.subset else "", row.trial.mixture_note)
    return {
        "trial": row.trial.id,
        "score": row.score.id,
        "suite": row.score.suite.name,
        "prompt": prompt_label(row.score.suite.encoding),
        "arm": row.arm,
        "size": row.size,
        "seed": row.seed,
        **{key: None if value is None else str(value) for key, value in row.grid},
        "num_tasks": row.trial.num_trained,
        "num_examples": row.trial.num_examples,
        "mean_similarity": statistics.mean_similarity if statistics else None,
        "max_similarity": statistics.max_similarity if statistics else None,
        "num_categories": statistics.num_categories if statistics else 0,
        "coverage": statistics.coverage if statistics else None,
        "note": "; ".join(filter(None, notes)),
    }


def _found(score: ScoreOf, outcome: Outcome, left_out: str) -> dict[str, Any]:
    """The columns of `results` that a score decides; `left_out` says why its trial was not run."""
    metrics = outcome.metrics
    failure = outcome.failure if metrics is None else None
    training = metrics.training if metrics else None
    none_trained = 0 if metrics else None
    return {
        "num_source_tokens": training.num_source_tokens if training else none_trained,
        "num_target_tokens": training.num_target_tokens if training else none_trained,
        "num_steps": training.num_steps if training else none_trained,
        "final_loss": metrics.final_loss if metrics else None,
        **(_means(metrics) if metrics else {}),
        "num_test_instances": metrics.overall.num_instances if metrics else None,
        "status": "done" if metrics else "failed" if failure else "missing",
        "error": failure.summary if failure else "" if metrics else left_out,
        "failure": failure.cause if failure else None,
        "attempts": failure.attempts if failure else None,
        "host": failure.host if failure else None,
        "log": f"trials/{score[0]}/{failure.log}" if failure else None,
    }


def prompt_label(encoding: EncodingSettings) -> str:
    """A prompt's settings in a few words."""
    shown = encoding.model_dump(mode="json")
    return ", ".join(f"{name}={value}" for name, value in shown.items() if value not in (False, 0, None))


def _means(metrics: Metrics) -> dict[str, float]:
    means = {METRICS[name].column: value for name, value in metrics.overall.values.items()}
    return means | {f"{METRICS[name].column}_task_mean": value for name, value in metrics.task_mean.values.items()}


def _costs(row: dict[str, Any], costs: Costs | None, baselines: Collection[str]) -> dict[str, Any]:
    kind = row["arm"] if row["arm"] in baselines else "fine-tune"
    recorded = costs.model_dump(exclude={"version", "trial", "score", "resumed", "speed"}) if costs else {}
    return {"trial": row["trial"], "score": row["score"], "suite": row["suite"], "kind": kind, **recorded}
