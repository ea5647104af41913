"""The map of tasks: the pool by category, then a small panel for each subset with the tasks it chose.

Legend: N tasks of the pool, T test tasks, P both, 2 coordinates of the plane.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simtune.report import plot_style
from simtune.report.plot_style import GRID, INK, LABEL_PT, MUTED, Plot
from simtune.report.results_view import one_line
from simtune.wording import counted

MAX_PANELS = 12
_MAX_VECTOR_DOTS = 20_000
# Colour and marker of the largest categories: shapes differ for print in grey and for colour-blind readers.
_STYLES = (
    *(("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#c25591", "D"), ("#d69400", "v")),
    *(("#2b9fdc", "p"), ("#6a3d9a", "<"), ("#8c5a2b", "h"), ("#86a800", ">"), ("#b01030", "d")),
)
_OTHER, _OTHER_CHOSEN, _FAINT = "#a3aab1", "#5b636c", "#d8dbdf"
_WIDTH_PT, _EDGE_PT, _BETWEEN_PT = 7.4 * 72, 8.0, 12.0
_LEGEND_COLUMNS, _LEGEND_ROW_PT = 3, 15.0
_TITLE_PT, _NOTE_PT = 32.0, 26.0
_LOWEST, _TALLEST, _WIDE = 0.45, 1.0, 0.6


def figure_task_map(
    position_N2: np.ndarray,
    categories: Sequence[str],
    test_position_T2: np.ndarray,
    subsets: Sequence[tuple[str, np.ndarray]] = (),
) -> Plot:
    """Draws all tasks of the pool coloured by category, and below them what each subset chose.

    Args:
        position_N2: finite positions in the plane; both axes have the same scale.
        categories: of each task of the pool; the largest ten are coloured, the others grey.
        test_position_T2: positions of the test tasks, drawn as crosses.
        subsets: title and rows of the pool of each; the first `MAX_PANELS` are drawn.

    Returns:
        The same bytes for the same input; above 20,000 dots the SVG contains them as a bitmap.
    """
    counts = Counter(categories)
    largest = sorted(counts, key=lambda category: (-counts[category], category))[: len(_STYLES)]
    shown = subsets[:MAX_PANELS]
    notes = ["Tasks near each other are similar. The axes have no unit."]
    if len(subsets) > len(shown):
        notes.append(f"Drawn: {len(shown)} of {counted(len(subsets), 'subset')}.")
    positions = _Positions(np.asarray(position_N2), np.asarray(test_position_T2), tuple(categories))
    with plot_style.report_style():
        figure = _draw(positions, largest, counts, shown, " ".join(notes))
    subject = f"Map of {counted(len(categories), 'task')} of the pool by semantic similarity, coloured by category"
    subject += f", with {counted(len(test_position_T2), 'test task')} as crosses." if len(test_position_T2) else "."
    panels = " Small panels: the tasks that each subset chose, above the rest of the pool." if shown else ""
    alt = f"Scatter plot. {subject}"
    if shown:
        alt += " Subsets: " + "; ".join(one_line(title, 60) for title, _ in shown) + "."
    if largest:
        alt += " Largest categories: " + ", ".join(f"{one_line(c, 40)} ({counts[c]:,})" for c in largest) + "."
    return Plot(figure, f"{subject}{panels} {' '.join(notes)}", alt)


@dataclass(frozen=True)
class _Positions:
    """Where each task is drawn."""

    position_N2: np.ndarray
    test_position_T2: np.ndarray
    categories: tuple[str, ...]


def _draw(
    positions: _Positions,
    largest: Sequence[str],
    counts: Counter[str],
    subsets: Sequence[tuple[str, np.ndarray]],
    note: str,
) -> Figure:
    """All lengths are points from the top of the figure."""
    position_N2, test_T2 = positions.position_N2.reshape(-1, 2), positions.test_position_T2.reshape(-1, 2)
    x_limits, y_limits, ratio = _limits(np.concatenate([position_N2, test_T2]))
    entries = _entries(largest, counts, len(test_T2))
    inner = _WIDTH_PT - 2 * _EDGE_PT
    legend_height = max(1, -(-len(entries) // _LEGEND_COLUMNS)) * _LEGEND_ROW_PT
    num_columns = 2 if ratio < _WIDE else 3
    small = (inner - (num_columns - 1) * _BETWEEN_PT) / num_columns
    legend_top = _EDGE_PT + inner * ratio + 9
    panels_top = legend_top + legend_height
    row_height = _TITLE_PT + small * ratio
    height = panels_top + -(-len(subsets) // num_columns) * row_height + _NOTE_PT
    figure = Figure(figsize=(_WIDTH_PT / 72, height / 72))
    num_dots = (len(position_N2) + len(test_T2)) * (1 + len(subsets))

    def panel(left: float, top: float, width: float) -> Axes:
        box = (left / _WIDTH_PT, 1 - (top + width * ratio) / height, width / _WIDTH_PT, width * ratio / height)
        axes = figure.add_axes(box, xlim=x_limits, ylim=y_limits, xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(visible=True, color=GRID, linewidth=0.8)
        if num_dots > _MAX_VECTOR_DOTS:
            # All dots are below this, frames above: one bitmap a panel.
            axes.set_rasterization_zorder(2.3)
        return axes

    style_of = {category: index for index, category in enumerate(largest)}
    style_N = np.array([style_of.get(category, len(_STYLES)) for category in positions.categories], dtype=np.int64)
    whole = panel(_EDGE_PT, _EDGE_PT, inner)
    _dots(whole, position_N2, style_N, _OTHER, _size(110, len(position_N2), 1.2, 4.4), edge=None)
    _crosses(whole, test_T2, INK, _size(45, len(test_T2), 2.0, 4.4))
    _legend(figure, entries, (_EDGE_PT / _WIDTH_PT, 1 - panels_top / height, inner / _WIDTH_PT, legend_height / height))
    for number, (title, rows) in enumerate(subsets):
        line, column = divmod(number, num_columns)
        axes = panel(
            _EDGE_PT + column * (small + _BETWEEN_PT), panels_top + line * row_height + _TITLE_PT, small
        )  # fmt: skip
        axes.set_title(
            _fitted(title, small + _BETWEEN_PT - 4), loc="left", fontsize=LABEL_PT, fontweight="bold", color=INK, pad=4
        )
        _points(axes, position_N2, "o", _FAINT, _size(55, len(position_N2), 0.8, 2.4))
        _crosses(axes, test_T2, MUTED, _size(25, len(test_T2), 1.4, 3.0))
        chosen = np.asarray(rows, dtype=np.int64)
        _dots(axes, position_N2[chosen], style_N[chosen], _OTHER_CHOSEN, _size(60, len(chosen), 1.6, 4.6), edge="white")
    figure.text(_EDGE_PT / _WIDTH_PT, 8 / height, note, fontsize=7.5, color=MUTED, va="bottom")
    return figure


def _limits(position_P2: np.ndarray) -> tuple[tuple[float, float], tuple[float, float], float]:
    """Limits of both axes with one scale and some margin, and the panel's height over its width."""
    if not len(position_P2):
        position_P2 = np.zeros((1, 2))
    low_2, high_2 = position_P2.min(axis=0), position_P2.max(axis=0)
    middle_2, (width, height) = (low_2 + high_2) / 2, (high_2 - low_2).tolist()
    # Larger than rounding errors, so that all points are inside.
    smallest = 1e-6 * float(np.abs(middle_2).max()) or 1.0
    if max(width, height) < smallest:
        width = height = smallest
    ratio = min(max(height / width if width else np.inf, _LOWEST), _TALLEST)
    span = max(width, height / ratio) * 1.07
    (x, y), half = middle_2.tolist(), (span / 2, span * ratio / 2)
    return (x - half[0], x + half[0]), (y - half[1], y + half[1]), ratio


def _size(scale: float, count: int, smallest: float, largest: float) -> float:
    """A marker's size in points, smaller for more dots."""
    return min(max(scale / math.sqrt(max(1, count)), smallest), largest)


def _dots(axes: Axes, position_M2: np.ndarray, style_M: np.ndarray, other: str, size: float, edge: str | None) -> None:
    """Tasks by category; small categories last, because large ones would cover them."""
    for style in (len(_STYLES), *range(len(_STYLES))):
        rows = style_M == style
        if rows.any():
            colour, marker = _STYLES[style] if style < len(_STYLES) else (other, "o")
            _points(axes, position_M2[rows], marker, colour, size, edge)


def _points(
    axes: Axes, position_M2: np.ndarray, marker: str, colour: str, size: float, edge: str | None = None
) -> None:
    axes.plot(
        position_M2[:, 0], position_M2[:, 1], linestyle="none", marker=marker, markersize=size, markerfacecolor=colour,
        markeredgecolor=edge or colour, markeredgewidth=0.4 if edge else 0.0, zorder=2,
    )  # fmt: skip


def _crosses(axes: Axes, position_T2: np.ndarray, colour: str, size: float) -> None:
    axes.plot(
        position_T2[:, 0], position_T2[:, 1], linestyle="none", marker="x", markersize=size, markeredgecolor=colour,
        markeredgewidth=0.8 if colour == INK else 0.6, zorder=2,
    )  # fmt: skip


def _entries(largest: Sequence[str], counts: Counter[str], num_test: int) -> list[tuple[str, int, str, str]]:
    """Name, number of tasks, colour and marker of each line of the legend."""
    entries = [
        (one_line(category, 26), counts[category], *style) for category, style in zip(largest, _STYLES, strict=False)
    ]
    if num_others := len(counts) - len(largest):
        count = sum(counts.values()) - sum(counts[category] for category in largest)
        entries.append((counted(num_others, "other category", "other categories"), count, _OTHER, "o"))
    if num_test:
        entries.append(("test tasks" if num_test > 1 else "test task", num_test, INK, "x"))
    return entries


def _legend(
    figure: Figure, entries: Sequence[tuple[str, int, str, str]], box: tuple[float, float, float, float]
) -> None:
    """Entries column by column, each with its number of tasks."""
    num_rows = max(1, -(-len(entries) // _LEGEND_COLUMNS))
    width = _WIDTH_PT - 2 * _EDGE_PT
    axes: Axes = figure.add_axes(box, xlim=(0, width), ylim=(num_rows, 0))
    axes.axis("off")
    for number, (name, count, colour, marker) in enumerate(entries):
        column, row = divmod(number, num_rows)
        x, y = column * (width + _BETWEEN_PT) / _LEGEND_COLUMNS, row + 0.5
        axes.plot(
            [x + 5], [y], linestyle="none", marker=marker, markersize=5.5, markerfacecolor=colour,
            markeredgecolor=colour, markeredgewidth=0.8, clip_on=False,
        )  # fmt: skip
        axes.text(x + 14, y, name, fontsize=LABEL_PT, va="center_baseline")
        end = x + 14 + plot_style.text_width_pt(name) + 5
        axes.text(end, y, f"{count:,}", fontsize=LABEL_PT, color=MUTED, va="center_baseline")


def _fitted(title: str, space_pt: float) -> str:
    """The title on one line, cut where it would run into the next panel's."""
    title = one_line(title)
    while (width := plot_style.text_width_pt(title, weight="bold")) > space_pt and len(title) > 1:
        title = one_line(title, max(1, min(len(title) - 1, int(len(title) * space_pt / width))))
    return title
