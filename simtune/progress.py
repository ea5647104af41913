"""The interface to which stages and trials report while a sweep runs; `cli/live_display.py` shows it on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from simtune.tables import TextTable

OnProgress = Callable[[int, int], None]
"""Called with the number of items that are done and the total."""


class Display(Protocol):
    """Receives the progress of stages and trials."""

    def note(self, text: str) -> None:
        """Shows a line of information."""

    def warn(self, text: str) -> None:
        """Shows a warning."""

    def table(self, table: TextTable) -> None:
        """Shows a table."""

    def stage(self, name: str) -> AbstractContextManager[OnProgress]:
        """A context manager around a stage that gives its `OnProgress`."""

    def trials_start(self, num_missing: int, num_done: int) -> None:
        """Called before the first trial, with the number of trials to run and of those that have their results."""

    def trial_started(self, trial: str, label: str) -> None:
        """Called when a trial starts."""

    def trial_progress(self, trial: str, progress: dict[str, Any]) -> None:
        """Called with `phase`, `completed`, `total` and, in training, `loss`."""

    def trial_ended(self, trial: str, outcome: str) -> None:
        """Called when a trial has ended, with a few words on its outcome."""


class Quiet:
    """Shows nothing."""

    def note(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        pass

    def table(self, table: TextTable) -> None:
        pass

    @contextmanager
    def stage(self, name: str) -> Iterator[OnProgress]:
        yield lambda done, total: None

    def trials_start(self, num_missing: int, num_done: int) -> None:
        pass

    def trial_started(self, trial: str, label: str) -> None:
        pass

    def trial_progress(self, trial: str, progress: dict[str, Any]) -> None:
        pass

    def trial_ended(self, trial: str, outcome: str) -> None:
        pass
