"""Scores of single test tasks and categories: where two arms differ, and a heat map of all of them."""

from __future__ import annotations

from typing import Any

from simtune.report.charts.chart import ONLY_CHOSEN_ARMS, Chart, Panel, Rows, Spec, View, arms_parameter, tip
from simtune.report.charts.run_data import RunData, largest_size, mean_of
from simtune.report.results_view import Cell, GridPoint, natural_key, one_line
from simtune.wording import counted

_HERE = {"filter": "datum.point == point && (datum.size == size || datum.size == null)"}
_ROW_HEIGHT = 24


def paired_chart(data: RunData) -> Chart | None:
    """The difference of two arms on each test task; None where no two can be compared."""
    pair = default_pair(data)
    if pair is None:
        return None
    means = data.task_means
    rows = _differences(means, *pair)
    names_of = [one_line(f"{cell['arm']}, {cell['size']}", 60) for cell in (means["cells"][number] for number in pair)]
    middle = sum(row["difference"] for row in rows) / max(1, len(rows))
    return Chart(
        "paired",
        "Where two arms differ",
        "A bar for each test task: the first arm's score less the second's, means over seeds, in each task's own "
        "metric. Sorted: a lead that comes from a few tasks looks different from one on most of them.",
        f"Bar chart of the difference of two arms on each of {counted(len(means['tasks']), 'test task')}, sorted. "
        "The same numbers are in the table below it.",
        (View("paired", (Panel(_paired_spec(" − ".join(names_of), middle)),)),),
        {"differences": rows},
        uses=("paired",),
    )


def default_pair(data: RunData) -> tuple[int, int] | None:
    """The positions in `cells` of the pair that is shown first: the best and the next arm of the largest size."""
    point = next((point for point in data.points if largest_size(point) is not None), None)
    if point is None:
        return None
    cells = data.task_means["cells"]
    number = data.points.index(point)
    headline = point.headline
    at_size = [cell for cell in point.at(largest_size(point) or 0) if cell.mean(headline.column) is not None]
    ranked = sorted(at_size, key=lambda cell: -headline.merit(cell.mean(headline.column) or 0.0))
    found = [(c["point"], c["arm"], c["size"]) for c in cells]
    own = [found.index(key) for cell in ranked if (key := (number, cell.arm, cell.size)) in found]
    return (own[0], own[1]) if len(own) > 1 else None


def _differences(means: dict[str, Any], first: int, second: int) -> Rows:
    """The rows of the figure, as figures.js computes them for other pairs."""
    pairs = zip(means["tasks"], means["cells"][first]["scores"], means["cells"][second]["scores"], strict=True)
    known = [(task, a, b) for task, a, b in pairs if a is not None and b is not None]
    ordered = sorted(known, key=lambda item: -(item[1] - item[2]))
    return [
        {
            **task,
            "first": a,
            "second": b,
            "difference": round(a - b, 4),
            "rank": rank,
            "sign": "down" if a < b else "up",
        }
        for rank, (task, a, b) in enumerate(ordered, 1)
    ]


def _paired_spec(title: str, middle: float) -> Spec:
    x = {"field": "rank", "type": "ordinal", "axis": {"labels": False, "ticks": False, "title": "test tasks, sorted"}}
    y = {"field": "difference", "type": "quantitative", "axis": {"title": {"expr": "title"}, "tickCount": 6}}
    tooltip = [
        tip("task", "task"),
        tip("category", "category"),
        tip("metric", "metric"),
        tip("first", "first arm", 2),
        tip("second", "second arm", 2),
        tip("difference", "difference", 2),
    ]
    return {
        "width": "container",
        "height": 260,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "params": [{"name": "title", "value": title}, {"name": "middle", "value": middle}],
        "data": {"name": "differences"},
        "layer": [
            {
                "mark": {"type": "bar", "minBandSize": 2},
                "encoding": {
                    "x": x,
                    "y": y,
                    "tooltip": tooltip,
                    "description": {"field": "words"},
                    "color": {
                        "field": "sign",
                        "type": "nominal",
                        "legend": None,
                        "scale": {"domain": ["up", "down"], "range": ["#1f78b4", "#c75b12"]},
                    },
                },
            },
            {"mark": {"type": "rule", "aria": False}, "encoding": {"y": {"datum": 0}}},
            {
                "mark": {"type": "rule", "strokeDash": [4, 3], "aria": False},
                "transform": [{"filter": "datum.rank == 1"}, {"calculate": "middle", "as": "middle"}],
                "encoding": {"y": {"field": "middle", "type": "quantitative"}},
            },
        ],
    }


def heat_chart(data: RunData) -> Chart | None:
    """Categories against arms; None without scores of categories."""
    rows = [row for number, point in enumerate(data.points) for row in _heat_rows(data, number, point)]
    if not rows:
        return None
    categories = sorted({row["category"] for row in rows}, key=natural_key)
    spread = max([1.0, *(abs(row["difference"]) for row in rows if row["difference"] is not None)])
    headline = data.points[0].headline
    return Chart(
        "heat_map",
        "Scores by test category",
        "Each category's own metric at the chosen size, mean over seeds. Colour: difference to the mean of the arms on "
        f"this category, full at {spread:.1f} points. Full pool and baselines: not coloured.",
        f"Heat map of {counted(len(categories), 'category', 'categories')} against the arms. The numbers are in the "
        "section on categories.",
        (View("heat map", (Panel(_heat_spec(data.arms, categories, spread, headline.digits)),)),),
        {"categories": rows},
        uses=("arms", "size", "point"),
    )


def _heat_rows(data: RunData, number: int, point: GridPoint) -> Rows:
    rows: Rows = []
    references = [cell for cell in (point.full, *point.baselines) if cell is not None]
    for size in (*point.sizes, None):
        cells = references if size is None else point.at(size)
        names = {name for cell in cells for row in cell.done for name in data.category_scores.get(_key(row), {})}
        for name in sorted(names, key=natural_key):
            means = {id(cell): mean_of(cell, data.category_scores, name) for cell in cells}
            known = [mean for mean in means.values() if mean is not None]
            middle = sum(known) / len(known) if known and size is not None else None
            for cell in cells:
                mean = means[id(cell)]
                if mean is not None:
                    difference = None if middle is None else mean - middle
                    rows.append(_heat_row(number, size, cell, name, mean, difference))
    return rows


def _key(row: dict[str, Any]) -> tuple[str, str]:
    return row["trial"], row["score"]


def _heat_row(
    point: int, size: int | None, cell: Cell, name: str, mean: float, difference: float | None
) -> dict[str, Any]:
    shown = name.replace("_", " ")
    return {
        "point": point,
        "size": size,
        "arm": cell.arm,
        "is_arm": cell.type == "strategy",
        "category": shown,
        "value": round(mean, 4),
        "difference": None if difference is None else round(difference, 4),
        "words": f"{one_line(shown, 60)}, {one_line(cell.arm, 60)}: {mean:.2f}",
    }


def _heat_spec(arms: list[str], categories: list[str], spread: float, digits: int) -> Spec:
    x = {
        "field": "arm",
        "type": "nominal",
        "sort": arms,
        "axis": {"orient": "top", "title": None, "labelAngle": -30, "labelLimit": 130},
    }
    y = {
        "field": "category",
        "type": "nominal",
        "sort": [name.replace("_", " ") for name in categories],
        "axis": {"title": None, "titleAngle": 0, "labelLimit": {"expr": "width > 400 ? 240 : 110"}},
    }
    hue = {
        "field": "difference",
        "type": "quantitative",
        "legend": None,
        "scale": {"domain": [-spread, -spread / 3, 0, spread / 3, spread], "range": "diverging"},
    }
    tooltip = [
        tip("category", "category"),
        tip("arm", "arm"),
        tip("value", "score", digits),
        tip("difference", "to the mean of the arms", digits),
    ]
    return {
        "width": "container",
        "height": max(2, len(categories)) * _ROW_HEIGHT,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "params": [arms_parameter(arms), {"name": "size", "value": 0}, {"name": "point", "value": 0}],
        "data": {"name": "categories"},
        "transform": [{"filter": f"!datum.is_arm || ({ONLY_CHOSEN_ARMS['filter']})"}, _HERE],
        "encoding": {"x": x, "y": y},
        "layer": [
            {
                "mark": {"type": "rect", "invalid": "filter"},
                "transform": [{"filter": "isValid(datum.difference)"}],
                "encoding": {"color": hue, "tooltip": tooltip, "description": {"field": "words"}},
            },
            {
                "mark": {"type": "text", "fontSize": 11, "aria": False, "style": "ink", "stroke": None},
                "transform": [{"filter": "width > 400"}],
                "encoding": {
                    "text": {"field": "value", "type": "quantitative", "format": f".{min(1, digits)}f"},
                    "color": {"condition": {"test": f"abs(datum.difference) > {spread * 0.85}", "value": "#ffffff"}},
                    "tooltip": tooltip,
                },
            },
        ],
    }
