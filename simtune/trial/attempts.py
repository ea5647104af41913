"""One trial, tried until it has its results or its attempts are used up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from simtune.drivers.trial_claims import claim_trial, release_claim
from simtune.errors import LeaseLostError
from simtune.training.engine import World
from simtune.trial.failures import POLICIES, attempts_of, cause_of, free_memory, record_attempt, write_failure
from simtune.trial.records import Attempt
from simtune.trial.run import run_trial
from simtune.trial.spec import OnProgress, SharedData, TrialSpec
from simtune.trial.time_limit import within_time_limit


def attempt_trial(
    spec: TrialSpec,
    shared: SharedData,
    world: World,
    on_progress: OnProgress,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Runs a trial until it has its results or its attempts are used up.

    An error is recorded as an attempt. With several workers, the others would wait forever for a worker that failed:
    an error that not all of them have is raised, and the executor starts the workers again.

    Returns:
        Whether this process may run another trial: an unexpected error leaves it in an unknown state.
    """
    if not _claimed(spec, world):
        return True
    while True:
        try:
            causes = run_trial(_in_memory(spec, world), shared, world, within_time_limit(spec, on_progress, clock))
            return "unexpected" not in causes
        except LeaseLostError:
            return True
        except Exception as error:
            cause = cause_of(error)
            alone = world.size == 1
            if not alone and cause == "unexpected":
                raise
            if alone or world.rank == 0 or cause == "out-of-memory":
                record_attempt(spec.directory, error, cause, spec.driver)
            if not alone and cause not in {"input", "diverged"}:
                raise
            free_memory(error)
        if _has_failed(spec, world):
            return cause != "unexpected"


def _has_failed(spec: TrialSpec, world: World, before: bool = False) -> bool:
    """Whether a trial's attempts of this run are used up; if so, records the failure.

    Before a trial, workers that were lost do not count: the executor that restarted them counts them.
    """
    records = _attempts_at_model(spec)
    if before:
        records = [record for record in records if record.cause != "infrastructure"]
    if not records:
        return False
    last = records[-1]
    tries = sum(record.cause == last.cause for record in records)
    if tries <= POLICIES[last.cause].more_tries and (last.cause != "out-of-memory" or _can_halve(spec, world)):
        return False
    if world.rank == 0:
        fail(spec, last)
    return True


def _attempts_at_model(spec: TrialSpec) -> list[Attempt]:
    """The failed attempts of this run to train or to load the model."""
    return [record for record in attempts_of(spec.directory) if record.driver == spec.driver and record.score is None]


def fail(spec: TrialSpec, record: Attempt) -> None:
    """Records that a trial has no result."""
    write_failure(spec.directory, spec.identity, record)
    release_claim(spec.directory)


def _claimed(spec: TrialSpec, world: World) -> bool:
    """Claims the trial; false if another driver is running it or its attempts are used up."""
    ours = True
    if world.rank == 0:
        ours = spec.lease is None or claim_trial(spec.directory, spec.lease, spec.dead_drivers)
        ours = ours and not _has_failed(spec, world, before=True)
    if world.size > 1:
        import torch.distributed as dist

        answer = [ours]
        dist.broadcast_object_list(answer, src=0)
        ours = answer[0]
    return ours


def _in_memory(spec: TrialSpec, world: World) -> TrialSpec:
    """The trial, with half the micro-batch and the same batches if it ran out of memory earlier in this run."""
    short = any(record.cause == "out-of-memory" for record in _attempts_at_model(spec))
    return replace(spec, accumulation_steps=2 * spec.accumulation_steps) if short and _can_halve(spec, world) else spec


def _can_halve(spec: TrialSpec, world: World) -> bool:
    training = spec.sweep.training
    return spec.kind == "fine-tune" and training.batch_size >= 2 * spec.accumulation_steps * world.size
