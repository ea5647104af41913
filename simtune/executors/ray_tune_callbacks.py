"""What happens around Tune's steps: trials are shown, and their number at once follows the hosts of the cluster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.search.basic_variant import BasicVariantGenerator

from simtune.errors import SimtuneError
from simtune.executors.base import Job, describe_outcome
from simtune.executors.ray_preflight import NewHosts
from simtune.progress import Display

_LOOK_EVERY_S = 5.0


class FollowHosts(tune.Callback):
    """Keeps the number of trials at once equal to what fits on the hosts that are there."""

    def __init__(self, grid: BasicVariantGenerator, num_fitting: Callable[[], int]) -> None:
        self._grid = grid
        self._num_fitting = num_fitting
        self._looked = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if time.monotonic() - self._looked < _LOOK_EVERY_S:
            return
        self._looked = time.monotonic()
        # At least one: its request for a host is what an autoscaler acts on.
        self._grid.max_concurrent = max(1, self._num_fitting())


class WarnOfNewHosts(tune.Callback):
    """Warns of hosts that join the cluster and on which trials would fail."""

    def __init__(self, new_hosts: NewHosts, display: Display) -> None:
        self._new_hosts = new_hosts
        self._display = display
        self._looked = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if time.monotonic() - self._looked < _LOOK_EVERY_S:
            return
        self._looked = time.monotonic()
        # A storage that does not answer for a moment: trials wait for it, and the hosts are asked at the next look.
        with contextlib.suppress(SimtuneError):
            for line in self._new_hosts.look():
                self._display.warn(f"{line}. Until then trials fail on it")

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self._new_hosts.close()


class DisplayTrials(tune.Callback):
    """Reports to the display what Tune's trials do."""

    def __init__(self, jobs: dict[str, Job], display: Display) -> None:
        self._jobs = jobs
        self._display = display
        self._attempts: dict[str, int] = {}
        self._noted: set[str] = set()
        self._left_out: dict[str, str] = {}

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
        attempts = result.get("attempts", 1)
        if attempts > self._attempts.get(job.spec.id, 1):
            self._attempts[job.spec.id] = attempts
            self._display.warn(f"{job.label}: its workers were lost and restarted (attempt {attempts})")
        if "phase" in result:
            self._display.trial_progress(job.spec.id, result)
            self._note_waiting(job, result["phase"])
        if "left_out" in result:
            self._left_out[job.spec.id] = f"left out: {result['left_out']}"

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended(trial)

    def _ended(self, trial: Any) -> None:
        job = self._jobs[trial.config["trial"]]
        self._display.trial_ended(job.spec.id, self._left_out.get(job.spec.id) or describe_outcome(job.spec))

    def _note_waiting(self, job: Job, phase: str) -> None:
        if phase.startswith("waiting") and phase not in self._noted:
            self._noted.add(phase)
            self._display.note(f"{job.label}: {phase} since {time.strftime('%H:%M:%S')}; others may be, too")
