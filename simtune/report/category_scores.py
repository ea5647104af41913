"""Scores by test category as tables whose colours show where the arms differ."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from simtune.report.page.render import COLOUR_STEPS
from simtune.report.page.tables import PageTable, TableCell, page_table
from simtune.report.results_view import Cell, GridPoint, natural_key
from simtune.wording import counted

_MIN_SCALE = 1.0
"""Difference in score that gets the full colour at least, so that noise of a tenth stays pale."""

_Scores = dict[str, dict[str, dict[str, Any]]]
"""Rows of `scores.parquet` by trial, then by category."""


def category_tables(points: list[GridPoint], scores: pa.Table) -> list[PageTable]:
    """One table a grid point: categories against arms at the largest size, each category's headline metric.

    Colour is the distance to the mean of the category's arms, because categories differ far more than arms do.
    """
    shown = {row["score"] for point in points for cell in _cells(point) for row in cell.done}
    by_score: _Scores = {}
    # Only what is shown becomes Python's: the rows of thousands of trials would take gigabytes.
    of_shown = pc.field("score").isin(pa.array(sorted(shown), pa.string()))
    wanted = pc.field("is_headline") & (pc.field("level") == "category") & of_shown
    for row in scores.filter(wanted).select(["score", "name", "metric", "value"]).to_pylist():
        by_score.setdefault(row["score"], {})[row["name"]] = row
    tables = [_table(point, by_score) for point in points]
    return [table for table in tables if table is not None]


def _largest(point: GridPoint) -> int | None:
    """The largest size at which arms can differ; at the pool's own size they are all the same set."""
    distinct = [size for size in point.sizes if len({row["trial"] for cell in point.at(size) for row in cell.done}) > 1]
    return max(distinct or [size for size in point.sizes if any(c.done for c in point.at(size))], default=None)


def _cells(point: GridPoint) -> list[Cell]:
    """The arms at the largest size, then the full pool and the baselines, as far as any of their rows is done."""
    size = _largest(point)
    cells = (*(point.at(size) if size is not None else ()), point.full, *point.baselines)
    return [cell for cell in cells if cell is not None and cell.done]


def _table(point: GridPoint, by_score: _Scores) -> PageTable | None:
    shown = [cell for cell in _cells(point) if any(row["score"] in by_score for row in cell.done)]
    metrics = {
        name: row["metric"]
        for cell in shown
        for trial in cell.done
        for name, row in by_score.get(trial["score"], {}).items()
    }
    if not metrics:
        return None
    means = {name: [_mean(cell, name, by_score) for cell in shown] for name in metrics}
    arms = [cell for cell in shown if cell.type == "strategy"]
    differences = {name: _differences(row, len(arms)) for name, row in means.items()}
    scale = max([_MIN_SCALE, *(abs(difference) for row in differences.values() for difference in row)])
    digits = {metric.name: metric.digits for metric in point.metrics}
    rows = []
    for name in sorted(metrics, key=natural_key):
        cells = [
            _cell(mean, difference / scale, digits.get(metrics[name], point.headline.digits))
            for mean, difference in zip(means[name], differences[name], strict=True)
        ]
        rows.append([TableCell(name.replace("_", " "), (metrics[name],)), *cells])
    at = counted(max(cell.num_tasks for cell in arms), "training task") if arms else "no size"
    where = f" {point.title}." if point.title else ""
    return page_table(
        "Each category's headline metric, mean over seeds. Blue: above the mean of the arms on this category; "
        f"orange: below; full colour is {scale:.1f} points. Full pool and baselines: not coloured.",
        ["category", *[cell.arm for cell in shown]],
        rows,
        title=f"Scores by test category at {at}.{where}",
        css_class="shaded dense",
    )


def _differences(means: list[float | None], num_arms: int) -> list[float]:
    """The difference of each arm to the mean of all arms; 0 for the full pool and baselines, which come last."""
    known = [mean for mean in means[:num_arms] if mean is not None]
    if len(known) < 2:
        return [0.0] * len(means)
    middle = math.fsum(known) / len(known)
    return [0.0 if mean is None or i >= num_arms else mean - middle for i, mean in enumerate(means)]


def _mean(cell: Cell, name: str, by_score: _Scores) -> float | None:
    found = [by_score.get(row["score"], {}).get(name, {}).get("value") for row in cell.done]
    values = [float(value) for value in found if value is not None]
    return math.fsum(values) / len(values) if values else None


def _cell(mean: float | None, share: float, digits: int) -> TableCell:
    step = round(abs(share) * COLOUR_STEPS)
    text = "–" if mean is None or not math.isfinite(mean) else f"{mean:.{digits}f}"
    # A class and no style attribute: the page's policy allows its one style sheet alone.
    return TableCell(text, css_class=f"{'up' if share > 0 else 'down'}{step}" if step else "")
