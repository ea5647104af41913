"""A report from small runs: its bytes, what it needs, and that it shows what did not finish."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from made_report import row, table
from rich.console import Console

from simtune.errors import RunError
from simtune.report.build import build_report
from simtune.report.tables import results_table
from simtune.storage.files import file_sha256
from simtune.storage.parquet_files import write_table


def test_a_rebuild_is_byte_identical_whatever_the_order_of_rows(rows, make_run) -> None:
    run = make_run(rows)
    build_report(run)
    first = {path: file_sha256(path) for path in sorted(run.rglob("*")) if path.is_file()}
    del first[run / "results.parquet"]
    names = {str(path.relative_to(run)) for path in first}
    figures = {f"report/figures/{n}.{e}" for n in ("scores_by_size", "similarity_by_size") for e in ("svg", "png")}
    assert names >= {"results.csv", "results.md", "report/results.csv", "report/index.html"} | figures
    write_table(run / "results.parquet", table(rows[::-1]))
    build_report(run)
    assert {path: file_sha256(path) for path in first} == first


def test_trials_that_did_not_finish_are_visible_everywhere(rows, make_run) -> None:
    rows[3] = row("similar", 100, 0, None, status="missing")
    rows[5] = row("similar", 100, 2, None)
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(results_table(table(rows)))
    terminal = console.export_text()
    # The caption wraps at the table's width.
    assert "similar, size 100, seed 1: failed (CUDA out of memory)" in " ".join(terminal.split())
    run = make_run(rows)
    html = build_report(run).read_text()
    assert "similar, size 100, seed 1: failed (CUDA out of memory)" in html
    assert "Left out: 3 trials (2 failed, 1 missing)." in html
    assert '<td class="unfinished">failed + missing</td>' in html
    assert "CUDA out of memory" in (run / "results.md").read_text()


@pytest.mark.parametrize(
    "keep",
    [
        lambda _: False,
        lambda r: r["size"] is None,
        lambda r: r["status"] == "failed",
        lambda r: r["size"] == 10 and r["seed"] == 0,
    ],
    ids=["no rows", "baseline only", "nothing finished", "one size, one seed"],
)
def test_small_runs_build(rows, make_run, keep) -> None:
    run = make_run(rows)
    write_table(run / "results.parquet", table([r for r in rows if keep(r)]))
    assert build_report(run).exists()


def test_a_run_without_results_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"results\.parquet.*`simtune run`"):
        build_report(tmp_path)


def test_importing_the_report_does_not_load_matplotlib() -> None:
    code = "import sys, simtune.report.build; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
