"""The page in a real browser: what it draws, and what it does when it is used."""

from __future__ import annotations

from typing import Any

import pytest
from made_report import row

from simtune.report.build import build_report

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
