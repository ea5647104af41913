from __future__ import annotations

from simtune.report.arm_styles import arm_styles
from simtune.report.plot_style import spread_out
from simtune.report.table_metadata import LineStyle


def test_labels_keep_their_order_and_distance() -> None:
    placed = spread_out([50.0, 51.0, 10.0, 99.0], 10.0, 0.0, 100.0)
    assert placed == [45.5, 55.5, 10.0, 99.0]
    assert spread_out([100.0, 100.0], 10.0, 0.0, 100.0) == [90.0, 100.0]


def test_an_arm_keeps_its_colour_when_others_join() -> None:
    own = {"different": LineStyle(colour="#0072b2", marker="o"), "similar": LineStyle(colour="#d55e00", marker="s")}
    alone = arm_styles(["max-min", "different"], own)
    assert alone["different"] == ("#0072b2", "o")
    assert alone.items() <= arm_styles(["different", "similar", "max-min", "random"], own).items()


def test_two_arms_of_one_strategy_have_different_lines() -> None:
    style = LineStyle(colour="#0072b2", marker="o")
    styles = arm_styles(["a", "b"], {"a": style, "b": style})
    assert styles["a"] == ("#0072b2", "o") != styles["b"]
