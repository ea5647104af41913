"""The page in a real browser: what it draws, and what it does when it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from made_report import row
from results_made_up import Shape, made_sweep

from simtune.report.build import build_report
from simtune.storage.parquet_files import read_table
from simtune.sweep.results import report_run

pytestmark = pytest.mark.browser


def drawn_values(page: Any, anchor: str) -> list[str]:
    """What a screen reader is told of each point of a figure."""
    points = page.locator(f"#figure-{anchor} .mark-symbol path[aria-label]")
    return [point.get_attribute("aria-label") for point in points.all()]


def ready(page: Any, anchor: str) -> None:
    """Waits until a figure is drawn; it is when it comes near the window."""
    page.locator(f"#figure-{anchor}").scroll_into_view_if_needed()
    page.locator(f"#figure-{anchor}[data-state=ready]").wait_for()


def test_a_figure_draws_every_mean_and_follows_the_switches(rows, make_run, open_page) -> None:
    page = open_page(build_report(make_run(rows)))
    ready(page, "scores_by_size")
    drawn = drawn_values(page, "scores_by_size")
    assert len(drawn) == 6
    finished = [r for r in rows if (r["arm"], r["size"], r["status"]) == ("similar", 100, "done")]
    mean = sum(r["rouge_l"] for r in finished) / len(finished)
    assert f"similar, 100 tasks: ROUGE-L {mean:.2f} (22.00–22.60), 2 of 3 seeds" in drawn
    page.get_by_role("checkbox", name="similar").uncheck()
    page.wait_for_function("document.querySelectorAll('#figure-scores_by_size .mark-symbol path').length === 4")
    assert not [text for text in drawn_values(page, "scores_by_size") if "similar" in text]


def test_the_pointer_shows_the_numbers_of_a_point(rows, make_run, open_page) -> None:
    page = open_page(build_report(make_run(rows)))
    ready(page, "scores_by_size")
    page.locator("#figure-scores_by_size .mark-symbol path[aria-label^='random, 10 tasks']").hover()
    tip = page.get_by_role("tooltip")
    shown = dict(line.rsplit(" ", 1) for line in tip.inner_text().splitlines())
    own = [r["rouge_l"] for r in rows if (r["arm"], r["size"]) == ("random", 10)]
    assert shown["arm"] == "random"
    assert shown["ROUGE-L"] == f"{sum(own) / 3:.2f}"
    assert (shown["lowest seed"], shown["highest seed"]) == (f"{min(own):.2f}", f"{max(own):.2f}")


def test_without_scripts_and_on_paper_figures_are_pictures(rows, make_run, open_page) -> None:
    path = build_report(make_run(rows))
    still = open_page(path, java_script_enabled=False)
    assert still.locator("figure img").first.is_visible()
    assert not still.locator("#arm-switches").is_visible()
    page = open_page(path)
    ready(page, "scores_by_size")
    assert not page.locator("#figure-scores_by_size img").is_visible()
    page.emulate_media(media="print")
    assert page.locator("#figure-scores_by_size img").is_visible()
    assert not page.locator("#figure-scores_by_size .chart").is_visible()


def test_one_far_baseline_does_not_squeeze_the_arms(rows, make_run, open_page) -> None:
    page = open_page(build_report(make_run([*rows, row("copy", None, None, -900.0)])))
    ready(page, "scores_by_size")
    heights = [
        box["y"] for p in page.locator("#figure-scores_by_size .mark-symbol path").all() if (box := p.bounding_box())
    ]
    assert max(heights) - min(heights) > 100
    assert page.locator("#figure-scores_by_size text", has_text="↓ copy -900.0").count()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The page of a sweep whose answers do not all fit into it."""
    run = made_sweep(tmp_path_factory.mktemp("made"), Shape(arms=12, sizes=(10, 30), seeds=4, answers=8, tests=12))
    return report_run(run)


def numbers(page: Any, column: int) -> list[float]:
    cells = page.locator(f"#trials tbody tr:not([hidden]) > :nth-child({column})")
    return [float(text) for text in cells.all_inner_texts()]


def test_trials_are_sorted_filtered_and_equal_the_table(made, open_page) -> None:
    page = open_page(made)
    results = read_table(made.parents[1] / "results.parquet").to_pylist()
    page.get_by_role("button", name="ROUGE-L").click()
    assert numbers(page, 4) == sorted(round(row["rouge_l"], 2) for row in results)
    page.get_by_label("arm", exact=True).select_option("arm-7")
    page.get_by_label("tasks", exact=True).select_option("30")
    own = sorted(round(row["rouge_l"], 2) for row in results if (row["arm"], row["size"]) == ("arm-7", 30))
    assert numbers(page, 4) == own
    assert page.get_by_text("4 of 96 shown").is_visible()


def test_a_trial_shows_its_tasks_scores_and_answers_and_loads_all_of_them(made, open_page) -> None:
    page = open_page(made)
    run = made.parents[1]
    row = read_table(run / "results.parquet").to_pylist()[5]
    page.locator("#trials tbody tr", has_text="arm-0").nth(5).get_by_role("button").click()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_text(f"{row['trial']}-{row['score']}").is_visible()
    subsets = read_table(run / "subsets.parquet").to_pylist()
    chosen = [s["task"] for s in subsets if all(s[name] == row[name] for name in ("arm", "size", "seed"))]
    assert [text.split()[0] for text in dialog.locator("ol.tasks li").all_inner_texts()] == chosen
    table = dialog.get_by_role("region", name="Scores of the test tasks")
    shown = [float(text) for text in table.locator("tbody tr > :nth-child(4)").all_inner_texts()]
    scores = read_table(run / "scores.parquet").to_pylist()
    own = [s["value"] for s in scores if s["trial"] == row["trial"] and s["level"] == "task" and s["is_headline"]]
    assert shown == pytest.approx(own, abs=0.006)
    answers = read_table(run.parent / "trials" / row["trial"] / "scores" / row["score"] / "predictions.parquet")
    assert dialog.get_by_text("41 found in a sample of 41 of 96").is_visible()
    dialog.get_by_role("button", name="Load all answers").click()
    dialog.get_by_text("96 found in 96").wait_for()
    dialog.get_by_label("only answers that equal no reference").check()
    wrong = sum(answer["prediction"] != "the answer" for answer in answers.to_pylist())
    dialog.get_by_text(f"{wrong} found in 96").wait_for()
    dialog.get_by_label("Search").fill("task5003")
    assert dialog.get_by_text("not 7 <b>this</b>").first.is_visible()
    # In the search, the first one empties it.
    dialog.get_by_label("Search").blur()
    page.keyboard.press("Escape")
    page.wait_for_function("!document.querySelector('dialog')")


def test_the_map_and_the_differences_follow_what_is_chosen(made, open_page) -> None:
    page = open_page(made)
    ready(page, "task_map")
    page.get_by_label("Chosen by").select_option("arm-3, 10 tasks, seed 2")
    subsets = read_table(made.parents[1] / "subsets.parquet").to_pylist()
    chosen = {s["task"] for s in subsets if (s["arm"], s["size"], s["seed"]) == ("arm-3", 10, 2)}
    page.wait_for_function("document.querySelectorAll('#figure-task_map .mark-symbol path[aria-label]').length === 10")
    large = page.locator("#figure-task_map .mark-symbol path[aria-label]").all()
    assert {point.get_attribute("aria-label") for point in large} == chosen
    ready(page, "paired")
    page.get_by_label("First arm").select_option("arm-1, 10 tasks")
    page.get_by_label("Second arm").select_option("arm-2, 10 tasks")
    scores = read_table(made.parents[1] / "scores.parquet").to_pylist()
    own = {
        arm: [s["value"] for s in scores if (s["arm"], s["size"], s["level"]) == (arm, 10, "task")]
        for arm in ("arm-1", "arm-2")
    }
    difference = sum(own["arm-1"]) / len(own["arm-1"]) - sum(own["arm-2"]) / len(own["arm-2"])
    text = f"mean difference {'+' if difference > 0 else '−'}{abs(difference):.2f}"
    assert page.get_by_text(text).is_visible()


@pytest.mark.parametrize("paper", ["light", "dark"])
def test_everybody_can_use_the_page(made, open_page, paper) -> None:
    axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
    # As axe is no script of the page, whose policy would refuse it.
    page = open_page(made, color_scheme=paper, viewport={"width": 390, "height": 800}, bypass_csp=True)
    for figure in page.locator("figure[data-chart]").all():
        figure.scroll_into_view_if_needed()
        page.locator(f"#{figure.get_attribute('id')}[data-state=ready]").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.evaluate(axe)
    assert found(page) == []
    page.locator("#trials tbody button").first.click()
    page.get_by_role("dialog").wait_for()
    assert found(page) == []


def found(page: Any) -> list[str]:
    """What axe finds, with the places."""
    result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{v['id']}: {node['target']} {node['failureSummary']}" for v in result["violations"] for node in v["nodes"][:2]
    ]
