"""Colours and shapes of the page's figures, on light and on dark paper."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simtune.report.arm_styles import arm_styles
from simtune.report.table_metadata import ArmInfo

LIGHT_PAPER, DARK_PAPER = "#ffffff", "#14171a"
MIN_CONTRAST = 4.5
"""Of an arm's colour with the paper, as WCAG 2.2 asks for text (1.4.3): arms are named in their colours."""
_FONT = "Helvetica, Arial, sans-serif"

# Symbols as Vega wants them: SVG paths in a square from -1 to 1. Markers of strokes alone are drawn as the filled
# shape that looks most like them, because strokes are thin on a screen.
_PATHS = {
    "o": "M0,-.8A.8,.8,0,1,1,0,.8A.8,.8,0,1,1,0,-.8Z",
    "s": "M-.72,-.72H.72V.72H-.72Z",
    "^": "M0,-.9L.9,.72H-.9Z",
    "v": "M0,.9L.9,-.72H-.9Z",
    "<": "M-.9,0L.72,-.9V.9Z",
    ">": "M.9,0L-.72,-.9V.9Z",
    "D": "M0,-1L1,0L0,1L-1,0Z",
    "d": "M0,-1L.62,0L0,1L-.62,0Z",
    "p": "M0,-.95L.9,-.29L.56,.77H-.56L-.9,-.29Z",
    "h": "M0,-.95L.82,-.48V.48L0,.95L-.82,.48V-.48Z",
    "*": "M0,-1L.24,-.31H.95L.38,.12L.59,.81L0,.4L-.59,.81L-.38,.12L-.95,-.31H-.24Z",
    "P": "M-.32,-.95H.32V-.32H.95V.32H.32V.95H-.32V.32H-.95V-.32H-.32Z",
    "X": "M-.9,-.45L-.45,-.9L0,-.45L.45,-.9L.9,-.45L.45,0L.9,.45L.45,.9L0,.45L-.45,.9L-.9,.45L-.45,0Z",
}
_LIKE = {".": "o", ",": "o", "1": "v", "2": "^", "3": "<", "4": ">", "8": "h", "H": "h", "+": "P", "x": "X"}


@dataclass(frozen=True)
class ArmLook:
    """How the page draws an arm."""

    name: str
    light: str
    """Colour on light paper."""
    dark: str
    """Colour on dark paper."""
    path: str
    """The symbol, as an SVG path in a square from -1 to 1."""


def arm_looks(arms: Sequence[ArmInfo]) -> list[ArmLook]:
    """The look of every arm, in their order; the same colours and shapes as in the figures' files."""
    styles = arm_styles([arm.name for arm in arms], {arm.name: arm.style for arm in arms})
    return [
        ArmLook(
            name=arm.name,
            light=readable(styles[arm.name][0], LIGHT_PAPER),
            dark=readable(styles[arm.name][0], DARK_PAPER),
            path=symbol(styles[arm.name][1]),
        )
        for arm in arms
    ]


def symbol(marker: str) -> str:
    """One of matplotlib's markers as a path."""
    return _PATHS.get(_LIKE.get(marker, marker), _PATHS["D"])


def readable(colour: str, paper: str) -> str:
    """The colour, made lighter or darker until it has enough contrast with the paper."""
    hue, light, saturation = colorsys.rgb_to_hls(*_rgb(colour))
    step = 0.02 if luminance(paper) < 0.5 else -0.02
    while contrast(_hex(colorsys.hls_to_rgb(hue, light, saturation)), paper) < MIN_CONTRAST and 0 < light < 1:
        light = min(1.0, max(0.0, light + step))
    return _hex(colorsys.hls_to_rgb(hue, light, saturation))


def contrast(first: str, second: str) -> float:
    """The contrast of two colours by WCAG, 1 to 21."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """The relative luminance of a colour by WCAG, 0 to 1."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def config(looks: Sequence[ArmLook], is_dark: bool) -> dict[str, Any]:
    """Vega-Lite's configuration: the first colours and shapes of its scales are those of the arms."""
    ink, muted, grid = ("#e4e7ea", "#9aa3ad", "#2c3238") if is_dark else ("#1f2328", "#5f6770", "#e6e8eb")
    text = {"labelColor": ink, "titleColor": ink, "labelFont": _FONT, "titleFont": _FONT, "titleFontWeight": "normal"}
    return {
        "background": None,
        "font": _FONT,
        "view": {"stroke": None},
        "axis": {**text, "gridColor": grid, "domainColor": muted, "tickColor": muted, "labelFontSize": 12,
                 "titleFontSize": 12, "labelLimit": 220, "titleLimit": 420},
        "axisX": {"grid": False},
        "axisY": {"domain": False, "ticks": False, "titleAnchor": "end", "titleAngle": 0, "titleAlign": "left",
                  "titleY": -10, "titleX": 0},
        "legend": {**text, "labelLimit": 200},
        "header": text,
        "text": {"color": ink, "font": _FONT, "fontSize": 12},
        "rule": {"color": muted},
        "style": {"muted": {"fill": muted, "stroke": muted}, "ink": {"fill": ink, "stroke": ink},
                  "halo": {"stroke": DARK_PAPER if is_dark else LIGHT_PAPER, "strokeWidth": 0.6}},
        "range": {
            "category": [look.dark if is_dark else look.light for look in looks],
            "symbol": [look.path for look in looks],
            "diverging": ["#a4500f", "#4a3524", "#20262c", "#1f3f56", "#1868a0"] if is_dark
            else ["#c25a00", "#f3c9a5", "#f7f7f7", "#a9cfe6", "#00639c"],
            "heatmap": ["#20262c", "#409cd6"] if is_dark else ["#f1f3f5", "#00639c"],
        },
    }  # fmt: skip


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _hex(rgb: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * min(1.0, max(0.0, part))):02x}" for part in rgb)
