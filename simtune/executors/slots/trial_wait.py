"""What is said of a trial that waits for its workers to start, and when it is left out; plain values, without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from simtune.executors.hosts.host_wait import NOTED_AFTER_S
from simtune.wording import duration


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
        self._reported = ""
        self._turn_since: float | None = None

    def report(self, waited_s: float) -> dict[str, Any] | None:
        """What to report to Tune: once for each wait that it lasts, and at its limit that the trial is left out.

        Args:
            waited_s: how long this wait has lasted so far; 0 while there are workers.
        """
        self._turn_since = None
        return self._report(self._resources, waited_s, f"{self._resources} was not free for {duration(waited_s)}")

    def report_turn(self) -> dict[str, Any] | None:
        """What to report of a trial that may have no workers yet, likewise."""
        now = self._clock()
        if self._turn_since is None:
            self._turn_since = now
        waited_s = now - self._turn_since
        reason = f"its sweep's turn on the cluster did not come for {duration(waited_s)}"
        return self._report("its turn on the cluster", waited_s, reason)

    def _report(self, what: str, waited_s: float, reason: str) -> dict[str, Any] | None:
        report = {"phase": f"waiting for {what}", "completed": 0, "total": 0, "since": time.time() - waited_s}
        if waited_s >= self._limit_s:
            return report | {"done": True, "left_out": reason}
        if waited_s < NOTED_AFTER_S:
            self._reported = ""
            return None
        if self._reported == what:
            return None
        self._reported = what
        return report
