"""The bundled corpus as a source of tasks; its tasks go through the same parser as files do."""

from __future__ import annotations

from typing import Any

from simtune.corpus.demo import demo_splits, demo_tasks
from simtune.corpus.natural_instructions import parse_task
from simtune.corpus.source import TaskFile

DEMO = "demo"
DEMO_SPLIT = "default"


def open_demo(path: str) -> DemoSource | None:
    """The bundled corpus, where it is asked for by its name."""
    return DemoSource() if path == DEMO else None


class DemoSource:
    """The bundled corpus."""

    label = DEMO

    def __init__(self) -> None:
        self._tasks: dict[str, dict[str, Any]] = demo_tasks()

    def names(self) -> tuple[str, ...]:
        """All task names, sorted."""
        return tuple(sorted(self._tasks))

    def read(self, name: str, definition_only: bool = False) -> TaskFile:
        """Parses one task."""
        return parse_task(name, self._tasks[name], f"demo corpus, {name}", definition_only=definition_only)

    def file_of(self, name: str) -> str:
        """The task's name: it has no file."""
        return name

    def splits(self) -> tuple[str, ...]:
        """The one split."""
        return (DEMO_SPLIT,)

    def split(self, split: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The train and test names of the split."""
        sides = {DEMO_SPLIT: demo_splits()}[split]
        return tuple(sides["train"]), tuple(sides["test"])
