"""Following a job: what its driver prints, until the sweep has ended, across breaks and restarts."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from simtune.cluster.connection import Connection, Say
from simtune.cluster.ray_jobs import RayJob, RayJobs
from simtune.cluster.remembered import forget
from simtune.cluster.submission import attempts, id_of
from simtune.errors import ClusterError

_POLL_S = 1.0
# A log is read whole each time: no more than a tenth of the time is spent on that.
_WAITS_PER_READ = 10.0
_LONGEST_POLL_S = 30.0
# The supervisor on the head looks every five seconds; Ray itself takes half a minute to start.
_RESTART_WITHIN_S = 300.0
_NEXT_ATTEMPT_WITHIN_S = 20.0


def follow(
    connection: Connection, job: str, show: Callable[[str], None], say: Say, is_recorded: bool = False
) -> RayJob:
    """Shows what a job prints until it has ended, across restarts of its head.

    Args:
        connection: to the cluster.
        job: its id.
        show: gets the text that is new.
        say: gets lines about the connection and about restarts.
        is_recorded: whether the head has yet to submit this job, which it then does.

    Returns:
        The job that ended, which may be a later attempt of the same submission.

    Raises:
        ClusterError: the head does not know the job any more.
    """
    num_shown, missing_s = 0, 0.0
    started_ms: int | None = None
    while True:
        found = connection.ask(partial(RayJobs.find, job=job))
        if found is None:
            if (started_ms is None and not is_recorded) or missing_s >= _RESTART_WITHIN_S:
                raise ClusterError(_unknown(job), wrong_input=not is_recorded and started_ms is None)
            if not missing_s:
                say(f"Ray was restarted on the head; waiting for {job} to continue")
            missing_s += _POLL_S
            time.sleep(_POLL_S)
            continue
        if started_ms not in (None, found.started_ms):
            say(f"{job} continues")
            num_shown = 0
        started_ms, missing_s = found.started_ms, 0.0
        text, read_s = connection.ask(partial(_timed_log, job=job))
        show(text[num_shown:])
        num_shown = max(num_shown, len(text))
        if not found.is_over:
            time.sleep(min(_LONGEST_POLL_S, max(_POLL_S, _WAITS_PER_READ * read_s)))
        elif later := _next_attempt(connection, found):
            say(f"{job} was interrupted; it continues as {later.id}")
            job, num_shown, started_ms = later.id, 0, None
        else:
            if not found.was_interrupted:
                forget(connection.cluster.key, id_of(found.id))
            return found


def _timed_log(jobs: RayJobs, job: str) -> tuple[str, float]:
    """The log of a job, and how long it took to read, in seconds."""
    began = time.monotonic()
    return jobs.log(job), time.monotonic() - began


def _next_attempt(connection: Connection, ended: RayJob) -> RayJob | None:
    """The attempt that the head's supervisor makes of an interrupted job; None if there is none."""
    if not ended.was_interrupted:
        return None
    until = time.monotonic() + _NEXT_ATTEMPT_WITHIN_S
    while time.monotonic() < until:
        later = attempts(connection.ask(RayJobs.list), id_of(ended.id))
        if later and later[-1].id != ended.id:
            return later[-1]
        time.sleep(_POLL_S)
    return None


def _unknown(job: str) -> str:
    return (
        f"{job}: Ray on the head does not know this job, and the head has not continued it. Submit the sweep again: "
        "what is finished is kept"
    )
