"""The headline scores as a table for a paper: LaTeX with booktabs, and Markdown.

A cell is the mean over seeds with its interval. The best of a size is bold; a dagger marks arms that cannot be told
apart from it, and a letter those that are not better than a baseline, all with Holm's correction.
"""

from __future__ import annotations

from dataclasses import dataclass

from simtune.report.marks import marks_of
from simtune.report.results_view import GridPoint, one_line
from simtune.report.statistics.records import Covers, PointStatistics
from simtune.report.statistics.wording import over
from simtune.report.tables import Pivot, markdown_text, pivot
from simtune.wording import counted

_DAGGER = "†"
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
    **{_DAGGER: r"\dag{}", "–": "--", "−": "$-$", "→": r"$\rightarrow$", "“": "``", "”": "''", "<": r"\textless{}"},
    **{">": r"\textgreater{}", "…": r"\ldots{}", "|": r"\textbar{}"},
}


@dataclass(frozen=True)
class PaperCell:
    """One mean."""

    mean: str
    interval: str
    marks: str
    is_best: bool


@dataclass(frozen=True)
class PaperTable:
    """Arms against numbers of training tasks, at one grid point."""

    title: str
    headings: tuple[str, ...]
    lines: tuple[tuple[str, tuple[PaperCell | None, ...]], ...]
    notes: str


def paper_table(point: GridPoint, found: PointStatistics) -> PaperTable:
    """The table of a grid point."""
    metric = point.headline
    shape = pivot(point, metric)
    marks = marks_of(found, 1)
    baselines = {arm: chr(ord("a") + number) for number, arm in enumerate(_baselines(found))}
    lines = tuple(
        (
            arm,
            tuple(
                None
                if entry is None
                else PaperCell(
                    mean=entry.mean,
                    interval=marks[arm, size].interval if (arm, size) in marks else "",
                    marks=_marks(found, baselines, (arm, size), (arm, size) in marks and marks[arm, size].is_near_best),
                    is_best=entry.is_best,
                )
                for entry, size in zip(entries, _sizes(point, arm, shape), strict=True)
            ),
        )
        for arm, entries in shape.lines
    )
    title = one_line(metric.title) + " on unseen tasks by number of training tasks"
    title += f", {one_line(point.title)}" if point.title else ""
    return PaperTable(title, tuple(heading.label for heading in shape.columns), lines, _notes(found, baselines))


def _sizes(point: GridPoint, arm: str, shape: Pivot) -> list[int | None]:
    """The size of an arm's cell in each column; a baseline has none."""
    own = {cell.size for cell in point.cells if cell.arm == arm}
    return [heading.size if heading.size in own else None for heading in shape.columns]


def _baselines(found: PointStatistics) -> list[str]:
    """Those that not every trained arm beats."""
    unbeaten = {
        c.second.arm: None
        for c in found.comparisons
        if c.family.startswith("baseline ") and c.interval is not None and c.better != "first"
    }
    return list(unbeaten)


def _marks(found: PointStatistics, baselines: dict[str, str], arm: tuple[str, int | None], is_near_best: bool) -> str:
    letters = [
        baselines[c.second.arm]
        for c in found.comparisons
        if c.second.arm in baselines and (c.first.arm, c.first.size) == arm and c.better != "first"
    ]
    return (_DAGGER if is_near_best else "") + "".join(sorted(letters))


def _notes(found: PointStatistics, baselines: dict[str, str]) -> str:
    seeds = counted(found.num_seeds, "seed")
    notes = [f"Mean over {seeds}." if found.num_seeds > 1 else "One seed.", "Bold: best mean of a size."]
    if found.num_test_tasks:
        covers: Covers = "test tasks and seeds" if found.num_seeds > 1 else "test tasks"
        notes.append(
            f"In brackets: 95 % interval over {over(covers)}, a bootstrap of "
            f"{counted(found.num_test_tasks, 'test task')}. {_DAGGER}: cannot be told "
            f"apart from the best of its size (paired, Holm's correction, level 0.05)."
        )
        notes += [f"{letter}: not better than {one_line(arm)}." for arm, letter in baselines.items()]
    return " ".join(notes)


def latex(table: PaperTable) -> str:
    """A table environment that needs the package booktabs."""
    columns = "l" + "r" * len(table.headings)
    body = []
    for arm, cells in table.lines:
        body.append(" & ".join([_escaped(arm), *map(_latex_mean, cells)]) + r" \\")
        if any(cell and cell.interval for cell in cells):
            intervals = [rf"{{\scriptsize [{_escaped(c.interval)}]}}" if c and c.interval else "" for c in cells]
            body.append(" & ".join(["", *intervals]) + r" \\")
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escaped(table.title)}. {_escaped(table.notes)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(["arm", *map(_escaped, table.headings)]) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _latex_mean(cell: PaperCell | None) -> str:
    if cell is None:
        return ""
    mean = _escaped(cell.mean)
    mean = rf"\textbf{{{mean}}}" if cell.is_best else mean
    return mean + (rf"\textsuperscript{{{_escaped(cell.marks)}}}" if cell.marks else "")


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in one_line(text, 1000))


def markdown(table: PaperTable) -> str:
    """A GitHub table with its title above it and its notes below it."""
    lines = [
        f"**{markdown_text(table.title)}**",
        "",
        "| arm | " + " | ".join(table.headings) + " |",
        "| --- |" + " ---: |" * len(table.headings),
    ]
    lines += [
        f"| {markdown_text(arm)} | " + " | ".join(map(_markdown_cell, cells)) + " |" for arm, cells in table.lines
    ]
    return "\n".join([*lines, "", markdown_text(table.notes), ""])


def _markdown_cell(cell: PaperCell | None) -> str:
    if cell is None:
        return ""
    mean = f"**{markdown_text(cell.mean)}**" if cell.is_best else markdown_text(cell.mean)
    marks = f"<sup>{cell.marks}</sup>" if cell.marks else ""
    return f"{mean}{marks}" + (f" [{cell.interval}]" if cell.interval else "")
