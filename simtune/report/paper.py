"""Tables and figures of a run for a paper, in a folder of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from simtune.report.paper_tables import latex, markdown, paper_table
from simtune.report.results_view import grid_points
from simtune.report.run_rows import read_run
from simtune.storage.files import AnyPath, write_bytes, write_text


def write_paper(run_directory: AnyPath, folder: Path, tables: Mapping[str, pa.Table] | None = None) -> list[Path]:
    """Writes results.tex, results.md, and the two line figures as PDF and SVG; the same rows give the same bytes.

    Args:
        run_directory: as for `build_report`.
        folder: is made if it does not exist; files of the same names are replaced.
        tables: the current `results` and `scores`, instead of the files.

    Returns:
        The files.

    Raises:
        RunError: there is no results.parquet, or a file of the run is damaged or written by another version.
    """
    run = read_run(run_directory, tables or {})
    # Imported here because matplotlib takes most of a second.
    from simtune.report.figures import line_figures

    plots = line_figures(run.results, run.statistics)
    points = zip(grid_points(run.results), run.statistics.points, strict=True)
    made = [paper_table(point, found) for point, found in points]
    files = {folder / "results.tex": "\n".join(map(latex, made)), folder / "results.md": "\n".join(map(markdown, made))}
    for path, text in files.items():
        write_text(path, text)
    written = list(files)
    for name, plot in plots.items():
        for path, content in ((folder / f"{name}.pdf", plot.pdf()), (folder / f"{name}.svg", plot.svg)):
            write_bytes(path, content)
            written.append(path)
    return written
