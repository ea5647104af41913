"""A slot of trials: the Tune actor that schedules it, and what its workers do.

Starting the processes of a trial costs more than a short trial, so a slot keeps its workers from one trial to the next.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray import tune
from ray.util.placement_group import PlacementGroup, get_current_placement_group, remove_placement_group

from simtune.drivers.trial_claims import read_claim
from simtune.executors.base import Job
from simtune.executors.hosts.ray_hosts import fits_elsewhere, this_worker
from simtune.executors.placement import WorkerResources
from simtune.executors.ray_train import WorkersRun
from simtune.executors.slots.slot_progress import Loss, Progress
from simtune.executors.slots.trial_slots import NO_ASSIGNMENT
from simtune.executors.slots.trial_wait import TrialWait
from simtune.training.engine import World
from simtune.training.process_memory import released_between_trials
from simtune.trial.attempts import attempt_trial, fail
from simtune.trial.failures import num_attempts, record_attempt
from simtune.trial.spec import SharedData, TrialSpec
from simtune.trial.time_limit import ended_when_hung
from simtune.wording import counted

# Workers have returned by then; Tune waits no longer for an actor.
_SHUTDOWN_S = 10.0


@dataclass(frozen=True)
class SharedBySlots:
    """What all slots of a sweep share, as plain values and references to Ray's object store.

    Attributes:
        trial_slots: the actor that runs `TrialSlots`, which has the trials.
        data_references: to the shared data by its key; stored once, and read by all workers of a node from one memory.
        resources: of a trial.
        max_failures: how often a trial's workers may be lost.
        wait_s: how long a trial waits for its sweep's turn, and for hosts on which its workers fit.
        ray_folder: where Ray Train keeps its files.
    """

    trial_slots: Any
    data_references: dict[str, Any]
    resources: WorkerResources
    max_failures: int
    wait_s: float
    ray_folder: str

    def job(self, trial: str) -> Job:
        """The trial of an id. All of thousands would take longer to read than a short trial takes."""
        job: Job = ray.get(self.trial_slots.job.remote(trial))
        return job


class SlotTrainable(tune.Trainable):
    """A Tune trainable that keeps one Ray Train run open and gives it one trial after another.

    Starting the eight processes of a trial takes some 15 CPU-seconds. Tune reuses this actor (`reuse_actors`), so every
    slot of the sweep pays for that only once.
    """

    _spec: TrialSpec
    _last_update: int
    _attempts_before: int
    _num_recorded: int
    _failed_on: str
    _not_on: str

    def setup(self, config: dict[str, Any], shared: list[SharedBySlots]) -> None:
        (self._shared,) = shared
        self._workers: WorkersRun | None = None
        self._num_openings = 0
        self._new_slot()
        self._wait = TrialWait(str(self._shared.resources), self._shared.wait_s)
        self._next: str | None = config["trial"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._next = new_config["trial"]
        return True

    def step(self) -> dict[str, Any]:
        """Waits for progress of the trial, which is done once its results or its `failure.json` are there."""
        if self._next is not None:
            # Not sooner: Tune also makes actors for trials that it then gives to another one.
            self._begin(self._next)
            self._next = None
        while self._may_continue():
            wait = self._shared.trial_slots.wait_for_update
            progress: Progress = ray.get(wait.remote(self._slot, self._last_update, timeout_s=1.0))
            self._record_losses(progress)
            if progress.ended:
                self._failed_on = progress.failed_on
                if progress.closed:
                    self._leave_slot()
                break
            if self._is_stranded(progress):
                # The other host was lost. The one on which the trial has failed is better than none.
                self._leave_slot(_SHUTDOWN_S)
                self._assign()
                continue
            if (waiting := self._waiting(progress)) is not None:
                return waiting
            if progress.update > self._last_update:
                self._last_update = progress.update
                if progress.values or progress.losses:
                    return {**progress.values, "failures": progress.num_failures}
        return {"done": True} | ({"failed_on": self._failed_on} if self._failed_on else {})

    def _may_continue(self) -> bool:
        """Starts workers if there are none and the sweep may have more; false if the trial has ended."""
        if self._workers is None or self._workers.ended:
            if self._workers is not None and not self._may_reopen(self._workers):
                return False
            self._workers = self._open()
        return True

    def _is_stranded(self, progress: Progress) -> bool:
        """Whether the trial waits for another host than the one on which it has failed, and there is none any more."""
        waits = self._workers is not None and progress.waited_s > 0
        return waits and bool(self._not_on) and not fits_elsewhere(self._shared.resources, self._not_on)

    def _waiting(self, progress: Progress) -> dict[str, Any] | None:
        """What to report of a trial that waits for its workers; at the limit it is left out."""
        report = self._wait.report_turn() if self._workers is None else self._wait.report(progress.waited_s)
        if report is not None and "left_out" in report:
            ray.get(self._shared.trial_slots.end_trial.remote(self._slot))
        return report

    def cleanup(self) -> None:
        self._leave_slot(_SHUTDOWN_S)

    def _new_slot(self) -> None:
        self._slot = uuid.uuid4().hex

    def _leave_slot(self, limit_s: float = 6 * _SHUTDOWN_S) -> None:
        """Shuts down the workers, so that others can have their place; after `limit_s` they are ended."""
        slots = self._shared.trial_slots
        ray.get(slots.close.remote(self._slot))
        if self._workers is not None:
            self._workers.join(limit_s)
            self._workers = None
        _free(ray.get(slots.placement_group.remote(self._slot)))
        self._new_slot()

    def _begin(self, trial: str) -> None:
        """Takes over a trial, also from a scheduler that was lost with it."""
        self._spec = spec = self._shared.job(trial).spec
        slots = self._shared.trial_slots
        claim = read_claim(spec.directory)
        abandoned = ray.get(slots.close_abandoned.remote(self._slot, trial))
        if abandoned and spec.lease is not None and claim is not None and claim.token == spec.lease.token:
            error = RuntimeError("the process that managed its workers was lost: it was killed, or its machine failed")
            record_attempt(spec.directory, error, "infrastructure", spec.driver)
        for placement_group in abandoned:
            _free(placement_group)
        self._wait.start()
        self._assign()

    def _assign(self) -> None:
        """Gives the trial to the slot, from its start."""
        self._last_update = self._num_recorded = 0
        self._failed_on = ""
        self._attempts_before = num_attempts(self._spec.directory)
        while not ray.get(self._shared.trial_slots.assign.remote(self._slot, self._spec.id)):
            # It was closed between two trials.
            self._leave_slot()

    def _open(self) -> WorkersRun | None:
        """Starts workers, unless the sweep may not have more for now."""
        shared, slot = self._shared, self._slot
        if not ray.get(shared.trial_slots.may_start_workers.remote(slot)):
            return None
        self._num_openings += 1
        failed_on: str = ray.get(shared.trial_slots.failed_on.remote(self._spec.id))
        self._not_on = failed_on if failed_on and fits_elsewhere(shared.resources, failed_on) else ""
        _free(ray.get(shared.trial_slots.open_workers.remote(slot)))
        return WorkersRun(
            _work,
            {"shared": [shared], "slot": slot},
            name=f"workers-{slot}-{self._num_openings}",
            storage=shared.ray_folder,
            resources=shared.resources,
            max_failures=shared.max_failures,
            on_request=lambda: shared.trial_slots.expect_workers.remote(slot),
            not_on=self._not_on,
        )

    def _may_reopen(self, ended: WorkersRun) -> bool:
        """Whether a run of workers that ended may be followed by another; otherwise the trial has ended here."""
        slots = self._shared.trial_slots
        verdict, progress = ray.get(slots.workers_ended.remote(self._slot))
        self._record_losses(progress)
        self._failed_on = progress.failed_on
        if verdict == "again":
            return True
        if verdict == "closed":
            # Tune has lost touch with this actor, and another one runs the trial.
            return False
        if verdict == "cannot start":
            self._fail(ended.error or RuntimeError("its workers ended before they started it"), "unknown")
        ray.get(slots.end_trial.remote(self._slot))
        self._leave_slot()
        return False

    def _record_losses(self, progress: Progress) -> None:
        """Records what workers could not record themselves: that they were lost, and if too often, that it failed."""
        spec = self._spec
        num_failures = num_preempted = 0
        for number, loss in enumerate(progress.losses):
            num_failures, num_preempted = num_failures + (not loss.with_host), num_preempted + loss.with_host
            if number < self._num_recorded:
                continue
            self._num_recorded += 1
            is_last = progress.lost and self._num_recorded == len(progress.losses)
            if is_last:
                self._fail(_lost(loss, num_failures), loss.host)
            elif loss.with_host:
                record_attempt(spec.directory, _lost(loss), "preempted", spec.driver, host=loss.host)
            elif num_attempts(spec.directory) - self._attempts_before - num_preempted < num_failures:
                record_attempt(spec.directory, _lost(loss), "infrastructure", spec.driver, host=loss.host)

    def _fail(self, error: Exception, host: str) -> None:
        spec = self._spec
        fail(spec, record_attempt(spec.directory, error, "infrastructure", spec.driver, host=host))


def _free(placement_group: PlacementGroup | None) -> None:
    """Frees what workers occupied.

    A Train controller does so itself unless it was killed; Ray would then do so only if there is a dashboard to ask.
    """
    if placement_group is not None:
        remove_placement_group(placement_group)


def _lost(loss: Loss, too_often: int = 0) -> RuntimeError:
    """An error that describes a loss; `too_often` is how many there were, if it is the last one."""
    at = f"{loss.values['phase']} {loss.values['completed']}/{loss.values['total']}" if loss.values else "the start"
    if loss.with_host:
        return RuntimeError(f"its host was lost at {at}: it was switched off, disconnected or reclaimed")
    times = f"{counted(too_often, 'time')}, last " if too_often else ""
    return RuntimeError(f"its workers were lost {times}at {at}: they were killed, or out of memory")


def _work(world: World, config: dict[str, Any]) -> None:
    """The main loop of a worker: runs the trials of its slot until that is closed."""
    (shared,) = config["shared"]
    slot, trial_slots = config["slot"], shared.trial_slots
    worker = this_worker(world.rank)
    world = replace(world, host=worker.host.name)
    process = f"process {os.getpid()} on {worker.host.name}"
    assignment = NO_ASSIGNMENT
    if world.rank == 0:
        ray.get(trial_slots.set_placement_group.remote(slot, get_current_placement_group()))
    with released_between_trials() as release_memory:
        while (found := ray.get(trial_slots.next_trial.remote(slot, worker, assignment))) is not None:
            assignment, trial = found

            def report(values: dict[str, Any], assignment: int = assignment) -> None:
                if world.rank == 0:
                    trial_slots.report.remote(slot, assignment, {**values, "worker": process})

            def try_elsewhere(assignment: int = assignment) -> bool:
                if not fits_elsewhere(shared.resources, worker.host.id):
                    return False
                return bool(ray.get(trial_slots.try_elsewhere.remote(slot, assignment, worker.host)))

            job = shared.job(trial)
            data: SharedData = ray.get(shared.data_references[job.data])
            with ended_when_hung(job.spec, world):
                may_continue = attempt_trial(job.spec, data, world, report, try_elsewhere=try_elsewhere)
            if world.rank == 0:
                ray.get(trial_slots.finish.remote(slot, assignment))
            if not may_continue:
                # The state of a process after an unexpected error is unknown, so the next trial gets new processes.
                raise RuntimeError(f"trial {trial} ended with an unexpected error, recorded in its folder attempts/")
            del data, job, found, report, try_elsewhere
            release_memory()
