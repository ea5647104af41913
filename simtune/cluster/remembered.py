"""What this machine has submitted and not seen to end, for a head that was created anew and knows nothing.

A head records unfinished submissions on its own disk. If the head itself is lost, `simtune cluster up` creates another
one with an empty disk, and submits from here what was unfinished there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from simtune.cluster.connection import Connection, Say
from simtune.cluster.submission import RECORD, Submission, attempts
from simtune.errors import RunError
from simtune.storage.files import write_bytes
from simtune.storage.records import read_record, write_record


def remember(cluster: str, submission: Submission, package: bytes) -> None:
    """Remembers a submission.

    Args:
        cluster: name of the cluster.
        submission: of the sweep.
        package: that its job works with.
    """
    folder = _folder(cluster) / submission.id
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_bytes(folder / submission.package, package)
    write_record(folder / RECORD, submission)


def forget(cluster: str, submission: str = "") -> None:
    """Forgets a submission that has ended, or was stopped; without one, all of a cluster that was given back."""
    shutil.rmtree(_folder(cluster) / submission, ignore_errors=True)


def remembered(cluster: str) -> Iterator[tuple[Submission, bytes]]:
    """What is remembered of a cluster, each with its package."""
    for path in sorted(_folder(cluster).glob(f"*/{RECORD}")):
        try:
            submission = read_record(path, Submission)
            yield submission, (path.parent / submission.package).read_bytes()
        except (RunError, OSError):
            # Of another version, or half removed: there is nothing to continue.
            forget(cluster, path.parent.name)


def continue_on_new_head(connection: Connection, say: Say) -> None:
    """Submits again what is remembered, and what the head has neither as a job nor on its disk.

    Args:
        connection: to the cluster, whose head was just started.
        say: gets a line for each.
    """
    cluster = connection.cluster.name
    wanted = list(remembered(cluster))
    if not wanted:
        return
    there = connection.ask(lambda jobs: jobs.list())
    unfinished = {record.id for record in connection.records()}
    for submission, package in wanted:
        known = attempts(there, submission.id)
        if submission.id in unfinished or (known and not known[-1].is_over):
            continue
        if known or connection.has_ended(submission.id):
            forget(cluster, submission.id)
            continue
        first = submission.model_copy(update={"job": submission.id, "num_restarts": 0})
        connection.write_record(first, package)
        connection.start(first, package)
        say(f"{first.id}: was unfinished on the head that is gone; submitted again, which continues it")


def _folder(cluster: str) -> Path:
    return Path("~/.simtune/submitted").expanduser() / quote(cluster, safe="")
