"""A line on the terminal for a trial that makes no step any more, and one when it goes on.

A worker that is stopped, or waits forever for a file system, neither ends nor reports. It may still go on, so the trial
does not fail for that.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simtune.executors.ray_tune_callbacks import LooksAround
from simtune.progress import Display

# A step may take this many times as long as the longest one before; a minute is no reason to worry.
_SLOWER, _LEAST_S = 10.0, 60.0
# For the first steps of training or of scoring, before which models are loaded or saved.
_UNKNOWN_S = 300.0


@dataclass
class _Watched:
    """What is known of the speed of a running trial.

    Attributes:
        values: what it reported last; empty before its first report.
        since: when that was, as a time of day.
        silent_s: how long ago that is, while this process ran.
        longest_s: the longest time between two reports of the same phase; None before the second one.
        is_told: whether the user knows that it makes no step.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    since: str = field(default_factory=lambda: time.strftime("%H:%M:%S"))
    silent_s: float = 0.0
    longest_s: float | None = None
    is_told: bool = False

    @property
    def limit_s(self) -> float:
        """How long it may be silent."""
        is_last = self.values.get("completed") == self.values.get("total")
        return _UNKNOWN_S if self.longest_s is None or is_last else max(_LEAST_S, _SLOWER * self.longest_s)

    def after(self, values: Mapping[str, Any]) -> _Watched:
        """The state after a report."""
        same = all(values.get(key) == self.values.get(key) for key in ("phase", "worker"))
        return _Watched(values, longest_s=max(self.silent_s, self.longest_s or 0.0) if same else None)


class ReportStalledTrials(LooksAround):
    """Reports trials that have made no step for much longer than their own steps take."""

    every_s = 1.0

    def __init__(self, labels: Mapping[str, str], display: Display) -> None:
        """Knows no trial yet.

        Args:
            labels: what users call trials, by their ids.
            display: where trials are reported.
        """
        super().__init__()
        self._labels = labels
        self._display = display
        self._trials: dict[str, _Watched] = {}
        self._last = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: object) -> None:
        self._trials[trial.config["trial"]] = _Watched()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: object
    ) -> None:
        name = trial.config["trial"]
        if "phase" not in result or name not in self._trials:
            return
        before = self._trials[name]
        if before.is_told:
            self._display.note(f"{self._labels[name]}: goes on after {before.silent_s:.0f} s without a step")
        self._trials[name] = before.after(result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: object) -> None:
        self._trials.pop(trial.config["trial"], None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: object) -> None:
        self._trials.pop(trial.config["trial"], None)

    def look(self) -> None:
        """Counts how long each trial has been silent."""
        # This process itself may have been stopped (Ctrl-Z).
        passed_s, self._last = min(time.monotonic() - self._last, 5 * self.every_s), time.monotonic()
        for name, watched in self._trials.items():
            if str(watched.values.get("phase", "")).startswith("waiting"):
                continue
            watched.silent_s += passed_s
            if not watched.is_told and watched.silent_s >= watched.limit_s:
                watched.is_told = True
                self._display.warn(f"{self._labels[name]}: {_silent(watched)}")


def _silent(watched: _Watched) -> str:
    values = watched.values
    if "worker" not in values:
        return (
            f"started at {watched.since} and has made no step yet. Look at its workers (`ps`, `ray list actors`): one "
            "may be stopped, or wait for a file system"
        )
    return (
        f"no step since {watched.since} ({values['phase']} {values['completed']}/{values['total']}). Its first worker "
        f"is {values['worker']}: if it is stopped, `kill -CONT` continues it; if it hangs, `kill -KILL` ends it, and "
        "the trial continues on new workers from its last checkpoint"
    )
