"""Scores by test category as a table whose colours show where the arms differ."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa

from simtune.report.markup import HEAT_STEPS, Html, join, table, tag
from simtune.report.results_view import Cell, GridPoint, natural_key
from simtune.report.tables import number
from simtune.wording import counted

_MIN_SCALE = 1.0
"""Points of score at full colour at least: noise of a tenth of a point must not glow."""


def category_tables(points: list[GridPoint], scores: pa.Table) -> list[Html]:
    """One table a grid point: categories against arms at the largest size, each category's headline metric.

    Colour is the distance to the mean of the category's arms, for categories differ far more than arms do.
    """
    per_trial: dict[str, dict[str, dict[str, Any]]] = {}
    for row in scores.to_pylist():
        if row["level"] == "category":
            per_trial.setdefault(row["trial"], {})[row["name"]] = row
    blocks = [_table(point, per_trial) for point in points]
    return [block for block in blocks if block is not None]


def _largest(point: GridPoint) -> int | None:
    """The largest size at which arms can differ; at the pool's own size they are all the same set."""
    distinct = [size for size in point.sizes if len({row["trial"] for cell in point.at(size) for row in cell.done}) > 1]
    return max(distinct or [size for size in point.sizes if any(c.done for c in point.at(size))], default=None)


def _table(point: GridPoint, per_trial: dict[str, dict[str, dict[str, Any]]]) -> Html | None:
    size = _largest(point)
    arms = [cell for cell in (point.at(size) if size is not None else []) if cell.done]
    references = [cell for cell in (point.full, *point.baselines) if cell is not None and cell.done]
    shown = [cell for cell in (*arms, *references) if any(row["trial"] in per_trial for row in cell.done)]
    metrics = {
        name: row["headline_metric"]
        for c in shown
        for t in c.done
        for name, row in per_trial.get(t["trial"], {}).items()
    }
    if not metrics:
        return None
    scores = {(name, id(cell)): _mean(cell, name, per_trial) for name in metrics for cell in shown}
    deltas = {}
    for name in metrics:
        own = [s for cell in arms if (s := scores.get((name, id(cell)))) is not None]
        middle = math.fsum(own) / len(own) if own else 0.0
        for cell in arms:
            score = scores.get((name, id(cell)))
            deltas[name, id(cell)] = score - middle if score is not None and len(own) > 1 else 0.0
    scale = max([_MIN_SCALE, *map(abs, deltas.values())])
    lines = []
    for name in sorted(metrics, key=natural_key):
        cells = [_cell(scores[name, id(c)], deltas.get((name, id(c)), 0.0) / scale) for c in shown]
        label = join([name.replace("_", " "), tag("small", metrics[name])], " ")
        lines.append([tag("th", label, scope="row"), *cells])
    where = f" {point.title}." if point.title else ""
    at = counted(max(cell.num_tasks for cell in arms), "training task") if arms else "no size"
    text = (
        "Each category's headline metric, mean over seeds. Blue: above the mean of the arms on this "
        f"category; orange: below; full colour is {scale:.1f} points. Full pool and baselines: not coloured."
    )
    caption = join([tag("b", f"Scores by test category at {at}.{where} "), text], "")
    return table(caption, ["category", *[cell.arm for cell in shown]], lines, class_="heat dense")


def _mean(cell: Cell, name: str, per_trial: dict[str, dict[str, dict[str, Any]]]) -> float | None:
    found = [per_trial.get(row["trial"], {}).get(name, {}).get("headline") for row in cell.done]
    values = [float(value) for value in found if value is not None]
    return math.fsum(values) / len(values) if values else None


def _cell(score: float | None, share: float) -> Html:
    step = round(abs(share) * HEAT_STEPS)
    # A class, not a style of its own: the page's policy allows its one style sheet alone.
    return tag("td", number(score, "headline"), class_=f"{'up' if share > 0 else 'down'}{step}" if step else "")
