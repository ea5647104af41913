"""Which arms are the best at one size: bold in tables, named in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable

from simtune.report.results_view import Cell
from simtune.report.table_metadata import MetricInfo


def best_arms(cells: Iterable[Cell], metric: MetricInfo) -> list[Cell]:
    """The cells with the best mean; several where they tie, none where fewer than two have a number."""
    merits = [(cell, metric.merit(mean)) for cell in cells if (mean := cell.mean(metric.column)) is not None]
    if len(merits) < 2:
        return []
    top = max(merit for _, merit in merits)
    return [cell for cell, merit in merits if math.isclose(merit, top, abs_tol=1e-9)]
