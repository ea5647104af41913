from __future__ import annotations

import pyarrow as pa
from made_report import row, table

from simtune.report.category_scores import category_tables
from simtune.report.page.render import COLOUR_STEPS
from simtune.report.results_view import grid_points


def scores(*rows: tuple[str, str, str, float, bool]) -> pa.Table:
    names = ("score", "name", "metric", "value", "is_headline")
    return pa.Table.from_pylist([dict(zip(names, each, strict=True)) | {"level": "category"} for each in rows])


def test_a_category_shows_its_headline_metric_and_colours_the_arms_by_their_distance_to_their_mean() -> None:
    rows = [row(arm, size, seed, 1.0) for arm in ("a", "b") for size in (10, 20) for seed in (0, 1)]
    rows += [row("full", 50, 0, 1.0), row("untuned", None, None, 1.0)]
    names = {(each["arm"], each["size"], each["seed"]): each["score"] for each in rows}
    value = {"a": 34.0, "b": 30.0, "full": 90.0, "untuned": 5.0}
    of_trials = [
        (names[each["arm"], each["size"], each["seed"]], "textual_entailment", "exact-match", number, True)
        for each in rows
        # Seeds differ by 2, and the smaller size is not shown.
        for number in [value[each["arm"]] + 2 * (each["seed"] or 0) - (50 if each["size"] == 10 else 0)]
    ]
    other = [(names["a", 20, 0], "textual_entailment", "rouge-l", 77.0, False)]
    (shown,) = category_tables(grid_points(table(rows)), scores(*of_trials, *other))
    assert shown.title == "Scores by test category at 20 training tasks."
    assert [column.title for column in shown.columns] == ["category", "a", "b", "full", "untuned"]
    ((category, *cells),) = shown.rows
    assert (category.text, category.small) == ("textual entailment", ("exact-match",))
    assert [cell.text for cell in cells] == ["35.00", "31.00", "90.00", "5.00"]
    # The mean of the arms is 33, and the larger of the distances, 2 points, has the full colour.
    assert "full colour is 2.0 points" in shown.caption
    assert [cell.css_class for cell in cells] == [f"up{COLOUR_STEPS}", f"down{COLOUR_STEPS}", "", ""]


def test_differences_below_a_point_stay_pale_and_one_arm_has_no_colour() -> None:
    rows = [row(arm, 10, 0, 1.0) for arm in ("a", "b")]
    of_trials = [(each["score"], "c", "rouge-l", 50.0 + 0.2 * i, True) for i, each in enumerate(rows)]
    (shown,) = category_tables(grid_points(table(rows)), scores(*of_trials))
    step = round(0.1 * COLOUR_STEPS)
    assert [cell.css_class for cell in shown.rows[0][1:]] == [f"down{step}", f"up{step}"]
    (alone,) = category_tables(grid_points(table(rows[:1])), scores(*of_trials))
    assert [cell.css_class for cell in alone.rows[0][1:]] == [""]
    assert category_tables(grid_points(table(rows)), scores(("another", "c", "rouge-l", 1.0, True))) == []
