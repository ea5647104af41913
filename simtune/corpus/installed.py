"""A corpus of a format of an installed package, checked: a failure names the format and the task."""

from __future__ import annotations

from simtune.corpus.source import CorpusSource, TaskFile
from simtune.corpus.task import Task
from simtune.entry_points import failures_named
from simtune.errors import ExtensionError


class InstalledSource:
    """Does what another source does, and checks what that returns.

    Args:
        name: of the format.
        source: the source of the package.
    """

    def __init__(self, name: str, source: CorpusSource) -> None:
        self._what = f"corpus format {name}"
        self._source = source

    @property
    def label(self) -> str:
        """See `CorpusSource.label`."""
        with failures_named(self._what):
            return self._source.label

    def names(self) -> tuple[str, ...]:
        """See `CorpusSource.names`.

        Raises:
            ExtensionError: it failed, or the names are not sorted texts, each once.
        """
        with failures_named(f"{self._what}, names of the tasks"):
            names = tuple(self._source.names())
            in_order = all(isinstance(name, str) for name in names) and list(names) == sorted(set(names))
        if not in_order:
            raise ExtensionError(f"{self._what}: the task names are not sorted strings without duplicates")
        return names

    def read(self, name: str, definition_only: bool = False) -> TaskFile:
        """See `CorpusSource.read`.

        Raises:
            ExtensionError: it failed, or returned another task or nothing to use.
        """
        what = f"{self._what}, task {name}"
        with failures_named(what):
            file = self._source.read(name, definition_only)
        if not isinstance(file, TaskFile) or not isinstance(file.task, Task | None) or file.name != name:
            raise ExtensionError(f"{what}: returned {type(file).__name__}, which is not a TaskFile of this name")
        if file.task is not None and file.task.name != name:
            raise ExtensionError(f"{what}: returned the task {file.task.name!r}")
        if file.task is None and not any(problem.severity == "error" for problem in file.problems):
            raise ExtensionError(f"{what}: returned neither a task nor an error that says why")
        return file

    def file_of(self, name: str) -> str:
        """See `CorpusSource.file_of`."""
        with failures_named(f"{self._what}, task {name}"):
            return self._source.file_of(name)

    def splits(self) -> tuple[str, ...]:
        """See `CorpusSource.splits`."""
        with failures_named(f"{self._what}, names of the splits"):
            return tuple(self._source.splits())

    def split(self, split: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """See `CorpusSource.split`."""
        with failures_named(f"{self._what}, split {split}"):
            return self._source.split(split)
