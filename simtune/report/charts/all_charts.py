"""Every figure of the page, in its order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simtune.report.charts.by_size import size_views
from simtune.report.charts.chart import Chart, arm_names
from simtune.report.figures import score_panels, similarity_panels
from simtune.report.plot_style import Plot
from simtune.report.results_view import GridPoint


def size_charts(points: list[GridPoint], plots: Mapping[str, tuple[str, Plot]]) -> list[Chart]:
    """The study's Fig. 3 and Fig. 4, with the pictures that are also files of the report.

    Args:
        points: of the grid.
        plots: title and picture of `scores_by_size` and `similarity_by_size`.
    """
    arms = arm_names(points)
    charts = []
    for name, panels, digits in (
        ("scores_by_size", score_panels(points), points[0].headline.digits if points else 2),
        ("similarity_by_size", similarity_panels(points), 3),
    ):
        title, plot = plots[name]
        views, datasets = size_views(name, panels, arms, digits)
        charts.append(Chart(name, title, plot.caption, plot.alt, views, datasets, (plot.svg(),)))
    return charts


def scripts_data(charts: list[Chart], points: list[GridPoint]) -> dict[str, Any]:
    """What the page's scripts draw: figures, their data, and the looks of the arms."""
    from simtune.report.charts.theme import arm_looks, config

    infos = points[0].metadata.arms_by_name if points else {}
    looks = arm_looks(list(infos.values()))
    drawn = {arm for point in points for arm in point.arms}
    return {
        "arms": [vars(look) for look in looks if look.name in drawn],
        "configs": {"light": config(looks, is_dark=False), "dark": config(looks, is_dark=True)},
        "charts": {
            chart.anchor: {
                "alt": chart.alt,
                "is_wide": chart.is_wide,
                "uses": chart.uses,
                "datasets": list(chart.datasets),
                "views": [
                    {"name": view.name, "panels": [{"title": p.title, "spec": p.spec} for p in view.panels]}
                    for view in chart.views
                ],
            }
            for chart in charts
        },
        "datasets": {name: rows for chart in charts for name, rows in chart.datasets.items()},
    }
