from __future__ import annotations

import io

import pytest
from made_report import row, table
from rich.console import Console

from simtune.report.answer import answer
from simtune.report.figures import figure_scores_by_size
from simtune.report.results_view import grid_points, one_line
from simtune.report.statistics.of_run import point_statistics, run_statistics
from simtune.report.tables import results_table


def test_grid_points_never_mix_and_each_has_the_shared_baselines() -> None:
    made = [
        row(arm, 10, 0, score + lead, **{"model.name": model, "encoding.positive": "2"})
        for model, score in (("small", 20.0), ("base", 40.0))
        for arm, lead in (("different", 1.0), ("random", 0.0))
    ]
    made.append(row("copy-input", None, None, 14.2, **{"encoding.positive": "2"}))
    points = grid_points(table(made))
    # A setting that does not differ is not in the titles.
    assert [p.title for p in points] == ["model.name = base", "model.name = small"]
    assert [[c.mean("rouge_l") for c in p.cells] for p in points] == [[41.0, 40.0, 14.2], [21.0, 20.0, 14.2]]


def test_each_grid_point_is_about_the_first_metric_that_was_scored_there() -> None:
    made = [
        row(arm, size, 0, score + size / 10, exact_match=score / 2, **{"training.x": "generate"})
        for arm, score in (("a", 20.0), ("b", 30.0)) for size in (10, 20)
    ]  # fmt: skip
    made += [made[i] | {"rouge_l": None, "exact_match": 70.0 + i, "training.x": "rank"} for i in range(4)]
    points = grid_points(table(made))
    assert [point.headline.title for point in points] == ["ROUGE-L", "exact match"]
    assert [metric.column for metric in points[1].metrics] == ["exact_match"]
    assert answer(points[1], point_statistics(points[1], None)).lead.startswith("“b” scored best at 2 of 2 sizes.")
    plot = figure_scores_by_size(table(made), run_statistics(table(made), None))
    assert [axes.get_ylabel() for axes in plot.figure.axes] == ["ROUGE-L", "exact match"]
    low, high = plot.figure.axes[1].get_ylim()
    assert 60 < low < 70.0
    assert 73.0 < high < 80
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(results_table(table(made)))
    text = console.export_text()
    assert "Scores by number of training tasks" in text
    assert "73.00" in text


@pytest.mark.parametrize("limit", [12, 20, 28, 60])
def test_shortened_labels_keep_the_mark_of_an_oracle(limit: int) -> None:
    name = "near-target(by=coverage, per_category_cap=3) (oracle)"
    cut = one_line(name, limit)
    assert len(cut) <= limit
    assert cut.endswith(" (oracle)")
    assert one_line("x" * 80, limit) == "x" * (limit - 1) + "…"
