"""What is in a corpus and what is wrong with it: `simtune data check`.

One task is read at a time and only counts, names and problems are kept, so a corpus of gigabytes needs no more memory
than its largest file.
"""

from __future__ import annotations

import hashlib
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Literal

from simtune.corpus.normalised_text import clean
from simtune.corpus.registry import open_corpus
from simtune.corpus.source import CorpusSource
from simtune.errors import CorpusError
from simtune.wording import counted

MINIMA = (50, 100, 200, 500, 1000)
"""Thresholds whose effect is shown; 100 is the study's."""

_EDGES = (0, 1, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_EXCERPT = 120


@dataclass(frozen=True, slots=True)
class FoundProblem:
    """A problem of a file; `position` is a field, or a line, or a byte, or empty."""

    severity: Literal["error", "warning"]
    file: str
    position: str
    message: str

    @property
    def location(self) -> str:
        return f"{self.file}, {self.position}" if self.position else self.file

    @property
    def pattern(self) -> str:
        """What similar problems have in common: the field without its index, the message without its values."""
        field = "" if re.match(r"(line|byte) \d", self.position) else re.sub(r"\d+", "#", self.position)
        message = re.sub(r"'[^']*'|\"[^\"]*\"", "'…'", self.message)
        return f"{field}: {message}" if field else message


@dataclass(frozen=True, slots=True)
class SplitCheck:
    """One split against what is on disk.

    Attributes:
        num_train_missing: named train tasks that are not on disk.
        num_unused: tasks on disk that the split names nowhere.
        num_leaked: train tasks whose definition is also that of a test task.
        train_left_by_minimum: minimum of instances -> train tasks that have them.
    """

    name: str
    num_train: int
    num_train_missing: int
    num_test: int
    num_test_missing: int
    num_unused: int
    num_leaked: int
    train_left_by_minimum: dict[int, int]


@dataclass(frozen=True, slots=True)
class Bin:
    """Tasks with `low` to `high` instances, both included; `high` is None in the last, open bin."""

    low: int
    high: int | None
    num_tasks: int

    @property
    def label(self) -> str:
        if self.high is None:
            return f"{self.low:,}+"
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,}–{self.high:,}"


@dataclass(frozen=True, slots=True)
class SharedDefinition:
    """Tasks with the same definition, but for case and white space; its first characters as an excerpt."""

    excerpt: str
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class CorpusCheck:
    """What reading a whole corpus found. Counts per name are sorted, the largest first."""

    corpus: str
    num_files: int
    instances_per_task: dict[str, int] = field(repr=False)
    """Instances of each readable task."""
    categories: dict[str, int]
    input_languages: dict[str, int]
    output_languages: dict[str, int]
    splits: tuple[SplitCheck, ...]
    shared_definitions: tuple[SharedDefinition, ...]
    problems: tuple[FoundProblem, ...]
    """Errors first; within each severity splits first, then in the order of files."""

    @property
    def num_tasks(self) -> int:
        return len(self.instances_per_task)

    @property
    def num_unreadable(self) -> int:
        return self.num_files - self.num_tasks

    @property
    def num_instances(self) -> int:
        return sum(self.instances_per_task.values())

    @property
    def num_errors(self) -> int:
        return sum(problem.severity == "error" for problem in self.problems)

    @property
    def histogram(self) -> tuple[Bin, ...]:
        """The study's Fig. 2: tasks by number of instances, without the empty bins at either end."""
        return histogram(self.instances_per_task.values())

    @property
    def left_by_minimum(self) -> dict[int, int]:
        return _left_by_minimum(self.instances_per_task.values())

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        counts = sorted(self.instances_per_task.values())
        return {
            "corpus": clean(self.corpus),
            "num_files": self.num_files,
            "num_tasks": self.num_tasks,
            "num_unreadable": self.num_unreadable,
            "num_instances": self.num_instances,
            "num_categories": len(self.categories),
            "num_single_task_categories": num_single_task(self.categories),
            "categories": self.categories,
            "input_languages": self.input_languages,
            "output_languages": self.output_languages,
            "instances_per_task": {
                "min": counts[0] if counts else None,
                "median": statistics.median(counts) if counts else None,
                "max": counts[-1] if counts else None,
                "histogram": [
                    {"from": shown.low, "to": shown.high, "num_tasks": shown.num_tasks} for shown in self.histogram
                ],
                "tasks_left_by_minimum": _with_text_keys(self.left_by_minimum),
            },
            "splits": [
                asdict(split) | {"train_left_by_minimum": _with_text_keys(split.train_left_by_minimum)}
                for split in self.splits
            ],
            "shared_definitions": [asdict(shared) for shared in self.shared_definitions],
            "num_errors": self.num_errors,
            "num_warnings": len(self.problems) - self.num_errors,
            "problems": [asdict(problem) for problem in self.problems],
        }


def histogram(counts: Iterable[int]) -> tuple[Bin, ...]:
    """Bins with edges at 1, 2 and 5 times powers of ten (instances per task span three orders of magnitude)."""
    highs = [high - 1 for _, high in pairwise(_EDGES)]
    filled: Counter[int] = Counter()
    for count in counts:
        filled[sum(count > high for high in highs)] += 1
    if not filled:
        return ()
    return tuple(
        Bin(_EDGES[index], highs[index] if index < len(highs) else None, filled[index])
        for index in range(min(filled), max(filled) + 1)
    )


def check_corpus(path: str, on_progress: Callable[[int, int], None]) -> CorpusCheck:
    """Reads every task file and every split of a corpus.

    Args:
        path: a folder, or `demo`.
        on_progress: called with files read and files in all.

    Raises:
        CorpusError: there is no corpus; what is wrong *inside* one is reported, not raised.
    """
    source = open_corpus(path)
    names = source.names()
    counts = _Counts()
    for done, name in enumerate(names):
        on_progress(done, len(names))
        counts.add(source, name)
    on_progress(len(names), len(names))
    splits, split_problems = _check_splits(source, set(names), counts)
    return CorpusCheck(
        corpus=source.label,
        num_files=len(names),
        instances_per_task=counts.instances,
        categories=_by_count(counts.categories),
        input_languages=_by_count(counts.inputs),
        output_languages=_by_count(counts.outputs),
        splits=splits,
        shared_definitions=counts.shared_definitions(),
        problems=tuple(sorted(split_problems + counts.problems, key=lambda problem: problem.severity)),
    )


@dataclass
class _Counts:
    """What is counted while a corpus is read; the tasks themselves are not kept.

    Attributes:
        instances: of each readable task.
        definitions: the hash of each readable task's definition, but for case and white space.
        excerpts: the beginning of each of these definitions.
    """

    instances: dict[str, int] = field(default_factory=dict)
    categories: Counter[str] = field(default_factory=Counter)
    inputs: Counter[str] = field(default_factory=Counter)
    outputs: Counter[str] = field(default_factory=Counter)
    definitions: dict[str, bytes] = field(default_factory=dict)
    excerpts: dict[bytes, str] = field(default_factory=dict)
    problems: list[FoundProblem] = field(default_factory=list)

    def add(self, source: CorpusSource, name: str) -> None:
        """Reads and counts one task."""
        file = source.read(name)
        of_corpus = clean(source.file_of(name))
        self.problems += [
            FoundProblem(problem.severity, of_corpus, clean(problem.position), clean(problem.message))
            for problem in file.problems
        ]
        if (task := file.task) is None:
            return
        name = clean(name)
        self.instances[name] = len(task.instances)
        self.categories[task.category] += 1
        self.inputs.update(set(task.input_languages))
        self.outputs.update(set(task.output_languages))
        text = " ".join(task.definition.split())
        self.definitions[name] = key = hashlib.sha256(text.casefold().encode()).digest()
        self.excerpts.setdefault(key, clean(text[:_EXCERPT]))

    def shared_definitions(self) -> tuple[SharedDefinition, ...]:
        """The definitions that several tasks have, those of most tasks first."""
        sharing: dict[bytes, list[str]] = {}
        for name, key in self.definitions.items():
            sharing.setdefault(key, []).append(name)
        return tuple(
            SharedDefinition(self.excerpts[key], tuple(tasks))
            for key, tasks in sorted(sharing.items(), key=lambda pair: (-len(pair[1]), pair[1]))
            if len(tasks) > 1
        )


def _check_splits(
    source: CorpusSource, names: set[str], counts: _Counts
) -> tuple[tuple[SplitCheck, ...], list[FoundProblem]]:
    splits: list[SplitCheck] = []
    problems: list[FoundProblem] = []
    for split in source.splits():
        try:
            train, test = source.split(split)
        except CorpusError as error:
            # A format of another package may name no file.
            listing = error.file.removeprefix(f"{source.label}/") or f"splits/{split}"
            message = error.problem or str(error)
            problems.append(FoundProblem("error", clean(listing), clean(error.position), clean(message)))
            continue
        if overlap := sorted(set(train) & set(test)):
            message = f"{counted(len(overlap), 'task')} in both train and test ({some_names(overlap)})"
            problems.append(FoundProblem("error", clean(f"splits/{split}"), "", message))
        tested = {counts.definitions[name] for name in test if name in counts.definitions}
        splits.append(
            SplitCheck(
                name=clean(split),
                num_train=len(train),
                num_train_missing=len(set(train) - names),
                num_test=len(test),
                num_test_missing=len(set(test) - names),
                num_unused=len(names.difference(train, test)),
                num_leaked=sum(counts.definitions.get(name) in tested for name in train),
                train_left_by_minimum=_left_by_minimum(
                    counts.instances[name] for name in train if name in counts.instances
                ),
            )
        )
    return tuple(splits), problems


def _by_count(counts: Counter[str]) -> dict[str, int]:
    return {clean(name): count for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))}


def _left_by_minimum(counts: Iterable[int]) -> dict[int, int]:
    known = list(counts)
    return {minimum: sum(count >= minimum for count in known) for minimum in MINIMA}


def _with_text_keys(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(key): count for key, count in counts.items()}


def num_single_task(categories: Mapping[str, int]) -> int:
    """Categories that have one task."""
    return sum(count == 1 for count in categories.values())


def some_names(names: Sequence[str]) -> str:
    """The first names of a list, printable."""
    shown = ", ".join(map(clean, names[:3]))
    return f"{shown}, and {len(names) - 3:,} more" if len(names) > 3 else shown
