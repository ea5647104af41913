"""Tables and figures for a paper."""

from __future__ import annotations

import re
from pathlib import Path

from made_report import EVIL, row, table, task_scores

from simtune.report.paper import write_paper
from simtune.report.paper_tables import latex, markdown, paper_table
from simtune.report.results_view import grid_points
from simtune.report.statistics.of_run import point_statistics
from simtune.storage.parquet_files import write_table


def made() -> list[dict]:
    rows = [
        row(arm, size, seed, 20.0 + lead + size / 10 + seed / 10)
        for arm, lead in (("different", 0.1), ("similar", 0.0), ("a_b & $c$", -9.0))
        for size in (10, 100)
        for seed in (0, 1, 2)
    ]
    return [*rows, row("copy-input", None, None, 25.0), row("untuned", None, None, 1.0)]


def test_cells_have_intervals_and_marks_that_agree_with_the_comparisons() -> None:
    rows = made()
    (point,) = grid_points(table(rows))
    found = paper_table(point, point_statistics(point, task_scores(rows)))
    text = markdown(found)
    assert re.search(
        r"^\| different \|  \| \*\*21\.20\*\*<sup>a</sup> \[\d+\.\d–\d+\.\d\] \| \*\*30\.20\*\* \[", text, re.M
    )
    assert re.search(r"^\| similar \|  \| 21\.10<sup>†a</sup> \[", text, re.M)
    assert "a: not better than copy-input." in text
    assert "untuned." not in text
    written = latex(found)
    assert r"a\_b \& \$c\$ &  & 12.10\textsuperscript{a}" in written
    assert r"\textbf{30.20} \\" in written
    rows_of_latex = [line for line in written.splitlines() if line.endswith(r" \\")]
    assert len({len(re.findall(r"(?<!\\)&", line)) for line in rows_of_latex}) == 1
    assert [written.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]


def test_the_same_run_gives_the_same_files_with_fonts_inside(tmp_path: Path, make_run) -> None:
    rows = [*made(), row(EVIL, 10, 0, 20.0)]
    run = make_run(rows)
    write_table(run / "scores.parquet", task_scores(rows))
    first, second = (
        {path.name: path.read_bytes() for path in write_paper(run, tmp_path / folder)} for folder in ("one", "two")
    )
    assert first == second
    assert set(first) == {
        *("results.tex", "results.md", "scores_by_size.pdf", "scores_by_size.svg"),
        *("similarity_by_size.pdf", "similarity_by_size.svg"),
    }
    pdf = first["scores_by_size.pdf"]
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"<text" not in first["scores_by_size.svg"]
    assert EVIL not in first["results.md"].decode()
