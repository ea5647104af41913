"""Submitting a sweep to a cluster, and cancelling it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from simtune.cluster.connection import Connection, Say
from simtune.cluster.package import Package
from simtune.cluster.ray_jobs import RayJob
from simtune.cluster.remembered import forget, remember
from simtune.cluster.results import named_submission
from simtune.cluster.submission import CODE, RUN, Submission, attempts, next_job
from simtune.errors import ClusterError, UserError

_POLL_S = 1.0
_STOP_WITHIN_S = 90.0


@dataclass(frozen=True)
class Submitted:
    """What came of submitting a sweep.

    Attributes:
        job: the Ray job that runs it.
        is_new: whether it was started now; False: it was running already.
        runs_other_code: whether the job that was running already runs other code than this machine has.
    """

    job: str
    is_new: bool
    runs_other_code: bool = False


def submit(connection: Connection, submission: Submission, package: Package) -> Submitted:
    """Starts a sweep on a cluster, unless it is running there already.

    Args:
        connection: to the cluster.
        submission: of the sweep.
        package: what it works with.

    Raises:
        UserError: another submission is running in the same run directory.
        ClusterError: the cluster cannot be reached, or refuses.
    """
    there = connection.ask(lambda jobs: jobs.list())
    before = attempts(there, submission.id)
    running = next((job for job in before if not job.is_over), None)
    if running is None:
        _refuse_second_driver(connection, there, submission)
        submission = submission.model_copy(update={"job": next_job(there, submission.id)})
        connection.write_record(submission, package.data)
        remember(connection.cluster.key, submission, package.data)
        connection.start(submission, package.data)
        return Submitted(submission.job, True)
    other_code = running.metadata.get(CODE, package.code) != package.code
    return Submitted(running.id, False, other_code)


def _refuse_second_driver(connection: Connection, there: tuple[RayJob, ...], submission: Submission) -> None:
    for job in there:
        if not job.is_over and job.metadata.get(RUN) == submission.run:
            raise UserError(
                f"{submission.run}: submission {job.id} is running in this run directory, with different settings. "
                f"Wait for it, stop it ({connection.cluster.command(f'cancel {job.id}')}), or give this run another "
                "name (--set name=...)"
            )


def cancel(connection: Connection, name: str, say: Say) -> None:
    """Stops a submission, and sees that its head does not continue it.

    Args:
        connection: to the cluster.
        name: its id, run directory, or run's name.
        say: gets lines on what is done.

    Raises:
        UserError: there is no such submission.
        ClusterError: the cluster cannot be reached, or the driver does not end.
    """
    found = named_submission(connection, name)
    # First, or the head would continue what has been stopped.
    was_recorded = connection.remove_record(found.id)
    forget(connection.cluster.key, found.id)
    latest = found.latest
    if latest is None or latest.is_over:
        state = "waiting to be continued" if latest is None else f"already over: {latest.status.lower()}"
        say(f"{found.id}: was {state}" + ("; it will not be continued" if was_recorded else ""))
        return
    job = latest.id
    connection.ask(lambda jobs: jobs.stop(job))
    say(f"{job}: asked to stop; its driver is stopping its trials, which takes some seconds")
    until = time.monotonic() + _STOP_WITHIN_S
    while time.monotonic() < until:
        now = connection.ask(lambda jobs: jobs.find(job))
        if now is None or now.is_over:
            again = connection.cluster.command("submit SWEEP")
            say(f"{job}: stopped; finished trials are kept, and submitting the same sweep again continues it: {again}")
            return
        time.sleep(_POLL_S)
    again = connection.cluster.command(f"cancel {found.id}")
    raise ClusterError(f"{job}: was asked to stop {_STOP_WITHIN_S:.0f} s ago and has not; try {again}")
