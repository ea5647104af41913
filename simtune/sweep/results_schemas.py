"""The columns of a run's tables: `results.parquet`, `scores.parquet` and `costs.parquet`."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from simtune.report.table_metadata import SCHEMA_KEY, TABLES_SCHEMA, ResultsMetadata

_SCORE = ("trial", "score", "suite", "prompt", "arm")
_COUNTS = ("num_tasks", "num_examples", "num_source_tokens", "num_target_tokens", "num_steps")
_MEASURED = (
    "train_s",
    "evaluate_s",
    "train_source_tokens_per_s",
    "test_instances_per_s",
    "peak_host_memory_mib",
    "peak_gpu_memory_mib",
)


def planned_schema() -> pa.Schema:
    """Columns of `results.parquet` that are known before any trial runs."""
    return pa.schema(
        [
            *_columns(pa.string(), *_SCORE, "note", nullable=False),
            *_columns(pa.int64(), "size", "seed"),
            *_columns(pa.int64(), "num_tasks", "num_examples", "num_categories", nullable=False),
            *_columns(pa.float64(), "mean_similarity", "max_similarity", "coverage"),
        ]
    )


def results_schema(grid_keys: Sequence[str], metadata: ResultsMetadata) -> pa.Schema:
    """`results.parquet`: a row for each score of each arm, with the metrics side by side."""
    metrics = [metric.column for metric in metadata.metrics]
    return pa.schema(
        [
            *_columns(pa.string(), *_SCORE),
            *_columns(pa.int64(), "size", "seed"),
            *_columns(pa.string(), *grid_keys),
            *_columns(pa.int64(), *_COUNTS),
            *_columns(pa.float64(), "final_loss", *metrics, *(f"{metric}_task_mean" for metric in metrics)),
            *_columns(pa.int64(), "num_test_instances"),
            *_columns(pa.float64(), "mean_similarity", "max_similarity"),
            *_columns(pa.int64(), "num_categories"),
            *_columns(pa.float64(), "coverage"),
            *_columns(pa.string(), "status", "error", "failure"),
            *_columns(pa.int64(), "attempts"),
            *_columns(pa.string(), "host", "log", "note"),
        ],
        metadata=metadata.schema_metadata(),
    )


def scores_schema() -> pa.Schema:
    """`scores.parquet`: a row for each metric of each test task, each category and the whole suite."""
    return pa.schema(
        [
            *_columns(pa.string(), *_SCORE),
            *_columns(pa.int64(), "size", "seed"),
            *_columns(pa.string(), "level", "name", "category"),
            *_columns(pa.int64(), "num_instances"),
            *_columns(pa.string(), "metric"),
            *_columns(pa.float64(), "value"),
            *_columns(pa.bool_(), "is_headline"),
        ],
        metadata=_VERSION,
    )


def costs_schema() -> pa.Schema:
    """`costs.parquet`: what each score took, and in what environment."""
    return pa.schema(
        [
            *_columns(pa.string(), "trial", "score", "suite", "kind"),
            *_columns(pa.int64(), "workers"),
            *_columns(pa.string(), "device"),
            *_columns(pa.int64(), "threads"),
            *_columns(pa.float64(), *_MEASURED),
            *_columns(pa.int64(), "failed_attempts"),
            *_columns(pa.string(), "host", "processor", "cpu_capability"),
            *_columns(pa.string(), "torch", "deepspeed", "transformers", "continued_from"),
        ],
        metadata=_VERSION,
    )


_VERSION = {SCHEMA_KEY: str(TABLES_SCHEMA).encode()}


def _columns(type_: pa.DataType, *names: str, nullable: bool = True) -> list[pa.Field]:
    return [pa.field(name, type_, nullable=nullable) for name in names]
