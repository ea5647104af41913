from __future__ import annotations

from made_report import METRICS, row, table

from simtune.report.best_arms import best_arms
from simtune.report.results_view import grid_points


def best(*values: float | None) -> list[str]:
    rows = [row(f"arm{number}", 10, 0, value) for number, value in enumerate(values)]
    (point,) = grid_points(table(rows))
    return [cell.arm for cell in best_arms(point.at(10), METRICS[0])]


def test_all_arms_with_the_best_mean_are_the_best_and_one_alone_is_none() -> None:
    assert best(1.0, 3.0, 2.0) == ["arm1"]
    assert best(3.0, 1.0, 3.0 + 1e-12) == ["arm0", "arm2"]
    assert best(3.0, None) == []
    assert best(3.0) == []
