"""One trial, tried until it has its results or its attempts are used up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from simtune.drivers.trial_claims import claim_trial, release_claim
from simtune.errors import LeaseLostError, RunError
from simtune.training.engine import World
from simtune.trial.earlier_training import earlier_training
from simtune.trial.failures import (
    attempts_of,
    cause_of,
    free_memory,
    may_depend_on_host,
    record_attempt,
    write_failure,
)
from simtune.trial.files import is_scored
from simtune.trial.records import Attempt, FailureCause
from simtune.trial.retry_policy import RETRY_POLICIES
from simtune.trial.run import ElsewhereError, run_trial
from simtune.trial.spec import OnProgress, SharedData, TrialSpec
from simtune.trial.time_limit import within_time_limit

_LOSSES = {"infrastructure", "preempted"}


def attempt_trial(
    spec: TrialSpec,
    shared: SharedData,
    world: World,
    on_progress: OnProgress,
    clock: Callable[[], float] = time.monotonic,
    try_elsewhere: Callable[[], bool] = lambda: False,
) -> bool:
    """Runs a trial until it has its results or its attempts are used up.

    An error is recorded as an attempt. With several workers, the others would wait forever for a worker that failed:
    an error that not all of them have is raised, and the executor starts the workers again.

    The only worker of a trial may have an error that another host would not have. Where the error would be final, the
    trial is tried there once.

    Args:
        spec: the trial.
        shared: what it reads.
        world: this worker's position.
        on_progress: called with the progress.
        clock: gives seconds.
        try_elsewhere: has the trial tried on another host later; false if there is none, or if that was done before.

    Returns:
        Whether this process may run another trial: an unexpected error leaves it in an unknown state.
    """
    to_run = _claimed(spec, world)
    if to_run is None:
        return True
    spec = to_run

    def goes_elsewhere(error: Exception) -> bool:
        return world.size == 1 and may_depend_on_host(error) and try_elsewhere()

    while True:
        limited = within_time_limit(spec, on_progress, clock)
        try:
            causes = run_trial(_in_memory(spec, world), shared, world, limited, goes_elsewhere)
            return "unexpected" not in causes
        except ElsewhereError as moved:
            # The trial stays claimed: it is still this driver's.
            record_attempt(spec.directory, moved.error, cause_of(moved.error), spec.driver, moved.score, world.host)
            return False
        except LeaseLostError:
            return True
        except Exception as error:
            cause = cause_of(error)
            _record_or_raise(spec, world, error, cause)
            if (last := _final(spec, world)) is not None:
                if not goes_elsewhere(error) and world.rank == 0:
                    fail(spec, last)
                return cause != "unexpected"


def _record_or_raise(spec: TrialSpec, world: World, error: Exception, cause: FailureCause) -> None:
    """Records a failed attempt; raises the error if other workers do not have it and would wait forever."""
    alone = world.size == 1
    if not alone and cause == "unexpected":
        raise error
    if alone or world.rank == 0 or cause == "out-of-memory":
        record_attempt(spec.directory, error, cause, spec.driver, host=world.host)
    if not alone and cause not in {"input", "diverged"}:
        raise error
    free_memory(error)


def _final(spec: TrialSpec, world: World, before: bool = False) -> Attempt | None:
    """The last attempt of this run, if no other may follow; a host's are counted by themselves.

    Before a trial, lost workers and hosts do not count: the executor that restarted the workers counts them.
    """
    attempts = _attempts_at_model(spec)
    records = [record for record in attempts if world.size > 1 or record.host == world.host]
    if before:
        records = [record for record in records if record.cause not in _LOSSES]
    if not records:
        return None
    last = records[-1]
    tries = sum(record.cause == last.cause for record in records)
    elsewhere = [record.cause for record in attempts if record not in records]
    if last.cause == "out-of-memory" and last.cause in elsewhere:
        # The first try here had half the micro-batch already.
        tries += 1
    if tries <= RETRY_POLICIES[last.cause].more_tries and (last.cause != "out-of-memory" or _can_halve(spec, world)):
        return None
    return last


def _attempts_at_model(spec: TrialSpec) -> list[Attempt]:
    """The failed attempts of this run to train or to load the model."""
    return [record for record in attempts_of(spec.directory) if record.driver == spec.driver and record.score is None]


def fail(spec: TrialSpec, record: Attempt) -> None:
    """Records that a trial has no result."""
    write_failure(spec.directory, spec.identity, record)
    release_claim(spec.directory)


def _claimed(spec: TrialSpec, world: World) -> TrialSpec | None:
    """Claims the trial; returns what is to be run of it.

    Nothing if another driver is running it, or has done it since it was planned, or if its attempts are used up.
    """
    found = [spec if world.rank != 0 else _to_run(spec, world)]
    if world.size > 1:
        import torch.distributed as dist

        dist.broadcast_object_list(found, src=0)
    return found[0]


def _to_run(spec: TrialSpec, world: World) -> TrialSpec | None:
    # Another driver may have taken over the run since the last trial.
    if spec.lease is not None and not (
        spec.lease.held() and claim_trial(spec.directory, spec.lease, spec.dead_drivers)
    ):
        return None
    try:
        left = _left_by_others(spec)
    except RunError as error:
        # A damaged record of theirs.
        fail(spec, record_attempt(spec.directory, error, "infrastructure", spec.driver, host=world.host))
        return None
    if left is None:
        release_claim(spec.directory)
        return None
    if (last := _final(left, world, before=True)) is not None:
        fail(spec, last)
        return None
    return left


def _left_by_others(spec: TrialSpec) -> TrialSpec | None:
    """What is to be run of a trial after what other drivers have done since it was planned; None if nothing is."""
    if spec.lease is None:
        return spec
    if all(is_scored(spec.directory, score.id) for score in spec.scores):
        return None
    if spec.kind != "fine-tune" or spec.saved_epoch is not None:
        return spec
    epoch, trained = earlier_training(spec.directory)
    # A model that was trained and not saved is trained again only if the user asks for it.
    return None if trained is not None and not spec.retrain else replace(spec, saved_epoch=epoch)


def _in_memory(spec: TrialSpec, world: World) -> TrialSpec:
    """The trial, with half the micro-batch and the same batches if it ran out of memory earlier in this run."""
    short = any(record.cause == "out-of-memory" for record in _attempts_at_model(spec))
    return replace(spec, accumulation_steps=2 * spec.accumulation_steps) if short and _can_halve(spec, world) else spec


def _can_halve(spec: TrialSpec, world: World) -> bool:
    training = spec.sweep.training
    return spec.kind == "fine-tune" and training.batch_size >= 2 * spec.accumulation_steps * world.size
