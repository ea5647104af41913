"""Trials on Ray: Ray Tune schedules them into slots, and a Ray Train run per slot holds the workers.

Tune decides only *when* a trial runs. Which trials there are follows from the results on disk, so a lost or corrupt
experiment state does not matter: every run of the driver gives Tune a new, temporary experiment of the missing trials.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray import tune
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.util.placement_group import PlacementGroup, get_current_placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from simtune.config.settings import ResourceSettings
from simtune.drivers.trial_claims import read_claim
from simtune.executors.base import Job
from simtune.executors.placement import WorkerResources
from simtune.executors.ray_hosts import this_nodes_resource
from simtune.executors.ray_share import Share
from simtune.executors.ray_train import WorkersRun
from simtune.executors.ray_tune_callbacks import DisplayTrials, FollowShare
from simtune.executors.trial_slots import NO_ASSIGNMENT, Progress, TrialSlots
from simtune.executors.trial_wait import TrialWait
from simtune.progress import Display
from simtune.storage.files import AnyPath, remove_tree
from simtune.training.engine import World
from simtune.training.process_memory import release_memory
from simtune.trial.attempts import attempt_trial, fail
from simtune.trial.failures import num_attempts, record_attempt
from simtune.trial.spec import SharedData, TrialSpec
from simtune.trial.time_limit import ended_when_hung
from simtune.wording import counted

# How much of its machine's own resource a process needs to be placed there; every machine has 1.
_PLACED_HERE = 0.0001
# Every slot has a few calls to wait in `TrialSlots`; from Ray's 1,000 on, further ones would wait for those to end.
_CALLS_AT_ONCE = 100_000
# The driver's own machine answers.
_USAGE_S = 30.0
# Workers have returned by then; Tune waits no longer for an actor.
_SHUTDOWN_S = 10.0


@dataclass(frozen=True)
class _Shared:
    """What all slots of a sweep share, as plain values and references to Ray's object store.

    Attributes:
        trial_slots: the actor that runs `TrialSlots`, which has the trials.
        data_references: to the shared data by its key; stored once, and read by all workers of a node from one memory.
        resources: of a trial.
        max_failures: how often a trial's workers may be lost.
        wait_s: how long a trial waits for hosts on which its workers fit.
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


def run_with_tune(
    jobs: Sequence[Job],
    shared: dict[str, SharedData],
    resources: WorkerResources,
    share: Share,
    *,
    settings: ResourceSettings,
    ray_folder: AnyPath,
    callbacks: Sequence[tune.Callback],
    display: Display,
) -> dict[str, str]:
    """Runs jobs on the connected Ray until each trial has its results or a record of its failure.

    Args:
        jobs: the trials, in the order in which they start.
        shared: what trials read, by the jobs' `data`.
        resources: of a trial.
        share: how many trials may run at once; asked again and again, as hosts and other sweeps come and go.
        settings: how often a trial's workers may be lost, and how long a trial waits for a host.
        ray_folder: for Ray's own files; removed before and after.
        callbacks: what else happens while trials run.
        display: where progress is reported.

    Returns:
        The trials that were left out, by their ids, and why.
    """
    # May have been left in any state by a driver that was killed; thanks to the run's lease no other one is using it.
    remove_tree(ray_folder)
    if isinstance(ray_folder, Path):
        ray_folder.mkdir(parents=True)
    by_id = {job.spec.id: job for job in jobs}
    slots = _Shared(
        trial_slots=_on_this_node(TrialSlots).remote(by_id, max_attempts=settings.max_failures + 1),
        data_references={key: ray.put(data) for key, data in shared.items()},
        resources=resources,
        max_failures=settings.max_failures,
        wait_s=settings.wait_s,
        ray_folder=str(ray_folder),
    )
    shown = DisplayTrials(by_id, display)
    share.usage = lambda: ray.get(slots.trial_slots.usage.remote(), timeout=_USAGE_S)
    grid = BasicVariantGenerator()
    tuner = _tuner(slots, list(by_id), grid, [shown, FollowShare(grid, slots.trial_slots, share), *callbacks])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuner.fit()
    remove_tree(ray_folder)
    return shown.left_out


def _tuner(
    slots: _Shared, trials: Sequence[str], grid: BasicVariantGenerator, callbacks: Sequence[tune.Callback]
) -> tune.Tuner:
    trainable = tune.with_resources(
        tune.with_parameters(_SlotTrainable, shared=[slots]),
        tune.PlacementGroupFactory([{this_nodes_resource(): _PLACED_HERE}]),
    )
    return tune.Tuner(
        trainable,
        param_space={"trial": tune.grid_search(list(trials))},
        tune_config=tune.TuneConfig(search_alg=grid, reuse_actors=True),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=slots.ray_folder,
            verbose=0,
            callbacks=list(callbacks),
            # Trials write their results themselves; Tune would ask its actor for a last checkpoint.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            # Only the loss of Tune's own actor ends a trial with an error.
            failure_config=tune.FailureConfig(max_failures=slots.max_failures),
        ),
    )


def _on_this_node(actor: type) -> Any:
    """An asynchronous actor on the driver's machine, so that the loss of another machine does not affect it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, max_concurrency=_CALLS_AT_ONCE, scheduling_strategy=here)(actor)


class _SlotTrainable(tune.Trainable):
    """A Tune trainable that keeps one Ray Train run open and gives it one trial after another.

    Starting the eight processes of a trial takes some 15 CPU-seconds. Tune reuses this actor (`reuse_actors`), so every
    slot of the sweep pays for that only once.
    """

    _spec: TrialSpec
    _last_update: int
    _attempts_before: int

    def setup(self, config: dict[str, Any], shared: list[_Shared]) -> None:
        (self._shared,) = shared
        self._workers: WorkersRun | None = None
        self._num_openings = 0
        self._new_slot()
        self._wait = TrialWait(str(self._shared.resources), self._shared.wait_s)
        spec = self._shared.job(config["trial"]).spec
        claim = read_claim(spec.directory)
        if spec.lease is not None and claim is not None and claim.token == spec.lease.token:
            error = RuntimeError("the process that managed its workers was lost: it was killed, or its machine failed")
            record_attempt(spec.directory, error, "infrastructure", spec.driver)
        abandoned = self._shared.trial_slots.close_abandoned.remote(self._slot, config["trial"])
        for placement_group in ray.get(abandoned):
            _free(placement_group)
        self._assign(config["trial"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._assign(new_config["trial"])
        return True

    def step(self) -> dict[str, Any]:
        """Waits for progress of the trial, which is done once its results or its `failure.json` are there."""
        while self._may_continue():
            wait = self._shared.trial_slots.wait_for_update
            progress: Progress = ray.get(wait.remote(self._slot, self._last_update, timeout_s=1.0))
            if progress.lost:
                self._fail(_workers_lost(progress))
            elif progress.attempts > 1:
                self._record_losses(progress)
            if progress.ended:
                if progress.closed:
                    self._leave_slot()
                break
            if (waiting := self._waiting(progress)) is not None:
                return waiting
            if progress.update > self._last_update:
                self._last_update = progress.update
                if progress.values or progress.attempts > 1:
                    return {**progress.values, "attempts": progress.attempts}
        return {"done": True}

    def _may_continue(self) -> bool:
        """Starts workers if there are none and the sweep may have more; false if the trial has failed."""
        if self._workers is None or self._workers.ended:
            if self._workers is not None and not self._may_reopen(self._workers):
                return False
            self._workers = self._open()
        return True

    def _waiting(self, progress: Progress) -> dict[str, Any] | None:
        """What to report of a trial that waits for its workers; at the limit it is left out."""
        report = self._wait.report(progress.waited_s)
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

    def _assign(self, trial: str) -> None:
        self._spec = self._shared.job(trial).spec
        self._last_update = 0
        self._attempts_before = num_attempts(self._spec.directory)
        self._wait.start()
        while not ray.get(self._shared.trial_slots.assign.remote(self._slot, trial)):
            # It was closed between two trials.
            self._leave_slot()

    def _open(self) -> WorkersRun | None:
        """Starts workers, unless the sweep may not have more for now."""
        shared, slot = self._shared, self._slot
        if not ray.get(shared.trial_slots.may_start_workers.remote(slot)):
            return None
        self._num_openings += 1
        _free(ray.get(shared.trial_slots.open_workers.remote(slot)))
        return WorkersRun(
            _work,
            {"shared": [shared], "slot": self._slot},
            name=f"workers-{self._slot}-{self._num_openings}",
            storage=shared.ray_folder,
            resources=shared.resources,
            max_failures=shared.max_failures,
            on_request=lambda: shared.trial_slots.expect_workers.remote(slot),
        )

    def _may_reopen(self, ended: WorkersRun) -> bool:
        """Whether a run of workers that ended may be followed by another; otherwise the trial has ended here."""
        slots = self._shared.trial_slots
        verdict, progress = ray.get(slots.workers_ended.remote(self._slot))
        if verdict == "again":
            return True
        if verdict == "closed":
            # Tune has lost touch with this actor, and another one runs the trial.
            return False
        self._fail(
            _workers_lost(progress)
            if verdict == "lost"
            else ended.error or RuntimeError("its workers ended before they started it")
        )
        ray.get(slots.end_trial.remote(self._slot))
        self._leave_slot()
        return False

    def _record_losses(self, progress: Progress) -> None:
        """Records that workers were lost, unless they recorded the reason themselves."""
        spec = self._spec
        while num_attempts(spec.directory) - self._attempts_before < progress.attempts - 1:
            record_attempt(spec.directory, _workers_lost(progress), "infrastructure", spec.driver)

    def _fail(self, error: Exception) -> None:
        spec = self._spec
        fail(spec, record_attempt(spec.directory, error, "infrastructure", spec.driver))


def _free(placement_group: PlacementGroup | None) -> None:
    """Frees what workers occupied.

    A Train controller does so itself unless it was killed; Ray would then do so only if there is a dashboard to ask.
    """
    if placement_group is not None:
        remove_placement_group(placement_group)


def _workers_lost(progress: Progress) -> RuntimeError:
    last = progress.values
    where = f"{last['phase']} {last['completed']}/{last['total']}" if last else "the start"
    times = f"{counted(progress.attempts, 'time')}, last " if progress.lost else ""
    return RuntimeError(f"its workers were lost {times}at {where}: they were killed, or out of memory")


def _work(world: World, config: dict[str, Any]) -> None:
    """The main loop of a worker: runs the trials of its slot until that is closed."""
    (shared,) = config["shared"]
    slot, trial_slots = config["slot"], shared.trial_slots
    assignment = NO_ASSIGNMENT
    if world.rank == 0:
        ray.get(trial_slots.set_placement_group.remote(slot, get_current_placement_group()))
    while (found := ray.get(trial_slots.next_trial.remote(slot, world.rank, assignment))) is not None:
        assignment, trial = found

        def report(values: dict[str, Any], assignment: int = assignment) -> None:
            if world.rank == 0:
                trial_slots.report.remote(slot, assignment, values)

        job = shared.job(trial)
        data: SharedData = ray.get(shared.data_references[job.data])
        with ended_when_hung(job.spec):
            may_continue = attempt_trial(job.spec, data, world, report)
        if world.rank == 0:
            ray.get(trial_slots.finish.remote(slot, assignment))
        if not may_continue:
            # The state of a process after an unexpected error is unknown, so the next trial gets new processes.
            raise RuntimeError(f"trial {trial} ended with an unexpected error, recorded in its folder attempts/")
        release_memory()
