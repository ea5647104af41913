"""The two line figures: the headline metric and mean similarity against the number of training tasks.

One line per arm, labelled at its end, with the full pool and the baselines as reference lines. Each grid point has a
panel of its own on shared axes. What is not drawn is counted under the figure.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pyarrow as pa

from simtune.report import plot_style
from simtune.report.lineplot import Line, Panel, Reference, draw, y_range
from simtune.report.plot_style import Plot
from simtune.report.results_view import SET_STATISTICS, Cell, GridPoint, grid_points, one_line
from simtune.report.statistics.records import Statistics
from simtune.report.table_metadata import NumberColumn, read_results_metadata
from simtune.wording import counted

MAX_PANELS = 6


def line_figures(rows: pa.Table, statistics: Statistics) -> dict[str, Plot]:
    """Both figures by the names of their files."""
    return {
        "scores_by_size": figure_scores_by_size(rows, statistics),
        "similarity_by_size": figure_similarity_by_size(rows),
    }


def figure_scores_by_size(rows: pa.Table, statistics: Statistics) -> Plot:
    """The headline metric on unseen tasks against the number of training tasks (the study's Fig. 3).

    Args:
        rows: results.parquet.
        statistics: of the same rows; the note under the figure says whether its arms can be told apart.
    """
    points = grid_points(rows)
    panels = score_panels(points)
    titles = list(dict.fromkeys(panel.y_label for panel in panels)) or [read_results_metadata(rows).metrics[0].title]
    subject = f"{', '.join(titles)} on unseen tasks against the number of training tasks, one line per arm."
    return _plot(points, panels, (subject, "the full pool"), _chance(statistics))


def figure_similarity_by_size(rows: pa.Table) -> Plot:
    """Mean pairwise cosine similarity of each set against its size (the study's Fig. 4)."""
    points = grid_points(rows)
    panels = similarity_panels(points)
    subject = "Mean pairwise cosine similarity of each training set against its number of tasks, one line per arm."
    return _plot(points, panels, (subject, "the mean over the whole pool"))


def score_panels(points: list[GridPoint]) -> list[Panel]:
    """A panel a grid point with the headline metric."""
    panels = []
    for point in points:
        short = point.headline.model_copy(update={"digits": min(1, point.headline.digits)})
        panels.append(_panel(point, short, one_line(short.title, 40), full="full, {tasks}  {value}"))
    return panels


def similarity_panels(points: list[GridPoint]) -> list[Panel]:
    """A panel a grid point with the mean similarity of each set; one alone where all are the same."""
    column = SET_STATISTICS[0]
    panels = [_panel(point, column, "mean cosine similarity", full="whole pool  {value}") for point in points]
    if len({(_drawn(panel), panel.references) for panel in panels}) == 1:
        # Sets do not depend on the model or the encoding: one panel shows them all.
        return [replace(panels[0], title="")]
    return panels


def _drawn(panel: Panel) -> tuple[object, ...]:
    return tuple((ln.arm, tuple((x, c and tuple(c.values(panel.column))) for x, c in ln.points)) for ln in panel.lines)


def _panel(point: GridPoint, column: NumberColumn, y_label: str, full: str) -> Panel:
    infos = point.metadata.arms_by_name
    lines = []
    for arm in point.arms:
        found: dict[int, Cell | None] = {}
        for cell in point.strategies:
            # Two sizes above the pool are the same set: one point.
            if cell.arm == arm:
                found.setdefault(cell.num_tasks, cell if cell.values(column.column) else None)
        style = infos[arm].style if arm in infos else None
        lines.append(Line(arm, tuple((float(x), found[x]) for x in sorted(found)), style))
    references = []
    if point.full is not None and (mean := point.full.mean(column.column)) is not None:
        label = full.format(tasks=counted(point.full.num_tasks, "task"), value=column.text(mean))
        references.append(Reference(label, mean, is_full=True))
    for cell in point.baselines:
        if (mean := cell.mean(column.column)) is not None:
            references.append(Reference(f"{one_line(cell.arm, 28)}  {column.text(mean)}", mean, is_full=False))
    return Panel(one_line(point.title, 110), column.column, y_label, tuple(lines), tuple(references))


def _chance(statistics: Statistics) -> str:
    """Whether the order of arms at one size is more than chance."""
    pairs = [
        (point.title, comparison)
        for point in statistics.points
        for comparison in point.comparisons
        if comparison.family.startswith("size ") and comparison.p is not None
    ]
    sizes = {(title, comparison.family) for title, comparison in pairs}
    clear = {(title, comparison.family) for title, comparison in pairs if comparison.better}
    if not sizes:
        return ""
    if not clear:
        return "At no size can two arms be told apart: their order may be chance."
    return f"Some arms can be told apart at {len(clear)} of {counted(len(sizes), 'size')}."


def _plot(points: list[GridPoint], panels: list[Panel], words: tuple[str, str], chance: str = "") -> Plot:
    """Draws the panels.

    Args:
        points: all of them, for what is not drawn.
        panels: one a grid point, or one for all.
        words: the first sentence of the caption, and what the dashed line shows.
        chance: a sentence on whether lines can be told apart.
    """
    subject, dashed = words
    shown = panels[:MAX_PANELS]
    notes = " ".join(filter(None, (*_notes(points, panels), chance)))
    with plot_style.report_style():
        figure = draw(shown, notes)
    references = [r for p in shown for r in p.references]
    legend = f" Dashed: {dashed}." if any(r.is_full for r in references) else ""
    legend += " Dotted: baselines without training on tasks." if any(not r.is_full for r in references) else ""
    arms = ", ".join(one_line(ln.arm, 40) for p in shown[:1] for ln in p.lines) or "no arms"
    labels = "; ".join(r.label.replace("  ", " ") for p in shown[:1] for r in p.references)
    alt = f"Line chart. {subject} Arms: {arms}." + (f" Reference lines: {labels}." if labels else "")
    return Plot(figure, f"{subject}{legend} {notes}", alt + " The numbers are in the tables of this page.")


def _notes(points: list[GridPoint], panels: list[Panel]) -> list[str]:
    """Sentences under the figure: how to read it, and what it leaves out."""
    shown = panels[:MAX_PANELS]
    drawn = [(p.column, cell) for p in shown for ln in p.lines for _, cell in ln.points if cell]
    spread = any(len(cell.values(column)) > 1 for column, cell in drawn)
    notes = ["Whiskers: lowest to highest seed." if spread else "One seed."]
    if any(cell.unfinished for _, cell in drawn):
        notes.append("Hollow: some seeds did not finish.")
    unfinished = Counter(one_line(row["status"], 20) for point in points for row in point.unfinished)
    if unfinished:
        statuses = ", ".join(f"{count} {status}" for status, count in sorted(unfinished.items()))
        notes.append(f"Left out: {counted(unfinished.total(), 'trial')} ({statuses}).")
    ranges = {p.column: y_range(shown, p.column) for p in shown}
    if any(not ranges[p.column][0] <= r.value <= ranges[p.column][1] for p in shown for r in p.references):
        notes.append("Arrow: off the scale.")
    if len(panels) > MAX_PANELS:
        notes.append(f"Drawn: {MAX_PANELS} of {counted(len(panels), 'grid point')}; the tables have all.")
    if len(panels) == 1 and len(points) > 1:
        notes.append("The same at every grid point.")
    return notes
