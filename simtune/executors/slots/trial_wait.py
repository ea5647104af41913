"""What is said of a trial that waits for its workers to start, and when it is left out; plain values, without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

# Workers that fit have started by then, even on a busy machine; until then a wait is not worth a message.
_REPORTED_AFTER_S = 30.0


class TrialWait:
    """The waits of one trial: the first for its workers, and one after each loss of them."""

    def __init__(self, resources: str, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Before the first trial.

        Args:
            resources: what the trial waits for, in words.
            limit_s: after which it is left out.
            clock: in seconds.
        """
        self._resources = resources
        self._limit_s = limit_s
        self._clock = clock
        self.start()

    def start(self) -> None:
        """Starts with another trial."""
        self._is_reported = False
        self._turn_since: float | None = None

    def report(self, waited_s: float) -> dict[str, Any] | None:
        """What to report to Tune: once for each wait that it lasts, and at its limit that the trial is left out.

        Args:
            waited_s: how long this wait has lasted so far; 0 while there are workers.
        """
        if waited_s < _REPORTED_AFTER_S:
            self._is_reported = False
            return None
        report = _phase(f"waiting for {self._resources}")
        if waited_s >= self._limit_s:
            return report | {"done": True, "left_out": f"{self._resources} was not free for {waited_s / 60:.0f} min"}
        if self._is_reported:
            return None
        self._is_reported = True
        return report

    def report_turn(self) -> dict[str, Any] | None:
        """What to report of a trial that may have no workers yet: once, and without a limit."""
        now = self._clock()
        if self._turn_since is None:
            self._turn_since = now
        if self._is_reported or now - self._turn_since < _REPORTED_AFTER_S:
            return None
        self._is_reported = True
        return _phase("waiting for its turn on the cluster")


def _phase(text: str) -> dict[str, Any]:
    return {"phase": text, "completed": 0, "total": 0}
