"""Where tasks come from: a folder of task files, or the bundled demo corpus.

A source lists names and reads one task at a time: a full collection holds gigabytes of instances of which a study
draws a hundred a task, so no more than one task is in memory whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from simtune.corpus.natural_instructions import TaskFile, parse_task, read_task_file
from simtune.corpus.task import name_flaw
from simtune.errors import CorpusError, shown
from simtune.outside_files import MIB, read_outside, refuse_leaving, visible

_LARGEST_LIST = 256 * MIB


class CorpusSource(Protocol):
    """Named task files and named splits of them."""

    @property
    def label(self) -> str:
        """What messages call it."""

    def names(self) -> tuple[str, ...]:
        """All task names, sorted."""

    def read(self, name: str, definition_only: bool = False) -> TaskFile:
        """Reads one task, for its definition alone if so asked; never raises for what its file holds."""

    def split(self, split: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The train and test names of a split; they may name tasks that are not here."""


def open_corpus(path: str) -> CorpusSource:
    """Opens `demo` or a folder.

    Raises:
        CorpusError: there is no such folder, or no task file in it.
    """
    if path == "demo":
        from simtune.corpus.demo import demo_splits, demo_tasks

        return DemoSource(demo_tasks(), demo_splits())
    return FolderSource.open(Path(path))


@dataclass(frozen=True)
class FolderSource:
    """A folder with `tasks/*.json` and `splits/<name>/{train,test}_tasks.txt`, or just task files."""

    root: Path
    tasks: Path
    label: str = field(default="")

    @classmethod
    def open(cls, root: Path) -> FolderSource:
        if not root.is_dir():
            raise CorpusError(
                f"{root}: {'not a folder' if root.exists() else 'no such folder'}. Give corpus.path a folder of task "
                "files, fetch one with `simtune data fetch natural-instructions`, or use `demo`"
            )
        tasks = root / "tasks" if (root / "tasks").is_dir() else root
        try:
            refuse_leaving(tasks, root)
        except OSError as error:
            raise CorpusError(f"{tasks}: cannot be read ({error.strerror})") from None
        if next(visible(tasks.glob("*.json")), None) is None:
            raise CorpusError(f"{tasks}: holds no task file (*.json)")
        return cls(root, tasks, str(root))

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(path.name.removesuffix(".json") for path in visible(self.tasks.glob("*.json"))))

    def read(self, name: str, definition_only: bool = False) -> TaskFile:
        return read_task_file(self.tasks / f"{name}.json", definition_only=definition_only, root=self.root)

    def split(self, split: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        folder = self.root / "splits" / split
        if not folder.is_dir():
            known = self.splits()
            hint = (
                f"known splits: {', '.join(known)}"
                if known
                else ("there is none; hold out whole categories instead: corpus.holdout: {categories: [...]}")
            )
            raise CorpusError(f"{folder}: no such split (corpus.holdout.split: {split}); {hint}")
        train, test = (read_task_list(folder / f"{part}_tasks.txt", self.root) for part in ("train", "test"))
        return train, test

    def splits(self) -> tuple[str, ...]:
        """Names of the splits, sorted."""
        return tuple(sorted(path.name for path in visible((self.root / "splits").glob("*")) if path.is_dir()))


@dataclass(frozen=True)
class DemoSource:
    """The bundled corpus; it goes through the same parser as files do."""

    tasks: dict[str, dict[str, Any]]
    splits: dict[str, list[str]]
    label: str = "demo"

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.tasks))

    def read(self, name: str, definition_only: bool = False) -> TaskFile:
        return parse_task(name, self.tasks[name], f"demo corpus, {name}", definition_only=definition_only)

    def split(self, split: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if split != "default":
            raise CorpusError(f"corpus.holdout.split: the demo corpus has no split {split!r}, only 'default'")
        return tuple(self.splits["train"]), tuple(self.splits["test"])


def read_task_list(path: Path, root: Path | None = None) -> tuple[str, ...]:
    """Reads a split list: one task name a line, blank lines left out.

    Args:
        path: of the list.
        root: the folder it belongs to; no link may lead out of it.

    Raises:
        CorpusError: missing, no regular file, not text, a path instead of a name, a name twice, or no names; with file
            and line.
    """
    try:
        text = read_outside(path, _LARGEST_LIST, root).decode("utf-8-sig")
    except FileNotFoundError:
        raise CorpusError(f"{path}: no such split list") from None
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}, byte {error.start}: not UTF-8 text") from None
    names: dict[str, int] = {}
    for number, name in _numbered_names(text):
        if "/" in name or "\\" in name or name.startswith(".") or name_flaw(name):
            raise CorpusError(f"{path}, line {number}: {shown(name)} is not a task name")
        if name in names:
            raise CorpusError(f"{path}, line {number}: duplicate task name {shown(name)}, first on line {names[name]}")
        names[name] = number
    if not names:
        raise CorpusError(f"{path}: names no task")
    return tuple(names)


def _numbered_names(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        name = line.strip().removesuffix(".json")
        if name:
            yield number, name
