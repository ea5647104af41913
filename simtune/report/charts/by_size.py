"""The study's Fig. 3 and Fig. 4: a line an arm against the number of training tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simtune.report.charts.chart import ONLY_CHOSEN_ARMS, Panel, Rows, Spec, View, arms_parameter, colour, shape, tip
from simtune.report.lineplot import Line, Reference, y_range
from simtune.report.lineplot import Panel as Lines
from simtune.report.plot_style import spread_out
from simtune.report.results_view import Cell, one_line, range_over_seeds
from simtune.wording import counted

HEIGHT = 340
_SMALL_HEIGHT = 150
_LABEL_GAP, _GUTTER = 15.0, 132
_LOG_SPAN = 20.0
_MOST_TOGETHER = 8
"""Arms that one drawing shows at first."""
_OFFSET = 3.0
"""Pixels between the whiskers of two arms at one size, which would cover each other."""


def size_views(
    key: str, panels: Sequence[Lines], arms: Sequence[str], digits: int
) -> tuple[tuple[View, ...], dict[str, Rows]]:
    """All arms in one drawing a grid point; and, where there are several, each arm in one of its own.

    Args:
        key: begins the names of the datasets.
        panels: one a grid point.
        arms: every arm of the run.
        digits: decimals beside the pointer.

    Returns:
        The views and their datasets.
    """
    datasets: dict[str, Rows] = {}
    together, apart = [], []
    for number, lines in enumerate(panels):
        name = f"{key}{number}"
        drawn = _Drawing(lines, y_range(panels, lines.column), arms, digits)
        datasets |= {
            f"{name}-means": drawn.means(),
            f"{name}-labels": drawn.labels(),
            f"{name}-lines": drawn.references(),
        }
        together.append(Panel(drawn.spec(name), lines.title))
        apart += [Panel(drawn.spec(name, only=line.arm), _title(line.arm, lines.title)) for line in lines.lines]
    views = [View("All arms in one drawing", tuple(together))]
    if len(apart) > len(together):
        views.append(View("A drawing for each arm", tuple(apart)))
    if max((len(lines.lines) for lines in panels), default=0) > _MOST_TOGETHER:
        views.reverse()
    return tuple(views), datasets


def _title(arm: str, point: str) -> str:
    return f"{one_line(arm, 40)}, {point}" if point else one_line(arm, 40)


class _Drawing:
    """The drawing of one grid point."""

    def __init__(self, lines: Lines, limits: tuple[float, float], arms: Sequence[str], digits: int) -> None:
        self._lines, (self._low, self._high), self._arms, self._digits = lines, limits, arms, digits
        self._xs = sorted({x for line in lines.lines for x, cell in line.points if cell})

    def means(self) -> Rows:
        """A row for each arm and size; without a mean where no seed finished, which breaks the line."""
        rows: Rows = []
        count = len(self._lines.lines)
        for i, line in enumerate(self._lines.lines):
            offset = (i - (count - 1) / 2) * min(_OFFSET, 14 / count)
            for x, cell in line.points:
                values = cell.values(self._lines.column) if cell else []
                row: dict[str, Any] = {
                    "arm": line.arm,
                    "tasks": x,
                    "offset": offset,
                    "mean": None,
                    "seeds": len(values),
                }
                if cell and values:
                    row |= {"mean": cell.mean(self._lines.column), "low": min(values), "high": max(values)}
                    row["words"] = self._words(line.arm, cell)
                rows.append(row)
        return rows

    def _words(self, arm: str, cell: Cell) -> str:
        """A point for those who hear it."""
        values = cell.values(self._lines.column)
        spread = range_over_seeds(values, self._digits)
        partly = f" of {len(cell.rows)}" if cell.unfinished else ""
        return (
            f"{one_line(arm, 60)}, {counted(cell.num_tasks, 'task')}: {self._lines.y_label} "
            f"{sum(values) / len(values):.{self._digits}f}{f' ({spread})' if spread else ''}, {len(values)}{partly} "
            f"{'seed' if len(values) == 1 and not partly else 'seeds'}"
        )

    def labels(self) -> Rows:
        """The name of each arm at the end of its line, moved up or down where names would cover each other."""
        ends = [(line.arm, end) for line in self._lines.lines if (end := self._end(line)) is not None]
        wanted = [self._pixel(value) for _, (_, value) in ends]
        placed = spread_out(wanted, _LABEL_GAP, 0.0, float(HEIGHT))
        return [
            {"arm": arm, "tasks": x, "label": one_line(arm, 20), "y": y}
            for (arm, (x, _)), y in zip(ends, placed, strict=True)
        ]

    def _end(self, line: Line) -> tuple[float, float] | None:
        known = [(x, mean) for x, cell in line.points if cell and (mean := cell.mean(self._lines.column)) is not None]
        return known[-1] if known else None

    def _pixel(self, value: float) -> float:
        return (self._high - value) / (self._high - self._low) * HEIGHT

    def references(self) -> Rows:
        """The full pool and the baselines; those off the scale are named at its edge."""
        rows: Rows = []
        inside = [r for r in self._lines.references if self._low <= r.value <= self._high]
        placed = spread_out([self._pixel(r.value) - 8 for r in inside], _LABEL_GAP, 6.0, HEIGHT - 6.0)
        for reference, y in zip(inside, placed, strict=True):
            rows.append(self._reference(reference, reference.value, y, ""))
        outside = [r for r in self._lines.references if r not in inside]
        for arrow, own in (
            ("↓ ", [r for r in outside if r.value < self._low]),
            ("↑ ", [r for r in outside if r.value > self._high]),
        ):
            for rank, reference in enumerate(own):
                y = HEIGHT - 8 - rank * _LABEL_GAP if arrow == "↓ " else 8 + rank * _LABEL_GAP
                rows.append(self._reference(reference, None, y, arrow))
        return rows

    @staticmethod
    def _reference(reference: Reference, value: float | None, y: float, arrow: str) -> dict[str, Any]:
        label = arrow + reference.label.replace("  ", " ")
        return {"label": label, "value": value, "y": y, "dash": [6, 3] if reference.is_full else [2, 3]}

    def spec(self, name: str, only: str | None = None) -> Spec:
        """The specification of all arms, or of one with the others in grey behind it."""
        by_arm = len(self._xs) < 2
        x = self._x_by_arm() if by_arm else self._x_by_size(is_small=only is not None)
        return {
            "width": "container",
            "height": _SMALL_HEIGHT if only else HEIGHT,
            "autosize": {"type": "fit-x", "contains": "padding"},
            "padding": {"left": 4, "right": 8 if only or by_arm else _GUTTER, "top": 8, "bottom": 4},
            "params": [arms_parameter(self._arms), {"name": "labels", "value": not by_arm}],
            "config": {"mark": {"aria": False}},
            "layer": [*([] if only else self._reference_layers(name)), *self._layers(name, x, only, by_arm)],
        }

    def _layers(self, name: str, x: Spec, only: str | None, by_arm: bool) -> list[Spec]:
        y = self._y()
        place = {} if by_arm or only else {"xOffset": {"expr": "datum.offset"}}
        data = {"data": {"name": f"{name}-means"}}
        own = {**data, "transform": [{"filter": {"field": "arm", "equal": only}}] if only else [ONLY_CHOSEN_ARMS]}
        hue = {"color": colour(self._arms)}
        # The arm under the pointer stays, the others become pale.
        faded = {} if only else {"opacity": {"condition": {"param": "pointed", "value": 1}, "value": 0.13}}
        y2 = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
        layers: list[Spec] = []
        if only:
            grey = {"type": "line", "style": "muted", "strokeWidth": 1, "opacity": 0.3, "fill": None}
            layers.append({**data, "transform": [ONLY_CHOSEN_ARMS], "mark": grey,
                           "encoding": {"x": x, "y": y, "detail": {"field": "arm"}}})  # fmt: skip
        if not by_arm:
            line = {"type": "line", "strokeWidth": 1.8, "invalid": "break-paths-show-domains", **place}
            layers.append({**own, "mark": line, "encoding": {"x": x, "y": y, **hue, **faded}})
        layers.append(
            {**own, "mark": {"type": "rule", "strokeWidth": 1.4, **place}, "encoding": {"x": x, **y2, **hue, **faded}}
        )
        layers.append(self._points(own, {"x": x, "y": y, **hue, **faded}, place, only))
        if not by_arm and not only:
            layers.append(self._names(name, hue, faded))
        return layers

    def _points(self, own: Spec, encoding: Spec, place: Spec, only: str | None) -> Spec:
        tooltip = [tip("arm", "arm"), tip("tasks", "training tasks", 0), tip("mean", self._lines.y_label, self._digits)]
        tooltip += [tip("low", "lowest seed", self._digits), tip("high", "highest seed", self._digits)]
        tooltip.append(tip("seeds", "finished seeds", 0))
        dot = {"type": "point", "filled": True, "opacity": 1, "style": "halo", "aria": True}
        layer: Spec = {
            **own,
            "mark": {**dot, "size": 45 if only else 75, **place},
            "encoding": {**encoding, "shape": shape(self._arms), "tooltip": tooltip, "description": {"field": "words"}},
        }
        if not only:
            pointed = {"type": "point", "fields": ["arm"], "on": "pointerover", "clear": "pointerout"}
            layer["params"] = [{"name": "pointed", "select": pointed}]
        return layer

    def _names(self, name: str, hue: Spec, faded: Spec) -> Spec:
        mark = {
            "type": "text",
            "align": "left",
            "baseline": "middle",
            "x": {"expr": "width + 12"},
            "y": {"expr": "datum.y"},
            "fontWeight": "bold",
        }
        return {
            "data": {"name": f"{name}-labels"},
            "transform": [ONLY_CHOSEN_ARMS, {"filter": "labels"}],
            "mark": mark,
            "encoding": {"text": {"field": "label", "type": "nominal"}, **hue, **faded},
        }

    def _reference_layers(self, name: str) -> list[Spec]:
        data = {"data": {"name": f"{name}-lines"}}
        rule = {"type": "rule", "strokeDash": {"expr": "datum.dash"}, "strokeWidth": 1.2}
        text = {"type": "text", "align": "left", "baseline": "middle", "fontSize": 11, "style": "muted", "stroke": None}
        text |= {"x": 6, "y": {"expr": "datum.y"}}
        y = {**self._y(), "field": "value"}
        return [
            {**data, "transform": [{"filter": "isValid(datum.value)"}], "mark": rule, "encoding": {"y": y}},
            {**data, "mark": text, "encoding": {"text": {"field": "label", "type": "nominal"}}},
        ]

    def _y(self) -> Spec:
        scale = {"domain": [self._low, self._high], "nice": False, "zero": False}
        axis = {"tickCount": 6, "title": self._lines.y_label}
        return {"field": "mean", "type": "quantitative", "scale": scale, "axis": axis}

    def _x_by_size(self, is_small: bool) -> Spec:
        first, last = self._xs[0], self._xs[-1]
        is_log = first > 0 and last / first > _LOG_SPAN
        margin = (last - first) * 0.035
        domain = [first / 1.08, last * 1.08] if is_log else [first - margin, last + margin]
        title = "" if is_small else "number of training tasks" + (" (log scale)" if is_log else "")
        axis = {"values": self._xs, "format": ",d", "labelOverlap": "greedy", "title": title}
        scale = {"type": "log" if is_log else "linear", "domain": domain, "nice": False}
        if not is_log:
            scale["zero"] = False
        return {"field": "tasks", "type": "quantitative", "scale": scale, "axis": axis}

    def _x_by_arm(self) -> Spec:
        """One size only: arms side by side, because points on one vertical line would cover each other."""
        title = f"all arms at {self._xs[0]:,.0f} training tasks" if self._xs else "no trial has finished yet"
        order = [line.arm for line in self._lines.lines]
        return {
            "field": "arm",
            "type": "nominal",
            "sort": order,
            "axis": {"title": title, "labelAngle": 0, "labelOverlap": False},
        }
