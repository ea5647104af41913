"""The study's two line figures: ROUGE-L and mean similarity against the number of training tasks.

One line an arm, labelled at its end, with the full pool and the baselines as lines of reference. Each grid
point has a panel of its own on shared axes. What is not drawn is counted under the figure.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

from simtune.report import plot_style as canvas
from simtune.report.lineplot import Line, Panel, Reference, draw, y_range
from simtune.report.plot_style import Plot
from simtune.report.results_view import Cell, GridPoint, grid_points, one_line
from simtune.report.tables import number
from simtune.wording import counted

MAX_PANELS = 6


def figure_rouge_by_size(rows: pa.Table) -> Plot:
    """ROUGE-L on unseen tasks against the number of training tasks (the study's Fig. 3)."""
    points = grid_points(rows)
    panels = [_panel(point, "rouge_l", full="full, {tasks} {word}  {value}", baselines=True) for point in points]
    subject = "ROUGE-L on unseen tasks against the number of training tasks, one line an arm."
    return _plot(points, panels, "rouge_l", "ROUGE-L", subject)


def figure_similarity_by_size(rows: pa.Table) -> Plot:
    """Mean pairwise cosine similarity of each set against its size (the study's Fig. 4)."""
    points = grid_points(rows)
    panels = [_panel(point, "mean_similarity", full="whole pool  {value}", baselines=False) for point in points]
    if len({(_drawn(panel), panel.references) for panel in panels}) == 1:
        # Sets do not depend on the model or the encoding: one panel says it once.
        panels = [Panel("", panels[0].lines, panels[0].references)] if panels else []
    subject = "Mean pairwise cosine similarity of each training set against its number of tasks, one line an arm."
    return _plot(points, panels, "mean_similarity", "mean cosine similarity", subject)


def _drawn(panel: Panel) -> tuple[Any, ...]:
    column = "mean_similarity"
    return tuple((ln.arm, tuple((x, c and tuple(c.values(column))) for x, c in ln.points)) for ln in panel.lines)


def _panel(point: GridPoint, column: str, full: str, baselines: bool) -> Panel:
    lines = []
    for arm in point.arms:
        cells = [c for c in point.strategies if c.arm == arm]
        found: dict[int, Cell | None] = {}
        for cell in cells:
            # Two sizes above the pool are the same set: one point.
            found.setdefault(cell.num_tasks, cell if cell.values(column) else None)
        lines.append(Line(arm, tuple((float(x), found[x]) for x in sorted(found))))
    references = []
    if point.full is not None and (mean := point.full.mean(column)) is not None:
        tasks = point.full.num_tasks
        word = "task" if tasks == 1 else "tasks"
        references.append(Reference(full.format(tasks=f"{tasks:,}", word=word, value=_short(mean, column)), mean, True))
    for cell in point.baselines if baselines else ():
        if (mean := cell.mean(column)) is not None:
            references.append(Reference(f"{one_line(cell.arm, 28)}  {_short(mean, column)}", mean, False))
    return Panel(one_line(point.title, 110), tuple(lines), tuple(references))


def _short(value: float, column: str) -> str:
    return f"{value:.1f}" if column == "rouge_l" else number(value, column)


def _plot(points: list[GridPoint], panels: list[Panel], column: str, y_label: str, subject: str) -> Plot:
    shown = panels[:MAX_PANELS]
    spread = any(c and len(c.values(column)) > 1 for p in shown for ln in p.lines for _, c in ln.points)
    partial = any(c and c.lost for p in shown for ln in p.lines for _, c in ln.points)
    notes = ["Whiskers: lowest to highest seed." if spread else "One seed: no uncertainty is known."]
    if partial:
        notes.append("Hollow: some seeds did not finish.")
    lost = Counter(one_line(row["status"], 20) for point in points for row in point.lost())
    if lost:
        kinds = ", ".join(f"{count} {status}" for status, count in sorted(lost.items()))
        notes.append(f"Left out: {lost.total()} trial{'s' if lost.total() > 1 else ''} ({kinds}).")
    low, high = y_range(shown, column)
    if any(not low <= r.value <= high for p in shown for r in p.references):
        notes.append("Arrow: off the scale.")
    if len(panels) > MAX_PANELS:
        notes.append(f"Drawn: {MAX_PANELS} of {counted(len(panels), 'grid point')}; the tables have all.")
    if len(panels) == 1 and len(points) > 1:
        notes.append("The same at every grid point.")
    with canvas.style():
        figure = draw(shown, column, y_label, " ".join(notes))
    references = "; ".join(r.label.replace("  ", " ") for p in shown[:1] for r in p.references)
    arms = ", ".join(one_line(ln.arm, 40) for p in shown[:1] for ln in p.lines) or "no arms"
    dashed = " Dashed: " + ("the full pool." if column == "rouge_l" else "the mean over the whole pool.")
    dotted = " Dotted: baselines without training on tasks." if column == "rouge_l" else ""
    has_full = any(r.is_full for p in shown for r in p.references)
    has_baseline = any(not r.is_full for p in shown for r in p.references)
    caption = subject + (dashed if has_full else "") + (dotted if has_baseline else "") + " " + " ".join(notes)
    alt = f"Line chart. {subject} Arms: {arms}." + (f" Reference lines: {references}." if references else "")
    return Plot(figure, caption, alt + " The numbers are in the tables of this page.")
