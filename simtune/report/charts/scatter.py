"""The score of every trial against what might explain it: similarity, coverage, cost, and each swept setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simtune.report.charts.chart import (
    ONLY_CHOSEN_ARMS,
    Chart,
    Panel,
    Rows,
    Spec,
    View,
    arms_parameter,
    colour,
    shape,
    tip,
)
from simtune.report.charts.run_data import RunData, finite, row_key
from simtune.report.results_view import grid_columns, natural_key, one_line
from simtune.wording import counted

_HEIGHT = 320
_THIS_POINT = {"filter": "datum.point == point"}


@dataclass(frozen=True)
class _Axis:
    """What can be on the horizontal axis."""

    field: str
    title: str
    digits: int
    is_log: bool = False


_AXES = (
    _Axis("similarity", "mean similarity of the training tasks", 3),
    _Axis("coverage", "coverage of the test tasks by the training tasks", 3),
    _Axis("largest", "largest similarity of two training tasks", 3),
    _Axis("categories", "categories among the training tasks", 0),
    _Axis("seconds", "seconds of training", 1, is_log=True),
    _Axis("tokens", "source tokens read in training", 0, is_log=True),
    _Axis("loss", "training loss of the last epoch", 4),
)


def scatter_chart(data: RunData) -> Chart | None:
    """A dot a trial; None where nothing has finished."""
    rows = _rows(data)
    axes = [axis for axis in _AXES if len({row[axis.field] for row in rows if row[axis.field] is not None}) > 1]
    if not axes or not rows:
        return None
    headline = data.points[0].headline
    domain = _domain([row["score"] for row in rows])
    views = tuple(
        View(
            axis.title[0].upper() + axis.title[1:],
            (Panel(_spec(data.arms, axis, headline.title, headline.digits, domain)),),
        )
        for axis in axes
    )
    return Chart(
        "scatter",
        "What goes with a higher score",
        "One dot for each trial; larger dots have more training tasks. A pattern here is no proof of a cause: "
        "arms and sizes differ in everything at once.",
        f"Scatter plot of {headline.title} against {', '.join(axis.title for axis in axes)}, "
        f"{counted(len(rows), 'trial')}. The numbers are in the table of trials.",
        views,
        {"trials": rows},
        uses=("arms", "point"),
    )


def _rows(data: RunData) -> Rows:
    rows: Rows = []
    numbers = {row_key(row): number for number, row in enumerate(data.rows)}
    for number, point in enumerate(data.points):
        column, title = point.headline.column, point.headline.title
        for cell in point.cells:
            for row in cell.done:
                score = finite(row[column])
                if score is None or cell.type == "baseline":
                    continue
                cost = data.costs.get((row["trial"], row["score"]), {}).get("train_s") or None
                tasks = counted(row["num_tasks"] or 0, "task")
                rows.append(
                    {
                        "trial": numbers[row_key(row)],
                        "point": number,
                        "arm": row["arm"],
                        "tasks": row["num_tasks"],
                        "seed": row["seed"],
                        "score": score,
                        "similarity": finite(row["mean_similarity"]),
                        "largest": finite(row["max_similarity"]),
                        "coverage": finite(row["coverage"]),
                        "categories": finite(row["num_categories"]),
                        "seconds": finite(cost),
                        "tokens": finite(row["num_source_tokens"]) or None,
                        "loss": finite(row["final_loss"]),
                        "words": f"{one_line(row['arm'], 60)}, {tasks}, seed {row['seed']}: {title} {score:.2f}",
                    }
                )
    return rows


def _domain(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    margin = (high - low or abs(high) or 1.0) * 0.06
    return [low - margin, high + margin]


def _spec(arms: Sequence[str], axis: _Axis, title: str, digits: int, domain: list[float]) -> Spec:
    x_axis: dict[str, Any] = {"title": axis.title + (" (log scale)" if axis.is_log else ""), "tickCount": 6}
    if axis.is_log:
        x_axis["format"] = "~s" if axis.field == "tokens" else "~g"
    x = {
        "field": axis.field,
        "type": "quantitative",
        "axis": x_axis,
        "scale": {"type": "log"} if axis.is_log else {"type": "linear", "zero": False, "nice": False, "padding": 14},
    }
    y = {
        "field": "score",
        "type": "quantitative",
        "axis": {"title": title, "tickCount": 6},
        "scale": {"domain": domain, "nice": False, "zero": False},
    }
    size = {"field": "tasks", "type": "quantitative", "legend": None, "scale": {"type": "sqrt", "range": [28, 170]}}
    return {
        "width": "container",
        "height": _HEIGHT,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "params": [arms_parameter(arms), {"name": "point", "value": 0}],
        "data": {"name": "trials"},
        "transform": [ONLY_CHOSEN_ARMS, _THIS_POINT, {"filter": f"isValid(datum.{axis.field})"}],
        "layer": [
            {
                "params": [
                    {
                        "name": "pointed",
                        "select": {"type": "point", "fields": ["arm"], "on": "pointerover", "clear": "pointerout"},
                    }
                ],
                "mark": {"type": "point", "filled": True, "style": "halo"},
                "encoding": {
                    "x": x,
                    "y": y,
                    "size": size,
                    "color": colour(arms),
                    "shape": shape(arms),
                    "opacity": {"condition": {"param": "pointed", "value": 0.9}, "value": 0.13},
                    "tooltip": [
                        tip("arm", "arm"),
                        tip("tasks", "training tasks", 0),
                        tip("seed", "seed", 0),
                        tip("score", title, digits),
                        tip(axis.field, axis.title, axis.digits),
                    ],
                    "description": {"field": "words"},
                },
            }
        ],
    }


def setting_chart(data: RunData) -> Chart | None:
    """The score against each swept setting; None where nothing was swept."""
    fields = [name for name in grid_columns(data.run.results) if len({row[name] for row in data.rows}) > 1]
    if len(data.points) < 2 or not fields:
        return None
    rows, names = _setting_rows(data, fields), {field: f"g{i}" for i, field in enumerate(fields)}
    if not rows:
        return None
    headline = data.points[0].headline
    domain = _domain([value for row in rows for value in (row["low"], row["high"])])
    views = []
    for field in fields:
        values = sorted({row[names[field]] for row in rows}, key=natural_key)
        others = [names[other] for other in fields if other != field]
        spec = _setting_spec(data.arms, names[field], one_line(field, 60), values, others)
        spec["layer"][0]["encoding"]["y"]["scale"]["domain"] = domain
        spec["layer"][0]["encoding"]["y"]["axis"]["title"] = headline.title
        views.append(View(one_line(field, 60), (Panel(spec),)))
    return Chart(
        "settings_axis",
        "The score against a swept setting",
        "Means over seeds at the chosen size, one line for each arm and each combination of the other settings.",
        f"Line chart of {headline.title} against {', '.join(one_line(field, 60) for field in fields)}. The numbers are "
        "in the table of trials.",
        tuple(views),
        {"settings": rows},
        uses=("arms", "size"),
    )


def _setting_rows(data: RunData, fields: Sequence[str]) -> Rows:
    rows: Rows = []
    for point in data.points:
        settings = dict(point.settings)
        for cell in point.cells:
            values = cell.values(point.headline.column)
            if values and cell.type != "baseline":
                own = {f"g{i}": one_line(settings[field] or "(none)", 60) for i, field in enumerate(fields)}
                mean = sum(values) / len(values)
                words = f"{one_line(cell.arm, 60)}, {', '.join(own.values())}: {point.headline.title} {mean:.2f}"
                rows.append(
                    {
                        "arm": cell.arm,
                        "size": cell.size,
                        "mean": mean,
                        "low": min(values),
                        "high": max(values),
                        "seeds": len(values),
                        "words": words,
                        **own,
                    }
                )
    return rows


def _setting_spec(arms: Sequence[str], field: str, title: str, values: list[str], others: list[str]) -> Spec:
    """Lines of means over the values of one setting, in their natural order."""
    x = {"field": field, "type": "nominal", "sort": values, "axis": {"title": title, "labelAngle": 0}}
    y: Spec = {"type": "quantitative", "axis": {"tickCount": 6}, "scale": {"nice": False, "zero": False}}
    detail = [{"field": other} for other in others]
    hue = {"color": colour(arms), "detail": detail}
    tooltip = [
        tip("arm", "arm"),
        tip(field, title),
        tip("mean", "mean", 2),
        tip("low", "lowest seed", 2),
        tip("high", "highest seed", 2),
        tip("seeds", "finished seeds", 0),
    ]
    return {
        "width": "container",
        "height": _HEIGHT,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "params": [arms_parameter(arms), {"name": "size", "value": 0}],
        "data": {"name": "settings"},
        "transform": [ONLY_CHOSEN_ARMS, {"filter": "datum.size == size"}],
        "layer": [
            {"mark": {"type": "line", "aria": False}, "encoding": {"x": x, "y": {**y, "field": "mean"}, **hue}},
            {
                "mark": {"type": "rule", "aria": False},
                "encoding": {"x": x, "y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}, **hue},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 75, "opacity": 1, "style": "halo"},
                "encoding": {
                    "x": x,
                    "y": {"field": "mean", "type": "quantitative"},
                    **hue,
                    "shape": shape(arms),
                    "tooltip": tooltip,
                    "description": {"field": "words"},
                },
            },
        ],
    }
