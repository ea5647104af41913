"""How long a driver took: before its trials, each trial as the driver saw it, and after them.

`timings.json` in a run's folder has it for every driver that ran trials there. `simtune plan --nodes` reads from it
what trials cost beside their own work; no result depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Literal

from simtune.errors import RunError
from simtune.progress import Display, OnProgress
from simtune.storage.files import AnyPath
from simtune.storage.records import Record, read_record_if_present, write_record
from simtune.sweep.run_files import TIMINGS
from simtune.trial.records import Amount, CountOrZero, TrialId

if TYPE_CHECKING:
    from simtune.tables import TextTable

_DIGITS = 3


class DriverTimings(Record):
    """The seconds of one driver.

    Attributes:
        before_s: from its start until it started trials.
        after_s: from the end of the last trial until its tables and its report were written.
        num_rows: of its table of results.
        trials: when each trial started and when it ended, in seconds since the driver started trials.
    """

    before_s: Amount
    after_s: Amount
    num_rows: CountOrZero
    trials: dict[TrialId, tuple[Amount, Amount]]


class Timings(Record):
    """The drivers that ran trials of a run, first to last."""

    version: Literal[1] = 1
    drivers: tuple[DriverTimings, ...]


def read_timings(run_directory: AnyPath) -> tuple[DriverTimings, ...]:
    """The timings of a run's drivers; none if none were recorded or the file is damaged."""
    try:
        found = read_record_if_present(run_directory / TIMINGS, Timings)
    except RunError:
        return ()
    return found.drivers if found else ()


class DriverClock:
    """Measures the timings of this driver, which starts now."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._first_trial: float | None = None
        self._last_trial = self._started
        self._starts: dict[str, float] = {}
        self._trials: dict[str, tuple[float, float]] = {}

    @contextmanager
    def trials(self, display: Display) -> Iterator[Display]:
        """A context manager around trials; gives a display that also notes when each of them starts and ends."""
        if self._first_trial is None:
            self._first_trial = self._clock()
        try:
            yield _TimedDisplay(display, self)
        finally:
            self._last_trial = self._clock()

    def trial_started(self, trial: str) -> None:
        """Notes that a trial starts now."""
        self._starts[trial] = self._since_first()

    def trial_ended(self, trial: str) -> None:
        """Notes that a trial ends now."""
        if trial in self._starts:
            self._trials[trial] = (self._starts[trial], self._since_first())

    def write(self, run_directory: AnyPath, num_rows: int) -> None:
        """Adds this driver to the timings of its run, if it has started trials.

        Args:
            run_directory: of the run.
            num_rows: of its table of results.
        """
        if self._first_trial is None:
            return
        timings = DriverTimings(
            before_s=round(self._first_trial - self._started, _DIGITS),
            after_s=round(self._clock() - self._last_trial, _DIGITS),
            num_rows=num_rows,
            trials=self._trials,
        )
        write_record(run_directory / TIMINGS, Timings(drivers=(*read_timings(run_directory), timings)))

    def _since_first(self) -> float:
        return round(self._clock() - (self._first_trial or 0.0), _DIGITS)


class _TimedDisplay:
    """Passes everything on, and notes when trials start and end."""

    def __init__(self, display: Display, clock: DriverClock) -> None:
        self._display, self._timings = display, clock

    def note(self, text: str) -> None:
        self._display.note(text)

    def warn(self, text: str) -> None:
        self._display.warn(text)

    def table(self, table: TextTable) -> None:
        self._display.table(table)

    def stage(self, name: str) -> AbstractContextManager[OnProgress]:
        return self._display.stage(name)

    def trials_start(self, num_missing: int, num_done: int) -> None:
        self._display.trials_start(num_missing, num_done)

    def trial_started(self, trial: str, label: str) -> None:
        self._timings.trial_started(trial)
        self._display.trial_started(trial, label)

    def trial_progress(self, trial: str, progress: dict[str, Any]) -> None:
        self._display.trial_progress(trial, progress)

    def trial_ended(self, trial: str, outcome: str) -> None:
        self._timings.trial_ended(trial)
        self._display.trial_ended(trial, outcome)
