"""What happens around Tune's steps: trials are shown, and their number at once follows the sweep's share."""

from __future__ import annotations

import contextlib
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.search.basic_variant import BasicVariantGenerator

from simtune.errors import SimtuneError
from simtune.executors.base import Job, describe_outcome
from simtune.executors.hosts.ray_preflight import NewHosts
from simtune.executors.sharing.ray_share import Share
from simtune.progress import Display
from simtune.wording import time_of_day


class LooksAround(tune.Callback):
    """Looks from time to time, while trials run. The driver's objects do not go into Tune's own record of its state."""

    every_s = 5.0

    def __init__(self) -> None:
        self._looked = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: object) -> None:
        if time.monotonic() - self._looked >= self.every_s:
            self._looked = time.monotonic()
            self.look()

    @abstractmethod
    def look(self) -> None:
        """What is done each time."""


class FollowShare(LooksAround):
    """Keeps the number of trials at once equal to the sweep's share, as hosts and other sweeps come and go."""

    every_s = 1.0

    def __init__(self, grid: BasicVariantGenerator, trial_slots: Any, share: Share) -> None:
        """Sets the number that holds now.

        Args:
            grid: gives Tune its trials.
            trial_slots: the actor that runs `TrialSlots`.
            share: of the sweep.
        """
        super().__init__()
        self._grid, self._trial_slots, self._share = grid, trial_slots, share
        self._limit: int | None = None
        self.look()

    def look(self) -> None:
        """Asks for the share."""
        limit = self._share.limit()
        if limit != self._limit:
            self._limit = limit
            self._trial_slots.set_limit.remote(limit)
            # At least one, since Tune takes 0 for no limit; without a turn, it waits in its slot.
            self._grid.max_concurrent = max(1, limit)


class AskForHosts(LooksAround):
    """Asks for hosts for all trials that may run at once and have not ended, so that a cluster grows and shrinks."""

    every_s = 30.0

    def __init__(self, num_trials: int, most_at_once: int, ask: Callable[[int], object]) -> None:
        """Asks for the first time.

        Args:
            num_trials: of the sweep.
            most_at_once: how many of them may run at once.
            ask: asks for hosts for that many trials.
        """
        super().__init__()
        self._left, self._most, self._ask = num_trials, most_at_once, ask
        self.look()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: object, **info: object) -> None:
        self._left -= 1

    def on_trial_error(self, iteration: int, trials: list[Any], trial: object, **info: object) -> None:
        self._left -= 1

    def on_experiment_end(self, trials: list[Any], **info: object) -> None:
        self._ask(0)

    def look(self) -> None:
        """Asks again, since another sweep that ends withdraws what all have asked for."""
        # None are left while trials are tried again on other hosts, whose own requests stand.
        self._ask(max(0, min(self._left, self._most)))


class WarnOfNewHosts(LooksAround):
    """Warns of hosts that join the cluster and on which trials would fail."""

    def __init__(self, new_hosts: NewHosts, display: Display) -> None:
        super().__init__()
        self._new_hosts = new_hosts
        self._display = display

    def look(self) -> None:
        """Checks hosts that have joined since."""
        # A storage that does not answer for a moment: trials wait for it, and the hosts are asked at the next look.
        with contextlib.suppress(SimtuneError, OSError):
            for line in self._new_hosts.look():
                self._display.warn(f"{line}. Until then trials fail on it")

    def on_experiment_end(self, trials: list[Any], **info: object) -> None:
        self._new_hosts.close()


class DisplayTrials(tune.Callback):
    """Reports to the display what Tune's trials do.

    Attributes:
        left_out: why trials were not run, by their ids.
    """

    def __init__(self, jobs: dict[str, Job], display: Display) -> None:
        self._jobs = jobs
        self._display = display
        self._failures: dict[str, int] = {}
        self._failed_on: dict[str, str] = {}
        self._waiting: dict[str, str] = {}
        self.left_out: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Tune saves its callbacks with the experiment, which is never restored; a live display cannot be pickled.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        job = self._jobs[trial.config["trial"]]
        self._display.trial_started(job.spec.id, job.label)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        job = self._jobs[trial.config["trial"]]
        failures = result.get("failures", 0)
        if failures > self._failures.get(job.spec.id, 0):
            self._failures[job.spec.id] = failures
            self._display.warn(f"{job.label}: its workers were lost and restarted (attempt {failures + 1})")
        if "phase" in result:
            self._display.trial_progress(job.spec.id, result)
            self._note_waiting(job, result["phase"], result.get("since", 0.0))
        if "failed_on" in result:
            self._failed_on[job.spec.id] = result["failed_on"]
        if "left_out" in result:
            self.left_out[job.spec.id] = f"left out: {result['left_out']}"

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: object, **info: object) -> None:
        self._ended(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: object, **info: object) -> None:
        self._ended(trial)

    def _ended(self, trial: Any) -> None:
        job = self._jobs[trial.config["trial"]]
        self._waiting.pop(job.spec.id, None)
        host = self._failed_on.pop(job.spec.id, "")
        if host:
            self._display.warn(
                f"{job.label}: failed on {host}; it will be tried once on another host, after the others"
            )
            self._display.trial_progress(job.spec.id, {"phase": "waits for another host", "completed": 0, "total": 0})
            return
        self._display.trial_ended(job.spec.id, self.left_out.get(job.spec.id) or describe_outcome(job.spec))

    def _note_waiting(self, job: Job, phase: str, since: float) -> None:
        """Shows one line for all trials that wait for the same at the same time, `since` in seconds since 1970."""
        if not phase.startswith("waiting"):
            self._waiting.pop(job.spec.id, None)
            return
        if phase not in self._waiting.values():
            self._display.note(f"{job.label}: {phase} since {time_of_day(since)}; others may be, too")
        self._waiting[job.spec.id] = phase
