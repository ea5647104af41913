"""Every figure of the page, in its order, and what the page's scripts need to draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from simtune.report.charts import vega
from simtune.report.charts.by_size import size_views
from simtune.report.charts.chart import Chart, Spec
from simtune.report.charts.run_data import RunData, largest_size
from simtune.report.charts.scatter import scatter_chart, setting_chart
from simtune.report.charts.task_map import map_chart
from simtune.report.charts.task_scores import default_pair, heat_chart, paired_chart
from simtune.report.charts.theme import ArmLook, arm_looks, config
from simtune.report.charts.training import instances_chart, loss_chart
from simtune.report.figures import score_panels, similarity_panels
from simtune.report.plot_style import Plot

_PICTURE_WIDTH = 720


def report_charts(
    data: RunData, plots: Mapping[str, Plot], losses: Mapping[tuple[str, str], Sequence[float]]
) -> list[Chart]:
    """The figures that this run has.

    Args:
        data: of the run.
        plots: `line_figures`, which are also files of the report.
        losses: a loss for each step by the ids of trial and score.
    """
    by_size = _size_charts(data, plots)
    others = (
        *(paired_chart(data), heat_chart(data), map_chart(data), by_size[1], scatter_chart(data), setting_chart(data)),
        *(loss_chart(data, losses), instances_chart(data)),
    )
    charts = [by_size[0], *(chart for chart in others if chart is not None)]
    defaults = _defaults(data)
    looks = _looks(data)
    paper = config(looks, is_dark=False)
    return [_with_pictures(_with_defaults(chart, defaults), paper) for chart in charts]


def _size_charts(data: RunData, plots: Mapping[str, Plot]) -> list[Chart]:
    """The study's Fig. 3 and Fig. 4."""
    charts = []
    digits_of_score = data.points[0].headline.digits if data.points else 2
    for name, title, panels, digits in (
        ("scores_by_size", "More tasks, or other tasks", score_panels(data.points), digits_of_score),
        ("similarity_by_size", "How similar the sets are", similarity_panels(data.points), 3),
    ):
        plot = plots[name]
        views, datasets = size_views(name, panels, data.arms, digits)
        charts.append(Chart(name, title, plot.caption, plot.alt, views, datasets, (plot.svg,)))
    return charts


def _looks(data: RunData) -> list[ArmLook]:
    """In the order of `data.arms`, which is that of the scales of colours and shapes."""
    infos = data.points[0].metadata.arms_by_name if data.points else {}
    return arm_looks([infos[name] for name in data.arms])


def _defaults(data: RunData) -> dict[str, Any]:
    """What is chosen when the page opens."""
    size = next((size for point in data.points if (size := largest_size(point)) is not None), None)
    shown = next((row for row in data.rows if row["size"] == size and data.chosen(row)), None)
    return {"size": size, "point": 0, "chosen": data.chosen(shown) if shown else []}


def _with_defaults(chart: Chart, defaults: Mapping[str, Any]) -> Chart:
    def filled(spec: Spec) -> Spec:
        params = [{**p, "value": defaults[p["name"]]} if p["name"] in defaults else p for p in spec["params"]]
        return {**spec, "params": params}

    views = [replace(v, panels=tuple(replace(p, spec=filled(p.spec)) for p in v.panels)) for v in chart.views]
    return replace(chart, views=tuple(views))


def _with_pictures(chart: Chart, paper: Spec) -> Chart:
    if chart.pictures:
        return chart
    pictures = [vega.svg(panel.spec, chart.datasets, paper, _PICTURE_WIDTH) for panel in chart.views[0].panels]
    return replace(chart, pictures=tuple(pictures))


def scripts_data(charts: Sequence[Chart], data: RunData) -> dict[str, Any]:
    """What the page's scripts need: figures, their data, what can be chosen, and the looks of the arms."""
    looks = _looks(data)
    drawn = {arm for point in data.points for arm in point.arms}
    return {
        "arms": [vars(look) for look in looks if look.name in drawn],
        "configs": {"light": config(looks, is_dark=False), "dark": config(looks, is_dark=True)},
        "defaults": _defaults(data),
        "sizes": sorted({size for point in data.points for size in point.sizes}),
        "points": [point.title for point in data.points],
        "tasks": [[row["task"], (row["category"] or "").replace("_", " ")] for row in data.tasks],
        "task_means": data.task_means,
        "pair": default_pair(data),
        "charts": {chart.anchor: _chart(chart) for chart in charts},
        "datasets": {
            name: rows for chart in charts for name, rows in chart.datasets.items() if name not in chart.computed
        },
    }


def _chart(chart: Chart) -> dict[str, Any]:
    views = [{"name": v.name, "panels": [{"title": p.title, "spec": p.spec} for p in v.panels]} for v in chart.views]
    return {
        "alt": chart.alt,
        "is_wide": chart.is_wide,
        "uses": chart.uses,
        "datasets": list(chart.datasets),
        "views": views,
    }
