"""The check of a corpus for a terminal: short however much is wrong, with the histogram of the study's Fig. 2."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from simtune.corpus.check import MINIMA, CorpusCheck, FoundProblem, num_single_task, some_names
from simtune.corpus.normalised_text import clean
from simtune.wording import counted

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_BAR_WIDTH = 40
_MOST_NAMES = 8
_MOST_LINES = 20
_MOST_FILES = 2


def render_check(found: CorpusCheck) -> list[RenderableType]:
    """The check for a terminal: a summary, splits, the histogram, and problems by sort."""
    from rich.text import Text

    parts = [_summary(found), Text(), _splits_table(found), Text(), _histogram_table(found)]
    for severity, style in (("error", "red"), ("warning", "yellow")):
        problems = [problem for problem in found.problems if problem.severity == severity]
        if problems:
            parts += [Text(), _problem_lines(problems, severity, style)]
    if not found.problems:
        parts += [Text(), Text("no problems found", style="green")]
    return parts


def _summary(found: CorpusCheck) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    tasks = Text(f"{found.num_tasks:,}")
    if found.num_unreadable:
        tasks.append(f", and {counted(found.num_unreadable, 'file')} that cannot be used", style="red")
    lines: list[tuple[str, str | Text]] = [("corpus", clean(found.corpus)), ("tasks", tasks)]
    if counts := sorted(found.instances_per_task.values()):
        spread = f"{counts[0]:,} to {counts[-1]:,} per task, median {statistics.median(counts):,g}"
        single = f"{len(found.categories):,}, {num_single_task(found.categories):,} of them with a single task"
        lines += [
            ("instances", f"{found.num_instances:,}; {spread}"),
            ("categories", f"{single}: {_largest(found.categories)}"),
            ("input", _largest(found.input_languages)),
            ("output", _largest(found.output_languages)),
        ]
    if found.shared_definitions:
        num_tasks = sum(len(group.tasks) for group in found.shared_definitions)
        shared = (
            f"{counted(num_tasks, 'task shares its own', 'tasks share theirs')} with another, such as "
            f"{some_names(found.shared_definitions[0].tasks)}"
        )
        lines.append(("definitions", shared))
    for name, value in lines:
        table.add_row(name, value if isinstance(value, Text) else Text(value))
    return table


def _largest(counts: Mapping[str, int]) -> str:
    shown = ", ".join(f"{name} {count:,}" for name, count in list(counts.items())[:_MOST_NAMES])
    return f"{shown}, and {len(counts) - _MOST_NAMES:,} more" if len(counts) > _MOST_NAMES else shown or "not stated"


def _splits_table(found: CorpusCheck) -> RenderableType:
    from rich.text import Text

    from simtune.tables import TextTable

    table = TextTable()
    table.add_columns("tasks")
    table.add_number_columns("listed", "not on disk", *[f"≥{minimum:,}" for minimum in MINIMA])

    def row(name: str, listed: int, missing: int, left: Mapping[int, int]) -> None:
        absent = Text(f"{missing:,}" if missing else "–", style="yellow" if missing else "dim")
        table.add_row(name, f"{listed:,}", absent, *[f"{count:,}" for count in left.values()])

    row("all on disk", found.num_files, 0, found.left_by_minimum)
    for split in found.splits:
        row(f"{split.name}: train", split.num_train, split.num_train_missing, split.train_left_by_minimum)
        row(f"{split.name}: test", split.num_test, split.num_test_missing, {})
    notes = [f"≥{MINIMA[0]} and so on: tasks left with a corpus.min_instances of that many"]
    notes += [
        f"{split.name}: {counted(split.num_leaked, 'train task')} with the definition of a test task"
        for split in found.splits
        if split.num_leaked
    ]
    if not found.splits:
        notes.append("no split: hold out categories with corpus.holdout: {categories: [...]}")
    table.caption = "\n".join(notes)
    return table


def _histogram_table(found: CorpusCheck) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    bins = found.histogram
    if not bins:
        return Text("no task can be read", style="red")
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_column()
    table.add_row("instances", "tasks", "", style="bold")
    most = max(shown.num_tasks for shown in bins)
    for shown in bins:
        # A bin with one task among thousands still shows that it is not empty.
        width = max(1, round(_BAR_WIDTH * shown.num_tasks / most)) if shown.num_tasks else 0
        table.add_row(shown.label, f"{shown.num_tasks:,}", Text("█" * width, style="cyan"))
    largest = max(found.instances_per_task.values())
    num_largest = sum(count == largest for count in found.instances_per_task.values())
    if num_largest > max(1, found.num_tasks // 2):
        note = (
            f"{counted(num_largest, 'task has', 'tasks have')} exactly {largest:,} and none has more, as in a "
            "corpus cut to that number"
        )
        table.add_row("", "", Text(note, style="dim"))
    return table


def _problem_lines(problems: Sequence[FoundProblem], severity: str, style: str) -> Text:
    """About `_MOST_LINES` lines: similar problems together, those in most files first."""
    from rich.text import Text

    groups: dict[str, dict[str, list[FoundProblem]]] = {}
    for problem in problems:
        groups.setdefault(problem.pattern, {}).setdefault(problem.file, []).append(problem)
    text = Text(counted(len(problems), severity), style=f"bold {style}")
    num_lines = 0
    ordered = sorted(groups.items(), key=lambda pair: -len(pair[1]))
    for num_shown, (pattern, files) in enumerate(ordered):
        if num_lines >= _MOST_LINES:
            text.append(f"\nand {counted(len(groups) - num_shown, 'more kind')}", style="not bold")
            break
        lines = _group_lines(pattern, list(files.values()))
        text.append("".join(f"\n{line}" for line in lines), style="not bold default")
        num_lines += len(lines)
    if len(problems) > num_lines:
        text.append("\n--json lists them all", style="not bold dim default")
    return text


def _group_lines(pattern: str, files: Sequence[Sequence[FoundProblem]]) -> list[str]:
    total = sum(map(len, files))
    if total == 1:
        return [f"{files[0][0].location}: {files[0][0].message}"]
    lines = [f"{pattern} ({counted(total, 'time')} in {counted(len(files), 'file')})"]
    for group in files[:_MOST_FILES]:
        lines.append(f"    {group[0].location}" + (f", and {len(group) - 1:,} more there" if len(group) > 1 else ""))
    if len(files) > _MOST_FILES:
        lines.append(f"    and {counted(len(files) - _MOST_FILES, 'more file')}")
    return lines
