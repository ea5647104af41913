"""The report as one HTML file that needs nothing else: the answer in words first, then the evidence for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from simtune.report.answer import Answer, answer
from simtune.report.best_arms import best_arms
from simtune.report.category_scores import category_tables
from simtune.report.charts.chart import Chart
from simtune.report.page.render import PagePart, PageScripts, image_source, render_page
from simtune.report.page.tables import Column, PageTable, TableCell, page_table
from simtune.report.pool_tasks import pool_part
from simtune.report.results_view import (
    FINAL_LOSS,
    SET_STATISTICS,
    Cell,
    GridPoint,
    Row,
    grid_columns,
    grid_points,
    one_line,
    sorted_rows,
)
from simtune.report.run_rows import RunRows
from simtune.report.settings_table import settings_part
from simtune.report.statistics.records import Statistics
from simtune.report.table_metadata import read_results_metadata
from simtune.report.tables import Entry, entry, pivot, raw_text, unfinished_line
from simtune.wording import counted


@dataclass(frozen=True)
class AnswerPart:
    """Content of `parts/answer.html`."""

    answers: list[Answer]
    unfinished: list[str]
    unfinished_heading: str


@dataclass(frozen=True)
class FigurePart:
    """Content of `parts/figures.html`: one figure of its list."""

    anchor: str
    number: int
    title: str
    sources: list[str]
    caption: str
    alt: str


@dataclass(frozen=True)
class PointTables:
    """The tables of one grid point."""

    by_size: PageTable
    every_metric: PageTable


@dataclass(frozen=True)
class ResultsPart:
    """Content of `parts/results.html`."""

    points: list[PointTables]


@dataclass(frozen=True)
class VersionsPart:
    """Content of `parts/versions.html`; None where manifest.json has nothing for a table."""

    versions: PageTable | None
    rest: PageTable | None


def page(run: RunRows, charts: Sequence[Chart], scripts: PageScripts) -> str:
    """The whole page, a function of its arguments alone."""
    points = grid_points(run.results)
    rows = sorted_rows(run.results)
    parts = [
        PagePart("answer", "The answer", _answer_part(points, run.statistics)),
        PagePart("figures", "Figures", [_figure(chart, i) for i, chart in enumerate(charts, 1)]),
        PagePart("results", "Results", _results_part(points)),
        PagePart("trials", "Trials", _trials(run.results, run.costs)),
        PagePart("categories", "Scores by category", [] if run.scores is None else category_tables(points, run.scores)),
        PagePart("pool", "Pool", None if run.tasks is None else pool_part(run.tasks, run.leaks)),
        PagePart("warnings", "Warnings", _notes(rows)),
        PagePart("settings", "Settings", None if run.settings is None else settings_part(run.settings)),
        PagePart(
            "versions", "Versions and fingerprints", None if run.manifest is None else _versions_part(run.manifest)
        ),
    ]
    return render_page(run.name, _facts(points, rows), [part for part in parts if part.content], scripts)


def _facts(points: list[GridPoint], rows: list[Row]) -> list[str]:
    num_done = sum(row["status"] == "done" for row in rows)
    seeds = {row["seed"] for row in rows if row["seed"] is not None}
    arms = {arm for point in points for arm in point.arms}
    facts = [f"{num_done:,} of {counted(len(rows), 'trial')} finished", counted(len(arms), "arm")]
    facts.append(counted(len(seeds), "seed"))
    if len(points) > 1:
        facts.append(counted(len(points), "grid point"))
    full = next((point.full.num_tasks for point in points if point.full is not None), None)
    return [*facts, f"pool of {counted(full, 'task')}"] if full else facts


def _answer_part(points: list[GridPoint], statistics: Statistics) -> AnswerPart:
    unfinished = [(point.title, row) for point in points for row in point.unfinished]
    return AnswerPart(
        answers=[answer(point, found) for point, found in zip(points, statistics.points, strict=True)],
        unfinished=[unfinished_line(row) + (f" [{one_line(title)}]" if title else "") for title, row in unfinished],
        unfinished_heading=f"{counted(len(unfinished), 'trial')} did not finish",
    )


def _figure(chart: Chart, number: int) -> FigurePart:
    sources = [image_source(svg) for svg in chart.pictures]
    return FigurePart(chart.anchor, number, chart.title, sources, chart.caption, chart.alt)


def _results_part(points: list[GridPoint]) -> ResultsPart:
    return ResultsPart([PointTables(_by_size(point), _every_metric(point)) for point in points])


def _by_size(point: GridPoint) -> PageTable:
    means = pivot(point, point.headline)
    spread = "Mean over seeds, below it the lowest and the highest seed" if means.has_spread else "One seed"
    return page_table(
        f"{spread}; bold is the best arm of a size. Baselines trained on 0 tasks.",
        ["arm", *(heading.label for heading in means.columns)],
        [[arm, *map(_entry_cell, entries)] for arm, entries in means.lines],
        title=_title(f"{point.headline.title} on unseen tasks by number of training tasks.", point),
    )


def _title(text: str, point: GridPoint) -> str:
    return f"{text} {point.title}." if point.title else text


def _entry_cell(shown: Entry | None) -> TableCell:
    if shown is None:
        return TableCell()
    css_class = "best" if shown.is_best else ("" if shown.finished or shown.mean == "–" else "unfinished")
    return TableCell(shown.mean, tuple(text for text in (shown.spread, shown.seeds) if text), css_class)


def _every_metric(point: GridPoint) -> PageTable:
    tops = {
        (metric.column, id(cell))
        for metric in point.metrics
        for size in point.sizes
        for cell in best_arms(point.at(size), metric)
    }
    numbers = (*point.metrics, *SET_STATISTICS)
    ordered = [cell for size in point.sizes for cell in point.at(size)]
    ordered += [cell for cell in point.cells if cell not in ordered]
    rows: list[list[str | TableCell]] = []
    before: int | None = None
    for cell in ordered:
        # A rule above each size: arms are compared inside it.
        name = TableCell(cell.arm, css_class="start" if cell.size != before else "")
        before = cell.size
        entries = [_entry_cell(entry(cell, column, (column.column, id(cell)) in tops)) for column in numbers]
        rows.append([name, f"{cell.num_tasks:,}", _num_categories(cell), f"{len(cell.done)}", *entries])
    return page_table(
        "Similarity: cosine between pairs of tasks of the set. Coverage: mean over the unseen tasks of the largest "
        "cosine to the set. Trials: how many finished.",
        ["arm", "tasks", "categories", "trials", *[column.title for column in numbers]],
        rows,
        title=_title("Every metric.", point),
        css_class="dense",
    )


def _num_categories(cell: Cell) -> str:
    counts = cell.values("num_categories")
    if not counts:
        return "–"
    low, high = min(counts), max(counts)
    return f"{low:.0f}" if low == high else f"{low:.0f}–{high:.0f}"


def _trials(results: pa.Table, costs: pa.Table | None) -> PageTable:
    """A row for each trial, in the order of the scripts' data."""
    metadata = read_results_metadata(results)
    numbers = (*metadata.metrics, *SET_STATISTICS[:1], *SET_STATISTICS[2:], FINAL_LOSS)
    texts = ["arm", *grid_columns(results), "status"]
    took = {} if costs is None else {(row["trial"], row["score"]): row["train_s"] for row in costs.to_pylist()}
    rows: list[list[str | TableCell]] = []
    for row in sorted_rows(results):
        seconds = took.get((row["trial"], row["score"]))
        status = TableCell(row["status"], css_class="" if row["status"] == "done" else "unfinished")
        rows.append(
            [
                row["arm"], _whole(row["num_tasks"]), _whole(row["seed"]),
                *(raw_text(row[name], None) for name in texts[1:-1]),
                *(number.text(row[number.column]) for number in numbers),
                f"{seconds:.1f}" if seconds else "–", status,
            ]
        )  # fmt: skip
    settings = [Column(name, is_text=True) for name in texts[1:-1]]
    titles = [number.title for number in numbers]
    heads: list[str | Column] = ["arm", "tasks", "seed", *settings, *titles, "train s", Column("status", is_text=True)]
    return page_table(
        "One row for each trial and evaluation suite; results.csv has every column.",
        heads,
        rows,
        css_class="dense trials",
    )


def _whole(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def _notes(rows: list[Row]) -> list[PageTable]:
    arms_by_note: dict[str, list[str]] = {}
    for row in rows:
        if row["note"]:
            arms_by_note.setdefault(row["note"], []).append(row["arm"])
    lines = []
    for note, arms in sorted(arms_by_note.items()):
        counts = ", ".join(f"{arm} ×{count}" for arm, count in Counter(arms).items())
        lines.append([note, f"{len(arms):,}", counts])
    return [page_table("Notes on trials.", ["note", "trials", Column("arms", True)], lines)] if lines else []


def _versions_part(manifest: object) -> VersionsPart | None:
    if manifest is None:
        return None
    flat = list(_flatten(manifest, ""))
    lead = ("versions", "fingerprints")
    front = [(key, value) for name in lead for key, value in flat if key.split(".")[0] == name]
    rest = [(key, value) for key, value in flat if key.split(".")[0] not in lead]
    heads = [Column("name"), Column("value", is_text=True)]
    return VersionsPart(
        page_table("What this run was computed with.", heads, front, css_class="list") if front else None,
        page_table("The rest of manifest.json.", heads, rest, css_class="list") if rest else None,
    )


def _flatten(value: object, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and all(not isinstance(inner, (Mapping, list)) for inner in value):
        yield prefix, ", ".join(str(inner) for inner in value)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _flatten(inner, f"{prefix}[{i}]")
    else:
        yield prefix, "–" if value is None else str(value)
