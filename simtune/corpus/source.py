"""What a corpus is to the rest of simtune: named tasks and named splits of them, whatever format its files have.

A source lists names and reads one task at a time: a full collection has gigabytes of instances of which a sweep draws
a hundred a task, so no more than one whole task is in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from simtune.corpus.task import Task
from simtune.errors import CorpusError


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a task file.

    Attributes:
        file: what messages call the file.
        position: a field, a line or a byte in it, such as `Instances[4].output`; may be empty.
        severity: an `error` makes the task unusable; a `warning` does not.
    """

    file: str
    position: str
    message: str
    severity: Literal["error", "warning"]

    @property
    def where(self) -> str:
        """File and position."""
        return f"{self.file}, {self.position}" if self.position else self.file

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True, slots=True)
class TaskFile:
    """What reading one file gave: a task, or the problems that prevent it."""

    name: str
    task: Task | None
    problems: tuple[Problem, ...]


class CorpusSource(Protocol):
    """Named task files and named splits of them."""

    @property
    def label(self) -> str:
        """What messages call the corpus."""

    def names(self) -> tuple[str, ...]:
        """All task names, sorted."""

    def read(self, name: str, definition_only: bool = False) -> TaskFile:
        """Reads one task; never raises for what its file contains.

        Args:
            name: the task's name.
            definition_only: leaves the instances out, where the definition alone is needed.
        """

    def file_of(self, name: str) -> str:
        """The task's file as seen from the corpus, for reports."""

    def splits(self) -> tuple[str, ...]:
        """The names of the splits, sorted."""

    def split(self, split: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The train and test names of one of the splits; they may name tasks that are not here.

        Raises:
            CorpusError: its lists are wrong.
        """


def read_split(source: CorpusSource, split: str, field: str = "") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The train and test names of a split that a user names.

    Args:
        source: the corpus.
        split: what it may call a split.
        field: of the sweep file, where the name comes from it.

    Raises:
        CorpusError: there is no such split, or its lists are wrong.
    """
    known = source.splits()
    if split not in known:
        there = (
            f"known splits: {', '.join(known)}"
            if known
            else "there is none; hold out whole categories instead: corpus.holdout: {categories: [...]}"
        )
        raise CorpusError(f"{source.label}: no such split {split!r}; {there}", field=field)
    return source.split(split)
