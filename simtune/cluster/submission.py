"""A sweep that is to run on a cluster: its id, its attempts, and its record on the head while it is unfinished.

The id is a hash of the sweep with every field resolved. Submitting the same sweep again, from any machine, leads to the
same id, and so to the job that runs already. Each attempt is a Ray job of its own: `ID`, `ID-2`, `ID-3`.

Ray forgets its jobs when the head is started again. The record does not: it is a folder on the head's disk with all
that is needed to submit the job once more (see `simtune.cluster.supervisor`).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from simtune.cluster.package import Package
from simtune.cluster.portable_sweep import SWEEP_FILE, PortableSweep
from simtune.cluster.ray_jobs import RayJob, RayJobs
from simtune.errors import UserError
from simtune.ray_head import SUBMIT_COMMAND
from simtune.storage.files import fingerprint
from simtune.storage.records import Record
from simtune.wording import counted

JOB_ID = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*-[0-9a-f]{12})(?:-(?P<attempt>[1-9][0-9]*))?")
STATE = "~/.simtune/heads/$(uname -n)"
"""The folder of a head's state on the head, as a shell there expands it: several heads may have one home folder."""
RECORDS = f"{STATE}/submissions"
"""The folder of the records on the head: a folder for each unfinished submission, named by its id."""
ENDED = f"{STATE}/ended"
"""On the head: an empty file for each submission that has ended, named by its id."""
RECORDS_LOCK, SUPERVISOR_LOCK = "records.lock", "supervisor.lock"
"""In the folder of the head's state: held while a record is changed, and by the supervisor, whose process it names."""
RECORD = "submission.json"
RUN, CODE = "simtune_run", "simtune_code"
"""Metadata of a job: its run directory, and a hash of the code that it runs."""
# A driver that is asked to stop lets its trials go, gives up its lease and says how to continue.
_ENVIRONMENT = {"RAY_JOB_STOP_WAIT_TIME_S": "60"}


class Submission(Record):
    """An unfinished submission.

    Attributes:
        id: of the sweep.
        job: the Ray job of the present attempt.
        run: the run directory, as the cluster sees it.
        options: of `simtune run`, beside the sweep file and the executor.
        command: that submits it, on the machine that did.
        package: name of the package's file, beside the record.
        code: a hash of the code in it.
        num_restarts: how often the head has submitted it again.
    """

    version: Literal[1] = 1
    id: Annotated[str, Field(pattern=f"^{JOB_ID.pattern}$")]
    job: Annotated[str, Field(pattern=f"^{JOB_ID.pattern}$")]
    run: str
    options: tuple[str, ...] = ()
    command: str
    package: Annotated[str, Field(pattern=r"^_ray_pkg_[0-9a-f]+\.zip$")]
    code: str
    num_restarts: int = 0

    @property
    def entrypoint(self) -> str:
        """The command that the head runs, in the environment that Ray was started in."""
        return " ".join(["exec simtune run", SWEEP_FILE, "--executor cluster", *self.options])

    def start(self, jobs: RayJobs, package: bytes) -> None:
        """Starts the job of the present attempt.

        Raises:
            TakenIdError: somebody has started it already.
        """
        jobs.upload(self.package, package)
        environment = {**_ENVIRONMENT, SUBMIT_COMMAND: self.command}
        jobs.submit(self.job, self.entrypoint, self.package, environment, {RUN: self.run, CODE: self.code})


def state_folder() -> Path:
    """The folder of this head's state, as `STATE` names it."""
    return Path("~/.simtune/heads").expanduser() / os.uname().nodename


def new_submission(portable: PortableSweep, package: Package, options: Iterable[str], command: str) -> Submission:
    """The first attempt of a sweep; `command` submits it."""
    content = {name: hashlib.sha256(data).hexdigest() for name, data in portable.files.items()}
    name = f"{portable.sweep.name}-{fingerprint(content)[:12]}"
    return Submission(
        id=name,
        job=name,
        run=portable.run,
        options=tuple(options),
        command=command,
        package=package.name,
        code=package.code,
    )


def attempts(jobs: Iterable[RayJob], submission: str) -> list[RayJob]:
    """The jobs of a submission, the latest last."""
    found = [(_attempt(job.id), job) for job in jobs if id_of(job.id) == submission]
    return [job for _, job in sorted(found, key=lambda pair: pair[0])]


def next_job(jobs: Iterable[RayJob], submission: str) -> str:
    """The id of a submission's next job."""
    before = attempts(jobs, submission)
    return f"{submission}-{_attempt(before[-1].id) + 1}" if before else submission


def id_of(job: str) -> str:
    """The submission of a job; empty for a job that is none of simtune's."""
    found = JOB_ID.fullmatch(job)
    return found["id"] if found else ""


def _attempt(job: str) -> int:
    found = JOB_ID.fullmatch(job)
    return int(found["attempt"] or 1) if found else 0


@dataclass(frozen=True)
class Found:
    """A submission that a user has named.

    Attributes:
        id: of the sweep.
        run: the run directory.
        job: the id of the latest job.
        jobs: those that Ray knows, the latest last; none while the head has yet to continue it.
    """

    id: str
    run: str
    job: str
    jobs: tuple[RayJob, ...] = ()

    @property
    def latest(self) -> RayJob | None:
        return self.jobs[-1] if self.jobs else None


def find_submission(jobs: Iterable[RayJob], name: str) -> Found:
    """The submission with an id, a job's id, a run directory, or the name of a run.

    Raises:
        UserError: none has, or several have; lists those there are.
    """
    by_id: dict[str, list[RayJob]] = {}
    for job in jobs:
        if id_of(job.id):
            by_id.setdefault(id_of(job.id), []).append(job)
    runs = {each: of[-1].metadata.get(RUN, "") for each, of in by_id.items()}
    wanted = name.rstrip("/")
    matching = [
        each
        for each, run in runs.items()
        if wanted in {each, run, Path(run).name} or any(job.id == wanted for job in by_id[each])
    ]
    if len(matching) > 1:
        running = [each for each in matching if not by_id[each][-1].is_over]
        matching = running if len(running) == 1 else matching
    if len(matching) != 1:
        there = ", ".join(f"{each} ({run})" for each, run in runs.items()) or "none since Ray was started on its head"
        what = f"{counted(len(matching), 'submission')} have this name" if matching else "no submission"
        raise UserError(f"{name}: {what}. Give the id or the run directory of one that the cluster has: {there}")
    (only,) = matching
    of_it = tuple(attempts(by_id[only], only))
    return Found(only, runs[only], of_it[-1].id, of_it)
