"""How a figure looks: colours, labels at line ends that never overlap, files with the same bytes every time.

Drawing uses matplotlib's object API in a style context of its own, so neither a user's matplotlibrc nor another figure
of the process can change a picture, and text of a run is never parsed as mathematics.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

INK, MUTED, GRID = "#1f2328", "#6a7179", "#e6e8eb"
LABEL_PT = 8.5
_STYLE: dict[str, Any] = {
    **{
        "svg.hashsalt": "simtune",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
        "path.simplify": False,
        "text.parse_math": False,
    },
    **{"font.family": "DejaVu Sans", "font.size": 9.0, "axes.titlesize": 9.5, "axes.labelsize": 9.0},
    **{"text.color": INK, "axes.labelcolor": INK, "xtick.color": MUTED, "ytick.color": MUTED},
    **{"xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.edgecolor": MUTED, "axes.linewidth": 0.7},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True},
    **{"figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white"},
}


@contextmanager
def report_style() -> Iterator[None]:
    """Matplotlib's defaults plus this report's style, whatever the user's settings are."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


@dataclass(frozen=True)
class Plot:
    """A finished figure with the words that belong under it."""

    figure: Figure
    caption: str
    alt: str
    """A description for readers who cannot see the picture."""

    @cached_property
    def svg(self) -> bytes:
        """The figure as SVG with text as outlines: the same picture wherever it is opened."""
        return self._bytes("svg", {"Date": None, "Creator": None})

    def png(self) -> bytes:
        """The figure as PNG, twice the width of a README."""
        return self._bytes("png", {"Software": None})

    def pdf(self) -> bytes:
        """The figure as PDF with its fonts inside, as TrueType: publishers refuse Type 3."""
        return self._bytes("pdf", {"CreationDate": None, "Creator": None, "Producer": None})

    def _bytes(self, form: str, metadata: dict[str, None]) -> bytes:
        sink = io.BytesIO()
        with report_style():
            self.figure.savefig(sink, format=form, dpi=220, metadata=metadata)
        return sink.getvalue()


def label_colour(colour: str) -> str:
    """The colour a fifth darker: thin letters need more contrast than a line does."""
    return "#" + "".join(f"{int(int(colour[i : i + 2], 16) * 0.8):02x}" for i in (1, 3, 5))


def text_width_pt(text: str, size_pt: float = LABEL_PT, weight: str = "normal") -> float:
    """The width of a line of text in points."""
    if not text.strip():
        return 0.0
    font = FontProperties(family="DejaVu Sans", weight=weight)
    return float(TextPath((0, 0), text, size=size_pt, prop=font).get_extents().x1)


def spread_out(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions nearest to the wanted ones (least squares) that keep their order and at least `gap` apart.

    Labels that collide form a block that is centred on their mean, then blocks merge until none collide: the
    pool-adjacent-violators algorithm on positions less their rank times the gap.
    """
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    blocks: list[tuple[float, int]] = []
    for rank, i in enumerate(order):
        mean, count = wanted[i] - rank * gap, 1
        while blocks and blocks[-1][0] >= mean:
            other, size = blocks.pop()
            mean, count = (mean * count + other * size) / (count + size), count + size
        blocks.append((mean, count))
    placed = [mean for mean, count in blocks for _ in range(count)]
    top = max(low, high - gap * (len(wanted) - 1))
    positions = [0.0] * len(wanted)
    for rank, i in enumerate(order):
        positions[i] = min(max(placed[rank], low), top) + rank * gap
    return positions


def thin_ticks(positions: Sequence[float], widths: Sequence[float], gap: float) -> list[int]:
    """The indices of the tick labels that fit side by side; the last one always does."""
    shown: list[int] = []
    for i in range(len(positions) - 1, -1, -1):
        if not shown or positions[i] + widths[i] / 2 + gap <= positions[shown[-1]] - widths[shown[-1]] / 2:
            shown.append(i)
    return shown[::-1]
