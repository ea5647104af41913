"""Writes a run's report. The same rows give the same bytes, so a report can be rebuilt at any time."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa

from simtune.errors import RunError
from simtune.redaction import redact, redact_each, redact_values
from simtune.report.page import Picture, RunRows, page
from simtune.report.results_csv import results_csv
from simtune.report.results_view import clean
from simtune.report.statistics.of_run import run_statistics
from simtune.report.statistics.records import STATISTICS
from simtune.report.table_metadata import read_results_metadata
from simtune.report.tables import results_markdown
from simtune.storage.checksummed import verified_json
from simtune.storage.file_types import has_file, read_file
from simtune.storage.files import AnyPath, write_bytes, write_text
from simtune.storage.parquet_files import check_schema, read_table
from simtune.storage.records import write_record

SOURCES = ("results.parquet", "scores.parquet", "tasks.parquet", "leaks.parquet", "sweep.yaml", "manifest.json")
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
        *_columns(pa.string(), "category", "reason"),
        *_columns(pa.int64(), "num_instances"),
    ]
)
_LEAKS = pa.schema(_columns(pa.string(), "evidence", "pool_task", "test_task", nullable=False))


def build_report(run_directory: AnyPath, tables: Mapping[str, pa.Table] | None = None) -> AnyPath:
    """Writes statistics.json, results.csv and results.md (these two in the report too), figures and the page.

    Args:
        run_directory: holds results.parquet and those others of `SOURCES` that exist.
        tables: the current `results` and `scores`, instead of the files.

    Returns:
        The path of the page.

    Raises:
        RunError: there is no results.parquet, or a file of the run is damaged or written by another version.
    """
    run = read_run(run_directory, tables or {})
    # Imported here because matplotlib takes most of a second, which importing this module must not cost.
    from simtune.report.figures import figure_scores_by_size, figure_similarity_by_size

    plots = {
        "scores_by_size": figure_scores_by_size(run.results, run.statistics),
        "similarity_by_size": figure_similarity_by_size(run.results),
    }

    report = run_directory / "report"
    write_record(run_directory / STATISTICS, run.statistics)
    for name, text in (
        ("results.csv", results_csv(run.results)),
        ("results.md", results_markdown(run.results)),
    ):
        write_text(run_directory / name, text)
        write_text(report / name, text)
    pictures = []
    titles = ("More tasks, or other tasks", "How similar the sets are")
    for (name, plot), title in zip(plots.items(), titles, strict=True):
        picture = Picture(title, plot.svg(), plot.caption, plot.alt)
        write_bytes(report / "figures" / f"{name}.svg", picture.svg)
        write_bytes(report / "figures" / f"{name}.png", plot.png())
        pictures.append(picture)
    path = report / "index.html"
    # Last: a report with a page is complete.
    write_text(path, page(run, pictures))
    return path


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
