"""`scores.parquet`: a row for each metric of each test task, each category and the whole suite, of every planned row.

A trial has hundreds of such rows, so they are columns from the start: as dictionaries, those of ten thousand trials
would take gigabytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from simtune.sweep.results_schemas import scores_schema
from simtune.trial.files import ScoreOf
from simtune.trial.records import GroupScores, MeanScores, Metrics

if TYPE_CHECKING:
    import pyarrow as pa

_PART = ("level", "name", "category", "num_instances", "metric", "value", "is_headline")


def score_part(metrics: Metrics) -> pa.RecordBatch:
    """The rows of one score, without the columns that say whose they are."""
    import pyarrow as pa

    levels: list[tuple[str, Sequence[MeanScores]]] = [
        ("suite", [metrics.overall]),
        ("task mean", [metrics.task_mean]),
        ("category", metrics.categories),
        ("task", metrics.tasks),
    ]
    columns: dict[str, list[Any]] = {name: [] for name in _PART}
    for level, parts in levels:
        for part in parts:
            group = part if isinstance(part, GroupScores) else None
            number = len(part.values)
            columns["level"] += [level] * number
            columns["name"] += [group.name if group else level] * number
            columns["category"] += [group.category if group else None] * number
            columns["num_instances"] += [part.num_instances] * number
            columns["metric"] += part.values
            columns["value"] += part.values.values()
            columns["is_headline"] += [group is not None and metric == group.metric for metric in part.values]
    return pa.RecordBatch.from_pydict(columns, _part_schema())


@cache
def _part_schema() -> pa.Schema:
    import pyarrow as pa

    schema = scores_schema()
    return pa.schema([schema.field(name) for name in _PART])


def scores_table(rows: Sequence[dict[str, Any]], parts: Mapping[ScoreOf, pa.RecordBatch]) -> pa.Table:
    """The table of planned rows.

    Args:
        rows: in the order of the table; those without a part are left out.
        parts: of the scores that are done, by the ids of trial and score.
    """
    import pyarrow as pa

    schema = scores_schema()
    done = [row for row in rows if (row["trial"], row["score"]) in parts]
    of_rows = [parts[row["trial"], row["score"]] for row in done]
    positions = pa.array([position for position, part in enumerate(of_rows) for _ in range(len(part))], pa.int64())
    whole = pa.Table.from_batches(of_rows, _part_schema()).combine_chunks()
    columns = [
        whole[field.name]
        if field.name in _PART
        else pa.array([row[field.name] for row in done], field.type).take(positions)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
