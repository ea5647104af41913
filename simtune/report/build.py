"""Writes a run's report. The same rows give the same bytes, so a report can be rebuilt at any time."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from simtune.report.answers import ANSWERS, ReadDetail, read_answers
from simtune.report.charts import vega
from simtune.report.charts.chart import Chart
from simtune.report.page.document import page
from simtune.report.page.render import PageScripts, answers_page
from simtune.report.results_csv import results_csv
from simtune.report.run_rows import RunRows, read_run
from simtune.report.statistics.records import STATISTICS
from simtune.report.table_metadata import read_results_metadata
from simtune.report.tables import results_markdown
from simtune.storage.files import AnyPath, child_names, write_bytes, write_text
from simtune.storage.records import write_record


def build_report(
    run_directory: AnyPath, tables: Mapping[str, pa.Table] | None = None, read_detail: ReadDetail | None = None
) -> AnyPath:
    """Writes statistics.json, results.csv and results.md (these two in the report too), figures and the page.

    Args:
        run_directory: holds results.parquet and those others of `SOURCES` that exist.
        tables: the current `results`, `scores` and `costs`, instead of the files.
        read_detail: reads the files of a trial; None leaves out loss curves and answers.

    Returns:
        The path of the page.

    Raises:
        RunError: there is no results.parquet, or a file of the run is damaged or written by another version.
    """
    run = read_run(run_directory, tables or {})
    report = run_directory / "report"
    write_record(run_directory / STATISTICS, run.statistics)
    for name, text in (
        ("results.csv", results_csv(run.results)),
        ("results.md", results_markdown(run.results)),
    ):
        write_text(run_directory / name, text)
        write_text(report / name, text)
    charts, scripts = _charts(run, report, read_detail)
    path = report / "index.html"
    # Last: a report with a page is complete.
    write_text(path, page(run, charts, scripts))
    return path


def _charts(run: RunRows, report: AnyPath, read_detail: ReadDetail | None) -> tuple[list[Chart], PageScripts]:
    """The page's figures; those that are files of the report too are written."""
    # Imported here because matplotlib takes most of a second, which importing this module must not cost.
    from simtune.report.charts.all_charts import report_charts, scripts_data
    from simtune.report.charts.run_data import RunData
    from simtune.report.charts.trials import trials_data
    from simtune.report.figures import line_figures

    plots = line_figures(run.results, run.statistics)
    for name, plot in plots.items():
        write_bytes(report / "figures" / f"{name}.svg", plot.svg)
        write_bytes(report / "figures" / f"{name}.png", plot.png())
    data = RunData(run)
    metrics = {metric.column: metric.title for metric in read_results_metadata(run.results).metrics}

    def write_answers(name: str, value: object) -> None:
        write_text(report / ANSWERS / name, answers_page(value))

    answers = read_answers(report, data.rows, metrics, read_detail, write_answers)
    # Of trials that the run no longer has.
    for name in child_names(report / ANSWERS) - set(answers.files.values()):
        (report / ANSWERS / name).unlink()
    charts = report_charts(data, plots, answers.losses)
    return charts, PageScripts(
        library=vega.library(),
        licence=vega.LICENCE,
        data={**scripts_data(charts, data), **trials_data(data, answers)},
        has_files=bool(answers.files),
    )
