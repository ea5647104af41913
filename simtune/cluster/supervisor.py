"""On the head: submits again what a restart of Ray or the death of a driver has ended.

Ray keeps its jobs in the memory of the head's processes, so they end with these and are forgotten. Each unfinished
submission has a record on the head's disk, which is compared with Ray's jobs every few seconds (see
`simtune.cluster.supervisor_process`). Running a sweep again is continuing it, so all there is to do is to submit the
job again. Records of what has ended by itself, or was stopped, are removed.

Commands on other computers change the records over SSH. Each change is made under one lock, and begins with what the
record says then.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from simtune.cluster.ray_jobs import RayJob, RayJobs, TakenIdError
from simtune.cluster.submission import ENDED, RECORD, RECORDS_LOCK, Submission, next_job
from simtune.errors import RunError
from simtune.storage.records import read_record, write_record
from simtune.wording import counted

MOST_RESTARTS = 10
"""How often a submission is submitted again: one that brings its head down each time must end."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 300.0
# Beside the record: an empty file, changed when the submission was submitted again.
_RESTARTED = "restarted"

Step = Literal["wait", "submit", "submit as the next attempt", "remove", "give up"]


def next_step(record: Submission, jobs: Sequence[RayJob]) -> Step:
    """What is to be done for a submission.

    Args:
        record: of the submission.
        jobs: all jobs that Ray knows.
    """
    job = next((job for job in jobs if job.id == record.job), None)
    if job is not None and not job.is_over:
        return "wait"
    if job is not None and not job.was_interrupted:
        return "remove"
    if record.num_restarts >= MOST_RESTARTS:
        return "give up"
    return "submit" if job is None else "submit as the next attempt"


def record_files(folder: Path) -> list[Path]:
    """The files of all records in a folder."""
    return [path for path in sorted(folder.glob(f"*/{RECORD}")) if path.is_file()]


def supervise(folder: Path, jobs: RayJobs, log: Callable[[str], None]) -> None:
    """Brings every submission one step forward.

    Args:
        folder: of the records.
        jobs: Ray's job server.
        log: gets one line for each change.

    Raises:
        ClusterError: Ray does not answer, which it may do later.
    """
    records = record_files(folder)
    if not records:
        return
    there = jobs.list()
    for path in records:
        try:
            with _locked(folder):
                _bring_forward(path, jobs, there, log)
        except FileNotFoundError:
            # Cancelled in the meantime.
            continue
        except (RunError, OSError) as error:
            log(f"{path}: {error}")


def _bring_forward(path: Path, jobs: RayJobs, there: Sequence[RayJob], log: Callable[[str], None]) -> None:
    """Does what is to be done for the submission of a record.

    Raises:
        FileNotFoundError: the record is not there any more.
    """
    record = read_record(path, Submission)
    step = next_step(record, there)
    if step in {"remove", "give up"}:
        log(f"{record.job}: " + (f"restarted {counted(MOST_RESTARTS, 'time')}" if step == "give up" else "has ended"))
        _mark_ended(path.parents[1], record.id)
        shutil.rmtree(path.parent, ignore_errors=True)
    elif step != "wait" and _may_start(path, record) and _submit_again(path, record, step, jobs, there):
        log(f"{record.job}: submitted again")


def _may_start(path: Path, record: Submission) -> bool:
    """Whether the pause of a submission is over.

    Pauses grow with the number of restarts, so that what cannot start is not submitted again and again at once.
    """
    try:
        since_s = time.time() - (path.parent / _RESTARTED).stat().st_mtime
    except FileNotFoundError:
        return True
    pause_s = min(_FIRST_PAUSE_S * 2 ** (record.num_restarts - 1), _LONGEST_PAUSE_S) if record.num_restarts else 0.0
    # A time in the future means that the clock was changed.
    return not 0 <= since_s < pause_s


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock that commands of other computers hold as well while they change a record."""
    with (folder.parent / RECORDS_LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _mark_ended(folder: Path, submission: str) -> None:
    ended = folder.parent / Path(ENDED).name
    ended.mkdir(mode=0o700, exist_ok=True)
    (ended / submission).touch()


def _submit_again(path: Path, record: Submission, step: Step, jobs: RayJobs, there: Sequence[RayJob]) -> bool:
    """Submits the job of a record; returns whether that was necessary."""
    job = record.job if step == "submit" else next_job(there, record.id)
    record = record.model_copy(update={"job": job})
    # The new id first: if this process ends in between, the next one submits the job under the same id.
    write_record(path, record)
    try:
        record.start(jobs, (path.parent / record.package).read_bytes())
    except TakenIdError:
        # Somebody else has submitted it since the jobs were listed.
        return False
    # Counted once it is done: while Ray starts, it may refuse for some time.
    write_record(path, record.model_copy(update={"num_restarts": record.num_restarts + 1}))
    (path.parent / _RESTARTED).touch()
    return True
