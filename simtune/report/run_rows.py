"""What a run directory holds for its report, read and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from simtune.errors import RunError
from simtune.redaction import redact, redact_each, redact_values
from simtune.report.results_view import clean
from simtune.report.statistics.of_run import run_statistics
from simtune.report.statistics.records import Statistics
from simtune.report.table_metadata import read_results_metadata
from simtune.storage.checksummed import verified_json
from simtune.storage.file_types import has_file, read_file
from simtune.storage.files import AnyPath
from simtune.storage.parquet_files import check_schema, read_table

SOURCES = (
    *("results.parquet", "scores.parquet", "costs.parquet", "tasks.parquet", "leaks.parquet", "subsets.parquet"),
    *("embeddings.parquet", "sweep.yaml", "manifest.json"),
)
"""The files of a run that its report is made of."""


def _columns(type_: pa.DataType, *names: str, nullable: bool = True) -> list[pa.Field]:
    return [pa.field(name, type_, nullable=nullable) for name in names]


_COUNTS = ("num_tasks", "num_examples", "num_source_tokens", "num_target_tokens", "num_steps", "num_categories")
_RESULTS = pa.schema(
    [
        *_columns(pa.string(), "trial", "score", "suite", "arm", "status", nullable=False),
        *_columns(pa.int64(), "size", "seed", *_COUNTS),
        *_columns(pa.float64(), "final_loss", "mean_similarity", "max_similarity", "coverage"),
        *_columns(pa.string(), "error", "note"),
    ]
)
_SCORES = pa.schema(
    [
        *_columns(pa.string(), "trial", "score", "level", "name", "metric", nullable=False),
        *_columns(pa.float64(), "value"),
        *_columns(pa.int64(), "num_instances"),
        *_columns(pa.bool_(), "is_headline", nullable=False),
    ]
)
_TASKS = pa.schema(
    [
        *_columns(pa.string(), "task", "role", nullable=False),
        *_columns(pa.string(), "category", "reason", "reason_group"),
        *_columns(pa.int64(), "num_instances"),
    ]
)
_LEAKS = pa.schema(_columns(pa.string(), "evidence", "pool_task", "test_task", nullable=False))
_SUBSETS = pa.schema(
    [
        *_columns(pa.string(), "grid", "arm", "task", nullable=False),
        *_columns(pa.int64(), "seed", "size", "rank"),
    ]
)
_EMBEDDINGS = pa.schema(_columns(pa.string(), "grid", "task", nullable=False))
_COSTS = pa.schema(
    [
        *_columns(pa.string(), "trial", "score", nullable=False),
        *_columns(pa.float64(), "train_s", "evaluate_s", "peak_host_memory_mib", "peak_gpu_memory_mib"),
        *_columns(pa.string(), "device", "host"),
    ]
)


@dataclass(frozen=True)
class RunRows:
    """What a run directory holds for its report; None where a file is missing."""

    name: str
    results: pa.Table
    scores: pa.Table | None
    statistics: Statistics
    tasks: pa.Table | None
    leaks: pa.Table | None
    subsets: pa.Table | None
    embeddings: pa.Table | None
    costs: pa.Table | None
    settings: str | None
    manifest: object


def read_run(run_directory: AnyPath, tables: Mapping[str, pa.Table]) -> RunRows:
    """Reads what a report is made of, with secrets redacted.

    Args:
        run_directory: holds the files.
        tables: by name, instead of the files of these names.

    Raises:
        RunError: there is no results.parquet, or a file is damaged.
    """
    results = run_directory / "results.parquet"
    if "results" not in tables and not has_file(results):
        raise RunError(f"{results}: no such file; `simtune run` writes it once it has chosen its subsets")
    table = tables["results"] if "results" in tables else read_table(results)
    # Missing columns are reported by `sorted_rows`, all of them at once.
    metrics = _columns(pa.float64(), *(metric.column for metric in read_results_metadata(table).metrics))
    existing = [field for field in (*_RESULTS, *metrics) if field.name in table.column_names]
    check_schema(table, pa.schema(existing), results)
    settings = _optional_bytes(run_directory / "sweep.yaml")
    manifest = _optional_bytes(run_directory / "manifest.json")
    rows = _redacted(table)
    scores = tables["scores"] if "scores" in tables else _optional_table(run_directory / "scores.parquet", _SCORES)
    return RunRows(
        name=clean(run_directory.resolve().name),
        results=rows,
        scores=scores,
        statistics=run_statistics(rows, scores),
        tasks=_optional_table(run_directory / "tasks.parquet", _TASKS),
        leaks=_optional_table(run_directory / "leaks.parquet", _LEAKS),
        subsets=_optional_table(run_directory / "subsets.parquet", _SUBSETS),
        embeddings=_optional_table(run_directory / "embeddings.parquet", _EMBEDDINGS),
        costs=tables["costs"] if "costs" in tables else _optional_table(run_directory / "costs.parquet", _COSTS),
        settings=redact(settings.decode("utf-8", "replace")) if settings is not None else None,
        manifest=_manifest(manifest, run_directory / "manifest.json") if manifest is not None else None,
    )


def _optional_bytes(path: AnyPath) -> bytes | None:
    return read_file(path) if has_file(path) else None


def _manifest(data: bytes, path: AnyPath) -> object:
    """The manifest of any version: the page shows all of it."""
    try:
        return redact_values(json.loads(verified_json(data, str(path))))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: not valid JSON ({error}); move it aside and run again") from error


def _optional_table(path: AnyPath, schema: pa.Schema) -> pa.Table | None:
    if not has_file(path):
        return None
    table = read_table(path)
    check_schema(table, schema, path)
    return table


def _redacted(rows: pa.Table) -> pa.Table:
    for index, field in enumerate(rows.schema):
        if field.name in {"error", "note"}:
            texts = rows[field.name].to_pylist()
            redacted = redact_each(text for text in texts if text is not None)
            rows = rows.set_column(index, field, pa.array(map(redacted.get, texts), field.type))
    return rows
