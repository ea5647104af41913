"""The tables of a report, against brute force."""

from __future__ import annotations

import io
import re
from statistics import fmean

from made_report import row, table
from rich.console import Console

from simtune.report.results_view import grid_points
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
