"""How the training went: the loss by step, and how many instances the tasks have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from simtune.report.charts.chart import ONLY_CHOSEN_ARMS, Chart, Panel, Rows, Spec, View, arms_parameter, colour, tip
from simtune.report.charts.run_data import RunData
from simtune.wording import counted

MOST_POINTS = 40
"""Of one loss curve; longer ones become means over as many steps as it takes."""
_NUM_BARS = 24


def loss_chart(data: RunData, losses: Mapping[tuple[str, str], Sequence[float]]) -> Chart | None:
    """The loss of every trial by step; None where none is known.

    Args:
        data: of the run.
        losses: a loss for each step, in nats a target token, by the ids of trial and score.
    """
    rows: Rows = []
    for number, point in enumerate(data.points):
        for cell in point.cells:
            for row in cell.done:
                for step, loss in thinned(losses.get((row["trial"], row["score"]), ())):
                    rows.append(
                        {
                            "point": number,
                            "arm": cell.arm,
                            "size": cell.size,
                            "seed": row["seed"],
                            "step": step,
                            "is_full": cell.type == "full",
                            "loss": round(loss, 4),
                            "tasks": row["num_tasks"],
                            "key": f"{row['trial']}-{row['arm']}-{row['seed']}",
                        }
                    )
    if not rows:
        return None
    return Chart(
        "losses",
        "Training loss",
        f"A line for each trial of the chosen size, and the full pool. At most {counted(MOST_POINTS, 'point')} a line: "
        "each is the mean loss of a few steps.",
        "Line chart of the training loss, in nats for each target token, against the step.",
        (View("losses", (Panel(_loss_spec(data.arms)),)),),
        {"losses": rows},
        computed=("losses",),
        uses=("arms", "size", "point"),
    )


def thinned(losses: Sequence[float]) -> list[tuple[int, float]]:
    """A curve as (last step, mean loss) of equal parts; losses that are no number are left out."""
    each = max(1, -(-len(losses) // MOST_POINTS))
    parts = []
    for first in range(0, len(losses), each):
        own = [loss for loss in losses[first : first + each] if math.isfinite(loss)]
        if own:
            parts.append((min(first + each, len(losses)), math.fsum(own) / len(own)))
    return parts


def _loss_spec(arms: Sequence[str]) -> Spec:
    tooltip = [
        tip("arm", "arm"),
        tip("tasks", "training tasks", 0),
        tip("seed", "seed", 0),
        tip("step", "step", 0),
        tip("loss", "loss", 4),
    ]
    scale = {"zero": False, "nice": True}
    x = {"field": "step", "type": "quantitative", "axis": {"title": "step", "tickCount": 6}, "scale": {"nice": False}}
    y = {"field": "loss", "type": "quantitative", "axis": {"title": "loss, nats a target token"}, "scale": scale}
    return {
        "width": "container",
        "height": 280,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "params": [arms_parameter(arms), {"name": "size", "value": 0}, {"name": "point", "value": 0}],
        "data": {"name": "losses"},
        "transform": [
            {"filter": "datum.point == point && (datum.size == size || datum.is_full)"},
            {"filter": f"datum.is_full || ({ONLY_CHOSEN_ARMS['filter']})"},
        ],
        "encoding": {"x": x, "y": y, "color": colour(arms), "detail": {"field": "key"}},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.85}},
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 0, "aria": False},
                "encoding": {"tooltip": tooltip},
            },
        ],
    }


def instances_chart(data: RunData) -> Chart | None:
    """The study's Fig. 2: how many tasks have how many instances; None where no task says."""
    if data.run.tasks is None:
        return None
    tasks = [row for row in data.run.tasks.to_pylist() if row["num_instances"] is not None]
    if not tasks:
        return None
    counts = [row["num_instances"] for row in tasks]
    width = _round_width((max(counts) - min(counts)) / _NUM_BARS)
    bars: dict[tuple[int, str], int] = {}
    for row in tasks:
        role = {"pool": "pool", "test": "test tasks"}.get(row["role"], "dropped")
        key = row["num_instances"] // width * width, role
        bars[key] = bars.get(key, 0) + 1
    rows: Rows = [
        {
            "low": low,
            "high": low + width,
            "role": role,
            "tasks": count,
            "words": f"{low:,} to {low + width - 1:,}, {role}: {counted(count, 'task')}",
        }
        for (low, role), count in sorted(bars.items())
    ]
    return Chart(
        "instances",
        "How many instances the tasks have",
        f"{counted(len(tasks), 'task')} of the corpus by their number of instances, as the study's Fig. 2.",
        f"Histogram of {counted(len(tasks), 'task')} by number of instances, from {min(counts):,} to {max(counts):,}.",
        (View("instances", (Panel(_instances_spec(width)),)),),
        {"instances": rows},
        uses=(),
    )


def _round_width(width: float) -> int:
    """The next of 1, 2, 5, 10, ... that is at least this."""
    if width <= 1:
        return 1
    power = 10 ** math.floor(math.log10(width))
    return int(next(step * power for step in (1, 2, 5, 10) if step * power >= width))


def _instances_spec(width: int) -> Spec:
    roles = ["pool", "test tasks", "dropped"]
    hue = {
        "field": "role",
        "type": "nominal",
        "scale": {"domain": roles, "range": ["#1f78b4", "#c75b12", "#8b939b"]},
        "legend": {"title": None, "orient": "bottom"},
    }
    title = "instances of the task" + (f", in steps of {width:,}" if width > 1 else "")
    return {
        "width": "container",
        "height": 220,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "params": [],
        "data": {"name": "instances"},
        "mark": {"type": "bar", "binSpacing": 1},
        "encoding": {
            "x": {
                "field": "low",
                "type": "quantitative",
                "bin": {"binned": True, "step": width},
                "axis": {"title": title, "tickCount": 8},
            },
            "x2": {"field": "high"},
            "y": {
                "field": "tasks",
                "type": "quantitative",
                "stack": "zero",
                "axis": {"title": "tasks", "tickCount": 5},
            },
            "color": hue,
            "order": {"field": "role"},
            "tooltip": [
                tip("low", "instances from", 0),
                tip("high", "to below", 0),
                tip("role", "role"),
                tip("tasks", "tasks", 0),
            ],
            "description": {"field": "words"},
        },
    }
