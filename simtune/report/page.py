"""The report as one HTML file that needs nothing else: the answer in words first, then what it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from simtune.report import markup
from simtune.report.answer import Answer, answer
from simtune.report.category_scores import category_tables
from simtune.report.markup import Html, details, escape, join, section, table, tag, text_head
from simtune.report.pool_tasks import pool_section
from simtune.report.results_view import (
    FULL,
    Cell,
    GridPoint,
    Row,
    best,
    grid_points,
    is_baseline,
    one_line,
    sorted_rows,
)
from simtune.report.tables import Entry, columns, entry, lost_line, pivot, plain
from simtune.wording import counted

_METRICS = {
    "rouge_l": "ROUGE-L",
    "exact_match": "exact match",
    "mean_similarity": "mean similarity",
    "max_similarity": "largest similarity",
    "coverage": "coverage",
}


@dataclass(frozen=True)
class Picture:
    """A figure as it enters the page."""

    title: str
    svg: bytes
    caption: str
    alt: str


@dataclass(frozen=True)
class RunRows:
    """What a run directory holds for its report; None where a file is not there."""

    name: str
    results: pa.Table
    scores: pa.Table | None
    tasks: pa.Table | None
    leaks: pa.Table | None
    settings: str | None
    manifest: Any


def page(run: RunRows, pictures: Iterable[Picture]) -> str:
    """The whole page, a function of its arguments alone."""
    points = grid_points(run.results)
    rows = sorted_rows(run.results)
    parts = [
        ("answer", "The answer", _answers(points)),
        ("figures", "Figures", [_figure(picture, i) for i, picture in enumerate(pictures, 3)]),
        ("results", "Results", [*_aggregated(points), _all_trials(run.results)]),
        (
            "categories",
            "Scores by category",
            category_tables(points, run.scores) if run.scores is not None else [],
        ),
        ("pool", "Pool", pool_section(run.tasks, run.leaks) if run.tasks is not None else []),
        ("warnings", "Warnings", _notes(rows)),
        ("settings", "Settings", [tag("pre", run.settings)] if run.settings is not None else []),
        (
            "versions",
            "Versions and fingerprints",
            _manifest(run.manifest) if run.manifest is not None else [],
        ),
    ]
    shown = [(anchor, title, content) for anchor, title, content in parts if content]
    links = [tag("a", title, href=f"#{anchor}") for anchor, title, _ in shown[1:]]
    header = [tag("p", "simtune report", class_="kicker"), tag("h1", run.name), _facts(points, rows)]
    body = [tag("header", [*header, tag("nav", links, aria_label="Sections")])]
    body += [section(anchor, title, content) for anchor, title, content in shown]
    return markup.document(f"{run.name} · simtune report", body)


def _facts(points: list[GridPoint], rows: list[Row]) -> Html:
    done = sum(row["status"] == "done" for row in rows)
    seeds = len({row["seed"] for row in rows if row["seed"] is not None})
    arms = len({row["arm"] for row in rows if row["arm"] != FULL and not is_baseline(row)})
    facts = [f"{done:,} of {counted(len(rows), 'trial')} finished", counted(arms, "arm")]
    facts.append(counted(seeds, "seed"))
    if len(points) > 1:
        facts.append(counted(len(points), "grid point"))
    full = next((p.full.num_tasks for p in points if p.full is not None), None)
    facts += [f"pool of {counted(full, 'task')}"] if full else []
    return tag("p", " · ".join(facts), class_="facts")


def _answers(points: list[GridPoint]) -> list[Html]:
    if not points:
        return [tag("p", "results.parquet has no rows yet.", class_="lead")]
    # With a grid, the sizes are folded away: the grid points are what a reader compares first.
    blocks = [_answer(answer(point), folded=len(points) > 1) for point in points]
    lost = [(point.title, row) for point in points for row in point.lost()]
    if lost:
        lines = [tag("li", lost_line(row) + (f" [{one_line(title)}]" if title else "")) for title, row in lost]
        head = tag("strong", f"{counted(len(lost), 'trial')} did not finish")
        blocks.append(tag("div", [head, tag("ul", lines)], class_="notice"))
    return blocks


def _answer(said: Answer, folded: bool) -> Html:
    sizes = [
        part
        for size, text in said.by_size
        for part in (tag("dt", f"{size} {'task' if size == '1' else 'tasks'}"), tag("dd", text))
    ]
    listed = tag("dl", sizes, class_="sizes")
    texts = [tag("p", text) for text in said.details]
    head = [*([tag("h3", said.title)] if said.title else []), tag("p", said.lead, class_="lead")]
    return join([*head, *texts, details("Size by size", listed)] if folded else [*head, listed, *texts])


def _figure(picture: Picture, number_shown: int) -> Html:
    card = tag("div", [markup.image(picture.svg, picture.alt)], class_="card")
    label = tag("b", f"Fig. {number_shown}. {picture.title}. ")
    return tag("figure", [card, tag("figcaption", join([label, picture.caption], ""))])


def _entry_cell(shown: Entry | None) -> Html:
    if shown is None:
        return tag("td")
    extra = [tag("small", text) for text in (shown.spread, shown.seeds) if text]
    kind = "best" if shown.is_best else ("" if shown.finished or shown.mean == "–" else "lost")
    return tag("td", join([shown.mean, *extra], ""), class_=kind)


def _caption(title: str, text: str, point: GridPoint) -> Html:
    where = f" {point.title}." if point.title else ""
    return join([tag("b", f"{title}{where} "), text], "")


def _aggregated(points: list[GridPoint]) -> list[Html]:
    blocks = []
    for point in points:
        shape = pivot(point)
        spread = "Mean over seeds, below it the lowest and the highest seed" if shape.has_spread else "One seed"
        text = f"{spread}; bold is the highest arm of a size. Baselines trained on 0 tasks."
        lines = [[arm, *[_entry_cell(e) for e in entries]] for arm, entries in shape.lines]
        title = _caption("ROUGE-L on unseen tasks by number of training tasks.", text, point)
        blocks.append(table(title, ["arm", *shape.sizes], lines))
        blocks.append(details("Every metric, with similarity and coverage of each set", _every_metric(point)))
    return blocks


def _every_metric(point: GridPoint) -> Html:
    tops = {
        (name, id(c)) for name in ("rouge_l", "exact_match") for size in point.sizes for c in best(point.at(size), name)
    }
    ordered = [c for size in point.sizes for c in point.at(size)]
    ordered += [c for c in point.cells if c not in ordered]
    lines = []
    before: int | None = None
    for cell in ordered:
        # A rule above each size: arms are compared inside it.
        name = tag("th", cell.arm, scope="row", class_="start" if cell.size != before else "")
        before = cell.size
        numbers = [_entry_cell(entry(cell, name, (name, id(cell)) in tops)) for name in _METRICS]
        lines.append([name, f"{cell.num_tasks:,}", _categories(cell), f"{len(cell.done)}", *numbers])
    caption = _caption(
        "Every metric.",
        "Similarity: cosine between pairs of tasks of the set. Coverage: mean over the unseen tasks of the "
        "largest cosine to the set. Trials: how many finished.",
        point,
    )
    return table(caption, ["arm", "tasks", "categories", "trials", *_METRICS.values()], lines, class_="dense")


def _categories(cell: Cell) -> str:
    counts = cell.values("num_categories")
    if not counts:
        return "–"
    low, high = min(counts), max(counts)
    return f"{low:.0f}" if low == high else f"{low:.0f}–{high:.0f}"


def _all_trials(results: pa.Table) -> Html:
    names = columns(results)
    numeric = {f.name for f in results.schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)}

    def shown(row: Mapping[str, Any], name: str) -> Html:
        lost = "lost" if name == "status" and row[name] != "done" else ""
        kind = lost or ("" if name in numeric else "text")
        return tag("td", Html(plain(row[name], name, escape)), class_=kind)

    rows = sorted_rows(results)
    lines = [[tag("th", row[names[0]], scope="row"), *[shown(row, name) for name in names[1:]]] for row in rows]
    heads = [name if name in numeric else text_head(name) for name in names]
    caption = "All rows of results.parquet; the same are in results.csv and results.md."
    return details(f"All {counted(len(rows), 'trial')}", [table(caption, heads, lines)])


def _notes(rows: list[Row]) -> list[Html]:
    notes: dict[str, list[str]] = {}
    for row in rows:
        if row["note"]:
            notes.setdefault(row["note"], []).append(row["arm"])
    lines = []
    for note, arms in sorted(notes.items()):
        who = ", ".join(f"{arm} ×{count}" for arm, count in Counter(arms).items())
        lines.append([note, f"{len(arms):,}", tag("td", who, class_="text")])
    return [table("Notes that trials carry.", ["note", "trials", text_head("arms")], lines)] if lines else []


def _manifest(manifest: Any) -> list[Html]:
    flat = list(_flatten(manifest, ""))
    lead = ("versions", "fingerprints")
    front = [(key, value) for name in lead for key, value in flat if key.split(".")[0] == name]
    rest = [(key, value) for key, value in flat if key.split(".")[0] not in lead]
    blocks = []
    if front:
        blocks.append(table("What this run was computed with.", ["name", text_head("value")], front, class_="list"))
    if rest:
        body = table("The rest of manifest.json.", ["name", text_head("value")], rest, class_="list")
        blocks.append(details("Command, seeds and times", [body]) if front else body)
    return blocks


def _flatten(value: Any, prefix: str) -> Iterable[tuple[str, str]]:
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
