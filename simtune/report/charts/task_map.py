"""The pool as points of a plane, with the tasks that a trial was trained on.

Legend: P tasks, D dimensions of the embedding, 2 coordinates of the plane.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from simtune.report.charts.chart import Chart, Panel, Rows, Spec, View, tip
from simtune.report.charts.run_data import RunData
from simtune.wording import counted

_HEIGHT = 460
_NUM_COLOURS = 10
OTHER = "other categories"
# Of the largest categories, on light and on dark paper alike; shapes differ as well.
_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#c25591",
    "#b87f00",
    "#1f8fc9",
    "#8a63c0",
    "#a5682f",
    "#6f9200",
    "#d0405f",
)
_SHAPES = ("o", "s", "^", "D", "v", "p", "<", "h", ">", "d")


def map_chart(data: RunData) -> Chart | None:
    """All tasks, and those of one set large; None where the run has no embeddings or no sets."""
    tasks = _task_rows(data)
    if not tasks or not data.sets:
        return None
    counts = Counter(row["category"] for row in tasks if row["role"] == "pool")
    largest = sorted(counts, key=lambda name: (-counts[name], name))[:_NUM_COLOURS]
    for row in tasks:
        row["group"] = row["category"] if row["category"] in largest else OTHER
    num_pool = sum(counts.values())
    return Chart(
        "task_map",
        "Which tasks each arm chose",
        f"{counted(num_pool, 'task')} of the pool and {counted(len(tasks) - num_pool, 'test task')} (crosses), "
        "by the two main directions of their embeddings: tasks near each other are similar. Large: chosen.",
        f"Map of {counted(num_pool, 'task')} of the pool by semantic similarity, the tasks of one set highlighted. "
        "The list of chosen tasks is below it.",
        (View("map", (Panel(_spec(largest)),)),),
        {"tasks": tasks},
        is_wide=True,
        uses=("chosen",),
    )


def _task_rows(data: RunData) -> Rows:
    """Tasks that have an embedding, with their positions."""
    table = data.run.embeddings
    if table is None or not data.tasks or "embedding" not in table.column_names:
        return []
    first = table["grid"][0].as_py() if len(table) else ""
    of_first = [i for i, grid in enumerate(table["grid"].to_pylist()) if grid == first]
    own = table.take(of_first)
    names = own["task"].to_pylist()
    if not names:
        return []
    vectors_PD = np.asarray(own["embedding"].to_pylist(), dtype=np.float64)
    position_P2 = _principal_2d(vectors_PD)
    rows: Rows = []
    for name, (x, y) in sorted(zip(names, position_P2.tolist(), strict=True)):
        number = data.task_numbers.get(name)
        if number is not None:
            task = data.tasks[number]
            category = (task["category"] or "").replace("_", " ")
            rows.append(
                {
                    "task": name,
                    "number": number,
                    "role": task["role"],
                    "category": category,
                    "instances": task["num_instances"],
                    "x": round(x, 5),
                    "y": round(y, 5),
                }
            )
    return rows


def _principal_2d(vectors_PD: np.ndarray) -> np.ndarray:
    """The two directions of largest variance; an axis points to where its largest part is positive."""
    centred_PD = vectors_PD - vectors_PD.mean(axis=0)
    if not np.isfinite(centred_PD).all() or not centred_PD.any():
        return np.zeros((len(vectors_PD), 2))
    axes_CD = np.linalg.svd(centred_PD, full_matrices=False)[2][:2]
    largest_C = axes_CD[np.arange(len(axes_CD)), np.abs(axes_CD).argmax(axis=1)]
    placed_P2 = np.zeros((len(vectors_PD), 2))
    placed_P2[:, : len(axes_CD)] = centred_PD @ (axes_CD * np.sign(largest_C)[:, None]).T
    return placed_P2


def _spec(largest: list[str]) -> Spec:
    from simtune.report.charts.theme import symbol

    groups = [*largest, OTHER]
    colours = [*_COLOURS[: len(largest)], "#8b939b"]
    shapes = [symbol(marker) for marker in (*_SHAPES[: len(largest)], "o")]
    legend: Spec = {
        "title": None,
        "orient": "bottom",
        "columns": {"expr": "width > 500 ? 4 : 2"},
        "symbolOpacity": 1,
    }
    legend["values"] = groups if len(largest) == _NUM_COLOURS else largest
    plain = {"type": "quantitative", "axis": None, "scale": {"zero": False, "nice": False, "padding": 12}}
    place = {"x": {**plain, "field": "x"}, "y": {**plain, "field": "y"}}
    hue = {"field": "group", "type": "nominal", "scale": {"domain": groups, "range": colours}, "legend": legend}
    form = {"field": "group", "type": "nominal", "scale": {"domain": groups, "range": shapes}, "legend": legend}
    tooltip = [tip("task", "task"), tip("category", "category"), tip("instances", "instances", 0), tip("role", "role")]
    is_chosen = "indexof(chosen, datum.number) >= 0"
    dot: dict[str, Any] = {"type": "point", "filled": True}
    return {
        "width": "container",
        "height": _HEIGHT,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "params": [{"name": "chosen", "value": []}],
        "data": {"name": "tasks"},
        "config": {"mark": {"aria": False}},
        "layer": [
            {
                "transform": [{"filter": f"datum.role == 'pool' && !({is_chosen})"}],
                "mark": {**dot, "size": 26, "opacity": 0.3},
                "encoding": {**place, "color": hue, "tooltip": tooltip},
            },
            {
                "transform": [{"filter": "datum.role == 'test'"}],
                "mark": {
                    "type": "point",
                    "shape": "M-.7,-.7L.7,.7M-.7,.7L.7,-.7",
                    "size": 40,
                    "style": "muted",
                    "fill": None,
                },
                "encoding": {**place, "tooltip": tooltip},
            },
            {
                "transform": [{"filter": is_chosen}],
                "mark": {**dot, "size": 130, "opacity": 1, "style": "halo", "aria": True},
                "encoding": {
                    **place,
                    "color": hue,
                    "shape": form,
                    "tooltip": tooltip,
                    "description": {"field": "task"},
                },
            },
        ],
    }
