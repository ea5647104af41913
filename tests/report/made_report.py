"""Rows of results that a report is made of, without a sweep."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from simtune.report.answer import Answer, answer
from simtune.report.results_view import COLUMNS, grid_points
from simtune.report.statistics.of_run import point_statistics
from simtune.report.table_metadata import ArmInfo, MetricInfo, ResultsMetadata
from simtune.storage.checksummed import checksummed_json
from simtune.storage.files import json_text, write_bytes

METRICS = tuple(
    MetricInfo(name=name, column=name.replace("-", "_"), title=title, unit="points", digits=2)
    for name, title in (("rouge-l", "ROUGE-L"), ("exact-match", "exact match"))
)


SCHEMA = pa.schema(
    [(n, pa.string()) for n in ("trial", "score", "suite", "arm", "status", "error", "note")]
    + [(n, pa.int64()) for n in COLUMNS if n.startswith("num_") or n in ("size", "seed")]
    + [(n, pa.float64()) for n in COLUMNS if n.startswith(("final", "mean", "max", "cov"))]
    + [(metric.column, pa.float64()) for metric in METRICS]
)


# An order that is neither that of names nor that of rows.
ORDER = ("different", "similar", "random", "full", "untuned")


EVIL = "<script>alert(1)</script>"


def row(arm: str, size: int | None, seed: int | None, rouge_l: float | None, **more: Any) -> dict[str, Any]:
    """One trial; without a score it has failed."""
    num_tasks = size or 0
    base = {
        **dict.fromkeys(SCHEMA.names, None),
        **{name: num_tasks for name in COLUMNS if name.startswith("num_")},
        "trial": f"{arm}-{size}-{seed}-{sorted(more.items())}",
        "suite": "test",
        "mean_similarity": 0.2 + 0.001 * num_tasks if size else None,
        "exact_match": rouge_l,
    }
    status = {"status": "failed" if rouge_l is None else "done", "error": "", "note": ""}
    return {
        **base,
        **status,
        "arm": arm,
        "size": size,
        "seed": seed,
        "rouge_l": rouge_l,
        "score": base["trial"],
        **more,
    }


def table(rows: list[dict[str, Any]]) -> pa.Table:
    grid = [(name, pa.string()) for name in sorted({k for r in rows for k in r if "." in k})]
    sizes: dict[str, int | None] = {}
    for made in rows:
        sizes.setdefault(made["arm"], made["size"])
    names = sorted(sizes, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    arms = tuple(ArmInfo(name=name, type=type_of(name, sizes[name])) for name in names)
    metadata = ResultsMetadata(arms=arms, metrics=METRICS).schema_metadata()
    return pa.Table.from_pylist(rows, schema=pa.schema([*SCHEMA, *grid], metadata=metadata))


def task_scores(rows: list[dict[str, Any]], num_tasks: int = 20, spread: float = 2.0) -> pa.Table:
    """Scores of single test tasks, 5 or 10 instances each, whose means are the rows' scores."""
    counts = [5 + 5 * (task % 2) for task in range(num_tasks)]
    made = []
    for number, done in enumerate(r for r in rows if r["status"] == "done"):
        noise = np.random.default_rng(number).normal(0, spread, num_tasks)
        noise -= np.average(noise, weights=counts)
        for task, count in enumerate(counts):
            value = done["rouge_l"] + float(noise[task]) + 10 * math.sin(task)
            made.append((done["trial"], done["score"], "task", f"task{task}", "rouge-l", value, count))
    base = np.average([10 * math.sin(task) for task in range(num_tasks)], weights=counts)
    names = ("trial", "score", "level", "name", "metric", "value", "num_instances")
    columns = dict(zip(names, map(list, zip(*made, strict=True)), strict=True))
    columns["value"] = [value - float(base) for value in columns["value"]]
    return pa.table(columns | {"is_headline": [True] * len(made)})


def answered(rows: list[dict[str, Any]] | pa.Table, scores: pa.Table | None = None) -> Answer:
    """The answer of the one grid point of rows."""
    (point,) = grid_points(rows if isinstance(rows, pa.Table) else table(rows))
    return answer(point, point_statistics(point, scores))


def type_of(name: str, size: int | None) -> Any:
    return "full" if name == "full" else "baseline" if size is None else "strategy"


def write_manifest(run: Path, fields: dict[str, Any]) -> None:
    write_bytes(run / "manifest.json", checksummed_json(json_text(fields)))
