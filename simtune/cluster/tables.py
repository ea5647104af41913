"""What was submitted to a cluster, for a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable

from simtune.cluster.ray_jobs import RayJob
from simtune.cluster.submission import RUN, Found, Submission, id_of
from simtune.tables import TextTable


def submissions_table(jobs: Iterable[RayJob], records: Iterable[Submission]) -> TextTable:
    """The jobs that Ray knows, and the submissions that wait to be continued."""
    rows = [(job.id, job.status.lower(), job.started_ms, job.metadata.get(RUN, "")) for job in jobs if id_of(job.id)]
    known = {row[0] for row in rows}
    waiting = [(record.job, "waiting to be continued", 0, record.run) for record in records if record.job not in known]
    table = TextTable(title=None if rows or waiting else "no sweep was submitted since Ray was started")
    for name in ("submission", "status", "since", "run"):
        table.add_column(name, overflow="fold")
    for job, status, started_ms, run in [*rows, *waiting]:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(started_ms / 1000)) if started_ms else ""
        table.add_row(job, status, since, run)
    return table


def job_line(found: Found) -> str:
    """One line on the latest job of a submission."""
    job, run = found.latest, found.run
    if job is None:
        return f"{found.job}: waiting to be continued, run directory {run}"
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started_ms / 1000))
    code = f", exit code {job.exit_code}" if job.exit_code else ""
    return f"{job.id}: {job.status.lower()}{code}, submitted {since}, run directory {run}"
