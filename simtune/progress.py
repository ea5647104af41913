"""Where stages and trials report to while a sweep runs; what it looks like is decided in `cli/live_display.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

OnProgress = Callable[[int, int], None]


class Display(Protocol):
    """Where stages and trials report to."""

    def note(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def stage(self, name: str) -> Any:
        """A context manager around a stage; gives its `OnProgress`."""

    def trials_start(self, num_missing: int, num_done: int) -> None: ...

    def trial_started(self, trial: str, label: str) -> None: ...

    def trial_progress(self, trial: str, progress: dict[str, Any]) -> None: ...

    def trial_ended(self, trial: str, outcome: str) -> None: ...


class Quiet:
    """Says nothing; for tests and `--json`."""

    def note(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
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
