from __future__ import annotations

import math

from made_report import row, table

from simtune.report.figures import figure_scores_by_size
from simtune.report.lineplot import Panel, Reference, y_range
from simtune.report.statistics.of_run import run_statistics


def lines_of(rows):
    """What is drawn of the first panel: x and y of every line by its colour and marker."""
    axes = figure_scores_by_size(table(rows), run_statistics(table(rows), None)).figure.axes[0]
    return axes, [(line.get_xdata(), line.get_ydata(), line) for line in axes.lines]


def test_a_line_goes_through_the_means_with_whiskers_from_seed_to_seed_and_breaks_where_none_finished() -> None:
    rows = [row("a", size, seed, size / 10 + seed) for size in (10, 20, 40) for seed in (0, 2)]
    rows[2:4] = [row("a", 20, seed, None) for seed in (0, 2)]
    rows[5] = row("a", 40, 2, None)
    _, drawn = lines_of([*rows, row("full", 50, 0, 4.5)])
    (means,) = [(list(x), list(y)) for x, y, line in drawn if len(x) == 3]
    assert means[0] == [10, 20, 40]
    assert means[1][0] == 2.0
    assert math.isnan(means[1][1])
    assert means[1][2] == 4.0
    whiskers = [(list(x), list(y)) for x, y, line in drawn if line.get_marker() == "_"]
    assert whiskers == [([10, 10], [1.0, 3.0])]
    hollow = {x[0]: line.get_markerfacecolor() == "white" for x, y, line in drawn if line.get_linestyle() == "None"}
    # Of size 40, one of two seeds has finished.
    assert hollow == {10: False, 40: True}
    assert [line.get_ydata()[0] for _, _, line in drawn if line.get_linestyle() == "--"] == [4.5]


def test_a_baseline_far_below_is_left_off_the_scale_and_named_at_its_edge() -> None:
    arms = [row("a", size, 0, 20.0 + size / 10) for size in (10, 20)]
    near, far = row("near", None, None, 20.0), row("far", None, None, 0.0)
    axes, _ = lines_of([*arms, near, far])
    low, high = axes.get_ylim()
    assert 0 < low < 20
    assert 22 < high < 23
    assert [text.get_text()[0] for text in axes.texts if "far" in text.get_text()] == ["↓"]
    assert [text.get_text()[0] for text in axes.texts if "near" in text.get_text()] == ["n"]


def test_a_panel_without_arms_shows_its_baselines() -> None:
    panel = Panel("", "x", "x", (), (Reference("b", 5.0, is_full=False), Reference("c", 7.0, is_full=False)))
    assert y_range([panel], "x") == (5.0 - 0.12, 7.0 + 0.12)
    assert y_range([panel], "another") == (-0.06, 1.06)
