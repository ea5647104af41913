"""The time limits of a trial: `resources.trial_minutes`, and the seconds until it counts as hung.

A trial that reports progress ends at the first report beyond `trial_minutes`. One that reports none can only be ended
from outside, so its process ends itself after `seconds_until_hung`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from simtune.deadline import deadline
from simtune.errors import TrialTimeoutError
from simtune.training.engine import World
from simtune.trial.failures import record_attempt
from simtune.trial.spec import OnProgress, TrialSpec

# Two attempts up to the limit, and time between two reports of progress.
_HUNG_FACTOR, _HUNG_EXTRA_S = 2.5, 60.0


def within_time_limit(spec: TrialSpec, on_progress: OnProgress, clock: Callable[[], float]) -> OnProgress:
    """A progress function that ends a trial which takes too long."""
    minutes = spec.sweep.resources.trial_minutes
    if minutes is None:
        return on_progress
    ends = clock() + 60 * minutes

    def report_progress(values: dict[str, Any]) -> None:
        if clock() > ends:
            raise TrialTimeoutError(
                f"longer than resources.trial_minutes: {minutes:g}, at {values['phase']} {values['completed']}/"
                f"{values['total']}; raise the limit, or make the trial smaller"
            )
        on_progress(values)

    return report_progress


def seconds_until_hung(trial_minutes: float) -> float:
    """How long a trial may take without an end before it counts as hung, by its limit of minutes."""
    return 60 * trial_minutes * _HUNG_FACTOR + _HUNG_EXTRA_S


@contextmanager
def ended_when_hung(spec: TrialSpec, world: World) -> Iterator[None]:
    """Ends this process if a trial is far beyond its time limit without any progress.

    For workers that are started again: nothing else ends a collective operation that waits forever.
    """
    minutes = spec.sweep.resources.trial_minutes
    if minutes is None:
        yield
        return

    def end() -> None:
        error = TrialTimeoutError(f"hung: still running long after resources.trial_minutes: {minutes:g}")
        try:
            record_attempt(spec.directory, error, "timeout", spec.driver, host=world.host)
        finally:
            # Also if nothing could be recorded, because the executor notices that this process ended.
            os._exit(1)

    with deadline(seconds_until_hung(minutes), end):
        yield
