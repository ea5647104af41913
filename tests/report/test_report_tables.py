"""The tables of a report, against brute force."""

from __future__ import annotations

import io
import re
from statistics import fmean

from made_report import row, table, task_scores
from rich.console import Console

from simtune.report.results_view import grid_points
from simtune.report.statistics.of_run import run_statistics
from simtune.report.summary import summary_lines
from simtune.report.tables import pivot, results_markdown, results_table


def test_numbers_equal_a_brute_force_computation(rows) -> None:
    (point,) = grid_points(table(rows))
    shape = pivot(point, point.headline)
    headings = [(heading.size, heading.label) for heading in shape.columns]
    assert headings == [(0, "0"), (10, "10"), (100, "100"), (674, "674")]
    assert [arm for arm, _ in shape.lines] == ["different", "similar", "random", "full", "untuned"]
    for arm, entries in shape.lines:
        for heading, shown in zip(shape.columns, entries, strict=True):
            own = [r for r in rows if r["arm"] == arm and (r["size"] or 0) == heading.size]
            values = [r["rouge_l"] for r in own if r["status"] == "done"]
            if not own:
                assert shown is None
                continue
            assert shown is not None
            assert shown.mean == f"{fmean(values):.2f}"
            assert shown.spread == (f"{min(values):.2f}–{max(values):.2f}" if len(values) > 1 else "")
            assert shown.seeds == (f"{len(values)}/{len(own)} seeds" if len(values) < len(own) else "")
            assert shown.is_best == (arm == "different" and heading.size in (10, 100))


def test_the_same_trial_under_two_seeds_is_one_measurement() -> None:
    twice = [row("different", 10, seed, 20.0, trial="same") for seed in (0, 1)]
    (point,) = grid_points(table(twice))
    assert pivot(point, point.headline).lines[0][1][0].spread == ""


def test_the_best_of_a_size_is_marked_by_a_character_where_no_bold_can_be_seen(rows) -> None:
    plain, styled = (Console(width=120, file=io.StringIO(), record=True) for _ in range(2))
    plain.print(results_table(table(rows), is_styled=False))
    styled.print(results_table(table(rows)))
    marked, bold = plain.export_text(), styled.export_text()
    assert "*: best mean of a size." in marked
    assert "Bold: best mean of a size." in bold
    assert marked.count("*") > 1
    assert "*" not in bold


def test_markdown_keeps_one_line_a_row(rows) -> None:
    rows[0]["note"] = "a | b\n<b>*c*</b>"
    lines = results_markdown(table(rows)).splitlines()
    assert len(lines) == len(rows) + 2
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert "a \\| b &lt;b&gt;\\*c\\*&lt;/b&gt;" in "".join(lines)


def test_intervals_and_arms_that_cannot_be_told_apart_fit_into_80_columns() -> None:
    arms = ("different", "similar-category", "random")
    made = [
        row(arm, 50 * 2**k, seed, 20.0 + 4 * k + lead)
        for arm, lead in zip(arms, (0.1, 0.0, -5.0), strict=True) for k in range(6) for seed in (0, 1)
    ] + [row("full", 3200, 0, 47.0), row("copy-demonstration", None, None, 50.0)]  # fmt: skip
    statistics = run_statistics(table(made), task_scores(made))
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(results_table(table(made), is_styled=False, statistics=statistics))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"^different +20\.10\* +24\.10\*", text, re.MULTILINE)
    assert re.search(r"^similar-category +20\.00~", text, re.MULTILINE)
    assert re.search(r"^random +15\.00 ", text, re.MULTILINE)
    assert re.search(r"\d\d–\d\d", text)
    lines = summary_lines(table(made), statistics)
    assert lines[0].startswith("best: “different” with 1,600 tasks, ROUGE-L 40.10 (95 % interval ")
    assert lines[1:3] == [
        "  It cannot be told apart from “similar-category” at that size.",
        "  “copy-demonstration” (50.00), training on no task, beats it.",
    ]
