"""A leaderboard report as tables for a terminal: four places, the headline metric of each category marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simtune.evaluation.headline_metric import GENERATED
from simtune.evaluation.leaderboard import LeaderboardReport, TrackReport
from simtune.evaluation.metric_registry import METRICS
from simtune.evaluation.scores import GroupScore, MeanScore
from simtune.wording import counted

if TYPE_CHECKING:
    from simtune.tables import TextTable


def render_report(report: LeaderboardReport, *, tasks: bool = False) -> list[TextTable]:
    """Tables of a report: one for each track, and with `tasks` one more with all its tasks."""
    tables = []
    for track in report.tracks:
        tables.append(_track_table(track, report.num_unknown))
        if tasks:
            tables.append(_group_table(f"Tasks of track {track.track}", track.scores.tasks))
    return tables


def _track_table(report: TrackReport, num_unknown: int) -> TextTable:
    scores = report.scores
    table = _group_table(f"Track {report.track}", scores.categories)
    table.add_section()
    for name, mean in (
        ("mean over instances (official)", scores.overall),
        ("mean over tasks", scores.task_mean),
    ):
        table.add_row(name, *_mean_cells(mean, len(scores.tasks)))
    table.caption = (
        f"{report.num_missing} of {counted(scores.overall.num_instances, 'instance')} without a prediction (scored as "
        f"empty); {counted(num_unknown, 'prediction')} with an unknown id (ignored). * the category's headline metric."
    )
    return table


def _group_table(title: str, groups: tuple[GroupScore, ...]) -> TextTable:
    from simtune.tables import TextTable

    table = TextTable(title=title)
    table.add_columns("")
    table.add_number_columns(*(METRICS[name].title for name in GENERATED), "tasks", "instances")
    for group in groups:
        marked = (f"{value:.4f}" + "*" * (name == group.metric) for name, value in group.values.items())
        table.add_row(group.name, *marked, str(group.num_tasks), str(group.num_instances))
    return table


def _mean_cells(mean: MeanScore, num_tasks: int) -> tuple[str, ...]:
    return *(f"{value:.4f}" for value in mean.values.values()), str(num_tasks), str(mean.num_instances)
