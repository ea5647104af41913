"""The map of tasks: what is drawn, where, and that bytes repeat."""

from xml.etree import ElementTree

import numpy as np
import pytest

from simtune.report.category_matrix import figure_category_matrix
from simtune.report.task_map import MAX_PANELS, figure_task_map


def markers(axes):
    """All points of a panel with their colour, in drawing order."""
    return [
        (tuple(point), line.get_markeredgecolor() if line.get_marker() == "x" else line.get_markerfacecolor())
        for line in axes.lines
        for point in line.get_xydata().tolist()
    ]


def test_every_task_is_drawn_once_and_a_panel_marks_its_own():
    categories = [f"c{number}" for number in range(13) for _ in range(20 - number)]
    position_N2 = np.random.default_rng(0).normal(size=(len(categories), 2))
    test_T2 = np.array([[0.5, 0.5], [3.0, -3.0]])
    plot = figure_task_map(position_N2, categories, test_T2, [("few", np.array([3, 180]))])
    whole, _, few = plot.figure.axes
    drawn = markers(whole)
    assert sorted(point for point, _ in drawn) == sorted(map(tuple, [*position_N2.tolist(), *test_T2.tolist()]))
    colour = dict(drawn)
    own = {c: {colour[tuple(p)] for p, o in zip(position_N2.tolist(), categories, strict=True) if o == c}
           for c in categories}  # fmt: skip
    assert all(len(colours) == 1 for colours in own.values())
    assert len({c for n in range(10) for c in own[f"c{n}"]}) == 10
    # The three smallest share the grey, and the legend says so.
    assert own["c10"] == own["c11"] == own["c12"]
    words = [text.get_text() for text in plot.figure.axes[1].texts]
    assert words[words.index("3 other categories") + 1] == "27"
    assert words[words.index("c0") + 1] == "20"
    assert words[words.index("test tasks") + 1] == "2"
    assert {point for point, _ in markers(few)[-2:]} == {tuple(position_N2[row].tolist()) for row in (3, 180)}
    assert len(markers(few)) == len(drawn) + 2
    for axes in (whole, few):
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        box = axes.get_position()
        size = plot.figure.get_size_inches()
        assert (right - left) / (high - low) == pytest.approx(box.width * size[0] / (box.height * size[1]))
        assert all(left < x < right and low < y < high for (x, y), _ in drawn)


@pytest.mark.parametrize("num_tasks", [0, 1, 2])
def test_tiny_sets_and_too_many_subsets_are_drawn(num_tasks):
    position_N2 = np.zeros((num_tasks, 2))
    subsets = [(f"s{i}", np.arange(num_tasks)) for i in range(MAX_PANELS + 1)]
    plot = figure_task_map(position_N2, ["<&>"] * num_tasks, np.zeros((0, 2)), subsets)
    assert f"Drawn: {MAX_PANELS} of {MAX_PANELS + 1} subsets." in plot.caption
    # Tasks that are all at one point still have a frame with margins.
    assert plot.figure.axes[0].get_position().height * plot.figure.get_size_inches()[1] > 2
    ElementTree.fromstring(plot.svg)
    matrix = figure_category_matrix(["<&>"] * num_tasks, np.eye(num_tasks), [1] * num_tasks)
    ElementTree.fromstring(matrix.svg)


def test_the_same_input_gives_the_same_bytes():
    position_N2 = np.random.default_rng(0).normal(size=(30, 2))

    def draw():
        task_map = figure_task_map(position_N2, list("abcde") * 6, position_N2[:3], [("few", np.arange(5))])
        matrix = figure_category_matrix("abcde", np.eye(5), [6] * 5)
        return task_map.svg, task_map.png(), matrix.svg, matrix.png()

    assert draw() == draw()
