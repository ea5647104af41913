"""Drawing of the line figures: panels, axes, points with their whiskers, and labels at line ends.

All lengths are points, so that labels can be placed without a renderer and come out the same everywhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform

from simtune.report import plot_style
from simtune.report.arm_styles import arm_styles
from simtune.report.plot_style import GRID, INK, LABEL_PT, MUTED
from simtune.report.results_view import Cell, one_line
from simtune.report.table_metadata import LineStyle

_LEFT_PT, _LEADER_PT = 50.0, 20.0
_LABEL_GAP_PT = LABEL_PT + 3.0
_LOG_SPAN = 20.0
_MIN_ARM_SHARE = 0.4


@dataclass(frozen=True)
class Line:
    """One arm: a point per size, None where it was planned and no seed finished."""

    arm: str
    points: tuple[tuple[float, Cell | None], ...]
    style: LineStyle | None = None
    """The arm's own, if it has one."""


@dataclass(frozen=True)
class Reference:
    """A horizontal line with its label."""

    label: str
    value: float
    is_full: bool


@dataclass(frozen=True)
class Panel:
    """The lines of one grid point.

    Attributes:
        column: of the numbers that are drawn.
        y_label: of the vertical axis.
    """

    title: str
    column: str
    y_label: str
    lines: tuple[Line, ...]
    references: tuple[Reference, ...]


def draw(panels: Sequence[Panel], note: str) -> Figure:
    """Draws the panels one below the other, with the note under them; call it inside `plot_style.report_style()`."""
    xs = sorted({x for panel in panels for line in panel.lines for x, cell in line.points if cell})
    layout = _layout(panels, by_size=len(xs) > 1)
    figure = Figure(figsize=(layout.width / 72, layout.height / 72))
    arms = [line.arm for panel in panels for line in panel.lines]
    styles = arm_styles(arms, {line.arm: line.style for panel in panels for line in panel.lines})
    for i, panel in enumerate(panels):
        axes = figure.add_axes(layout.box(i))
        axes.set_ylim(*y_range(panels, panel.column))
        axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.tick_params(length=3, width=0.7)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_ylabel(panel.y_label)
        if panel.title:
            axes.set_title(panel.title, loc="left", color=INK, pad=9, fontweight="bold")
        if len(xs) > 1:
            _x_by_size(axes, xs, layout.inner, last=i == len(panels) - 1)
        else:
            _x_by_arm(axes, panel, xs, layout)
        _draw_panel(axes, panel, styles, layout)
    if not xs:
        figure.text(0.5, 0.6, "no trial has finished yet", ha="center", color=MUTED)
    figure.text(_LEFT_PT / layout.width, 8 / layout.height, note, fontsize=7.5, color=MUTED, va="bottom")
    return figure


@dataclass(frozen=True)
class _Layout:
    """Sizes in points: the picture, its panels, and the gutter at the right that holds the labels."""

    count: int
    by_size: bool
    gutter: float
    panel: float
    top: float
    between: float
    bottom: float
    width: float = 7.4 * 72

    @property
    def inner(self) -> float:
        return self.width - _LEFT_PT - self.gutter

    @property
    def height(self) -> float:
        return self.top + self.count * self.panel + (self.count - 1) * self.between + self.bottom

    def box(self, i: int) -> tuple[float, float, float, float]:
        """The axes of panel `i`, counted from the top, as fractions of the figure."""
        base = self.bottom + (self.count - 1 - i) * (self.panel + self.between)
        return _LEFT_PT / self.width, base / self.height, self.inner / self.width, self.panel / self.height


def _layout(panels: Sequence[Panel], by_size: bool) -> _Layout:
    labels = [(f"↓ {r.label}", "normal") for p in panels for r in p.references]
    if by_size:
        labels += [(_name(line.arm), "bold") for p in panels for line in p.lines]
    gutter = max((plot_style.text_width_pt(text, weight=weight) for text, weight in labels), default=0.0)
    count = max(len(panels), 1)
    num_labels = max((len(p.lines) + len(p.references) for p in panels), default=0)
    panel = max(258.0 if count == 1 else 178.0, num_labels * _LABEL_GAP_PT)
    titled = bool(panels and panels[0].title)
    names = max((len(_wrapped(line.arm).splitlines()) for p in panels for line in p.lines), default=1)
    below = 0.0 if by_size else (names - 1) * 11.0
    top, between = (24.0 if titled else 10.0), 46.0 + below
    return _Layout(count, by_size, gutter + _LEADER_PT + 8, panel, top, between, 56.0 + below)


def _name(arm: str) -> str:
    return one_line(arm, 28)


def _wrapped(arm: str) -> str:
    """The name on several short lines, broken at hyphens and spaces, for a tick of the one-size figure."""
    lines = [""]
    for part in re.split(r"(?<=[- ])", _name(arm)):
        if lines[-1] and len(lines[-1] + part.rstrip()) > 11:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines)


def y_range(panels: Sequence[Panel], column: str) -> tuple[float, float]:
    """Limits shared by all panels that draw a column, so that they compare at a glance.

    Baselines far from every arm are left off the scale, with an arrow at its edge, where they would squeeze the arms
    into less than `_MIN_ARM_SHARE` of the height: the differences between arms are what the figure is for.
    """
    panels = [panel for panel in panels if panel.column == column]
    core = [v for p in panels for ln in p.lines for _, cell in ln.points if cell for v in cell.values(column)]
    core += [r.value for p in panels for r in p.references if r.is_full]
    baselines = [r.value for p in panels for r in p.references if not r.is_full]
    values = core or baselines or [0.0, 1.0]
    low, high = min(values), max(values)
    span = high - low
    for value in sorted(baselines, key=lambda v: max(low - v, v - high)):
        wider = min(low, value), max(high, value)
        if span >= _MIN_ARM_SHARE * (wider[1] - wider[0]):
            low, high = wider
    margin = (high - low or abs(high) or 1.0) * 0.06
    return low - margin, high + margin


def _x_by_size(axes: Axes, xs: list[float], inner_pt: float, last: bool) -> None:
    if xs[0] > 0 and xs[-1] / xs[0] > _LOG_SPAN:
        axes.set_xscale("log")
        low, high = math.log(xs[0]), math.log(xs[-1])
        pad = (high - low) * 0.035
        axes.set_xlim(math.exp(low - pad), math.exp(high + pad))
        positions = [(math.log(x) - low) / (high - low) * inner_pt for x in xs]
        scale = " (log scale)"
    else:
        span = xs[-1] - xs[0]
        axes.set_xlim(xs[0] - span * 0.035, xs[-1] + span * 0.035)
        positions = [(x - xs[0]) / span * inner_pt for x in xs]
        scale = ""
    texts = [f"{x:,.0f}" for x in xs]
    fitting = plot_style.thin_ticks(positions, [plot_style.text_width_pt(text, 9.0) for text in texts], 6.0)
    axes.set_xticks(xs, [texts[i] if i in fitting else "" for i in range(len(xs))])
    axes.set_xticks([], minor=True)
    if last:
        axes.set_xlabel(f"number of training tasks{scale}")


def _x_by_arm(axes: Axes, panel: Panel, xs: list[float], layout: _Layout) -> None:
    """One size only: arms side by side, because points on one vertical line would cover each other."""
    names = [_wrapped(line.arm) for line in panel.lines]
    space = layout.inner / max(len(names), 1) - 6
    widest = max((plot_style.text_width_pt(part, 8.0) for name in names for part in name.splitlines()), default=1.0)
    axes.set_xlim(-0.6, max(len(names), 1) - 0.4)
    axes.set_xticks(range(len(names)), names, fontsize=max(4.5, 8.0 * min(1.0, space / max(widest, 1.0))))
    if xs:
        axes.set_xlabel(f"all arms at {xs[0]:,.0f} training task{'s' if xs[0] != 1 else ''}")


def _draw_panel(axes: Axes, panel: Panel, styles: dict[str, tuple[str, str]], layout: _Layout) -> None:
    low, high = axes.get_ylim()
    right = axes.get_xlim()[1]
    labels: list[_Label] = []
    for reference in panel.references:
        dashes, colour = ((0, (5, 3)), INK) if reference.is_full else ((0, (1, 2)), MUTED)
        if not low <= reference.value <= high:
            arrow, edge = ("↓", low) if reference.value < low else ("↑", high)
            labels.append(_Label(f"{arrow} {reference.label}", edge, colour, None))
            continue
        axes.axhline(reference.value, color=colour, linewidth=1.1, linestyle=dashes, zorder=1.5)
        labels.append(_Label(reference.label, reference.value, colour, (right, axes.transData)))
    for i, line in enumerate(panel.lines):
        colour, marker = styles[line.arm]
        # Whiskers of different arms are moved apart by a few points at most, so that they do not cover each other.
        dodge = (i - (len(panel.lines) - 1) / 2) * min(2.6, 14 / len(panel.lines)) if layout.by_size else 0.0
        where = axes.transData + ScaledTranslation(dodge / 72, 0, axes.figure.dpi_scale_trans)
        placed = [(x if layout.by_size else float(i), cell) for x, cell in line.points]
        means = [cell.mean(panel.column) if cell else None for _, cell in placed]
        ends = [(x, mean) for (x, _), mean in zip(placed, means, strict=True) if mean is not None]
        heights = [math.nan if mean is None else mean for mean in means]
        # A NaN breaks the line: nothing is known between the sizes around a failed one.
        axes.plot([x for x, _ in placed], heights, color=colour, linewidth=1.4, transform=where, zorder=3)
        for x, cell in placed:
            if cell is not None:
                _draw_cell(axes, x, cell, panel.column, colour, marker, where)
        if ends and layout.by_size:
            x, mean = ends[-1]
            labels.append(_Label(_name(line.arm), mean, plot_style.label_colour(colour), (x, where)))
    _draw_labels(axes, labels, layout)


def _draw_cell(axes: Axes, x: float, cell: Cell, column: str, colour: str, marker: str, where: Transform) -> None:
    values, mean = cell.values(column), cell.mean(column)
    if mean is None:
        return
    if max(values) > min(values):
        axes.plot(
            [x, x], [min(values), max(values)], color=colour, linewidth=1.0, marker="_", markersize=5.0,
            markeredgewidth=1.0, transform=where, zorder=3,
        )  # fmt: skip
    axes.plot(
        [x], [mean], marker=marker, markersize=4.4, markerfacecolor="white" if cell.unfinished else colour,
        markeredgecolor=colour, markeredgewidth=1.0, linestyle="none", transform=where, zorder=4,
    )  # fmt: skip


@dataclass(frozen=True)
class _Label:
    text: str
    y: float
    colour: str
    anchor: tuple[float, Transform] | None
    """The x, and its transform, of the point that the label's thin line starts from."""


def _draw_labels(axes: Axes, labels: list[_Label], layout: _Layout) -> None:
    low, high = axes.get_ylim()
    wanted = [(label.y - low) / (high - low) * layout.panel for label in labels]
    positions = plot_style.spread_out(wanted, _LABEL_GAP_PT, 0.0, layout.panel)
    right = axes.get_xlim()[1]
    for label, position in zip(labels, positions, strict=True):
        x, where = label.anchor or (right, axes.transData)
        arrow = {"arrowstyle": "-", "color": label.colour, "linewidth": 0.6, "alpha": 0.7, "shrinkA": 2}
        arrow |= {"shrinkB": 0 if x == right else 4, "relpos": (0, 0.5)}
        axes.annotate(
            label.text, xy=(x, label.y), xycoords=where, textcoords="axes fraction",
            xytext=(1 + _LEADER_PT / layout.inner, position / layout.panel),
            fontsize=LABEL_PT, color=label.colour,
            fontweight="normal" if x == right else "bold", va="center", ha="left", annotation_clip=False,
            arrowprops=arrow if label.anchor else None,
        )  # fmt: skip
