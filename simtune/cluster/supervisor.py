"""On the head: submits again what a restart of Ray or the death of a driver has ended; starts Ray again if it is gone.

Ray keeps its jobs in the memory of the head's processes, so they end with these and are forgotten. Each unfinished
submission has a record on the head's disk; this process compares the records with Ray's jobs every few seconds. Running
a sweep again is continuing it, so all there is to do is to submit the job again. Records of what has ended by itself,
or was stopped, are removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from simtune.cluster.launcher import ray_command
from simtune.cluster.ray_jobs import RayJob, RayJobs, TakenIdError
from simtune.cluster.ssh import NoAnswerError
from simtune.cluster.submission import ENDED, RECORD, RECORDS, Submission, next_job
from simtune.errors import ClusterError, RunError
from simtune.ray_token import read_token
from simtune.storage.records import read_record, write_record

POLL_S = 5.0
GONE_AFTER_S = 60.0
"""How long Ray may not answer: a restart by hand takes less."""
MOST_RESTARTS = 10
"""How often a submission is submitted again: one that brings its head down each time must end."""
_END_WITHIN_S = 10.0

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


def supervise(folder: Path, jobs: RayJobs, log: Callable[[str], None]) -> None:
    """Brings every submission one step forward.

    Args:
        folder: of the records.
        jobs: Ray's job server.
        log: gets one line for each change.

    Raises:
        ClusterError: Ray does not answer, which it may do later.
    """
    records = [path for path in sorted(folder.glob(f"*/{RECORD}")) if path.is_file()]
    if not records:
        return
    there = jobs.list()
    for path in records:
        try:
            record = read_record(path, Submission)
            step = next_step(record, there)
            if step in {"remove", "give up"}:
                log(f"{record.job}: " + (f"restarted {MOST_RESTARTS} times" if step == "give up" else "has ended"))
                _mark_ended(folder, record.id)
                shutil.rmtree(path.parent, ignore_errors=True)
            elif step != "wait":
                _submit_again(path, record, step, jobs, there)
                log(f"{record.job}: submitted again")
        except (RunError, OSError) as error:
            log(f"{path}: {error}")


def _mark_ended(folder: Path, submission: str) -> None:
    ended = folder.parent / Path(ENDED).name
    ended.mkdir(mode=0o700, exist_ok=True)
    (ended / submission).touch()


def _submit_again(path: Path, record: Submission, step: Step, jobs: RayJobs, there: Sequence[RayJob]) -> None:
    job = record.job if step == "submit" else next_job(there, record.id)
    record = record.model_copy(update={"job": job})
    # The new id first: if this process ends in between, the next one submits the job under the same id.
    write_record(path, record)
    # Somebody else may have submitted it in this moment.
    with contextlib.suppress(TakenIdError):
        record.start(jobs, (path.parent / record.package).read_bytes())
    # Counted once it is done: while Ray starts, it may refuse for some time.
    write_record(path, record.model_copy(update={"num_restarts": record.num_restarts + 1}))


def run_supervisor(
    port: int, ray_start: Sequence[str] = (), poll_s: float = POLL_S, gone_after_s: float = GONE_AFTER_S
) -> None:
    """Supervises submissions until this process is ended; a supervisor that runs already is replaced.

    Args:
        port: of Ray's job server on this machine.
        ray_start: the command that starts Ray here; it is run again if Ray is gone while a submission is unfinished.
        poll_s: seconds between two looks.
        gone_after_s: seconds without an answer after which Ray counts as gone.
    """
    folder = Path(RECORDS).expanduser()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _only_one(folder.parent / "supervisor.lock"):
        answered_at = time.monotonic()
        while True:
            try:
                # The token may be another one after a restart.
                supervise(folder, RayJobs("this head", lambda: port, read_token()), _log)
                answered_at = time.monotonic()
            except NoAnswerError:
                if ray_start and time.monotonic() - answered_at >= gone_after_s:
                    _log(f"Ray has not answered for {gone_after_s:g} s; starting it again")
                    _start_ray_again(ray_start)
                    answered_at = time.monotonic()
            except ClusterError as error:
                _log(str(error))
            time.sleep(poll_s)


def start_supervisor(port: int, ray_start: Sequence[str] = ()) -> Path:
    """Starts a supervisor that outlives this process; returns the file that it logs to."""
    log = Path(RECORDS).expanduser().parent / "supervisor.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-m", "simtune.cli", "cluster", "supervise", "--port", str(port), "--", *ray_start]
    with log.open("ab") as output:
        subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
        )
    return log


def _start_ray_again(ray_start: Sequence[str]) -> None:
    # What is left of it would keep its ports.
    for command in (ray_command("stop", "--force"), ray_start):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)  # noqa: S603
        if done.returncode:
            _log(f"`{shlex.join(command)}` has failed with exit code {done.returncode}")


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Holds a lock whose file names this process; whoever holds it is asked to end, since its code may be older."""
    with path.open("a+") as file:
        until = time.monotonic() + _END_WITHIN_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip()
                if holder.isdecimal() and int(holder) != os.getpid():
                    with contextlib.suppress(OSError):
                        os.kill(int(holder), signal.SIGTERM if time.monotonic() < until else signal.SIGKILL)
                time.sleep(0.2)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _log(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    sys.stderr.flush()
