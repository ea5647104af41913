"""What this machine has submitted and not seen to end, for a head that was created again and knows nothing.

A head records unfinished submissions on its own disk. If the head itself is lost, `simtune cluster up` creates another
one with an empty disk, and offers to submit from here what was unfinished there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from simtune.cluster.connection import Connection, Say
from simtune.cluster.submission import RECORD, Submission, attempts
from simtune.errors import RunError
from simtune.storage.files import write_bytes
from simtune.storage.records import read_record, write_record
from simtune.wording import counted

_MINUTES_AN_HOUR, _LONG_HOURS = 60, 48


@dataclass(frozen=True)
class Remembered:
    """A submission, the package that its job works with, and when it was submitted (seconds since 1970)."""

    submission: Submission
    package: bytes
    submitted_at: float


def remember(cluster: str, submission: Submission, package: bytes) -> None:
    """Remembers a submission.

    Args:
        cluster: key of the cluster.
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


def remembered(cluster: str) -> Iterator[Remembered]:
    """What is remembered of a cluster."""
    for path in sorted(_folder(cluster).glob(f"*/{RECORD}")):
        try:
            submission = read_record(path, Submission)
            package = (path.parent / submission.package).read_bytes()
            yield Remembered(submission, package, path.stat().st_mtime)
        except (RunError, OSError):
            # Of another version, or half removed: there is nothing to continue.
            forget(cluster, path.parent.name)


def continue_on_new_head(connection: Connection, say: Say, agree: Callable[[str], bool]) -> None:
    """Submits again what is remembered, and what the head has neither as a job nor on its disk.

    Args:
        connection: to the cluster, whose head was just started.
        say: gets a line for each.
        agree: asks the user whether to submit them.
    """
    wanted = _unknown_to_head(connection)
    if not wanted:
        return
    for each in wanted:
        say(
            f"{each.submission.id}: submitted {_age(each.submitted_at)} ago, to {each.submission.run}; unfinished on "
            "the previous head"
        )
    if not agree(f"Submit {'it' if len(wanted) == 1 else 'them'} again, which continues what is unfinished?"):
        say(f"not submitted again; the next {connection.cluster.command('cluster up')} asks again")
        return
    for each in wanted:
        first = each.submission.model_copy(update={"job": each.submission.id, "num_restarts": 0})
        connection.write_record(first, each.package)
        connection.start(first, each.package)
        say(f"{first.id}: submitted again")


def _unknown_to_head(connection: Connection) -> list[Remembered]:
    cluster = connection.cluster.key
    found = list(remembered(cluster))
    if not found:
        return []
    there = connection.ask(lambda jobs: jobs.list())
    unfinished = {record.id for record in connection.records()}
    unknown = []
    for each in found:
        known = attempts(there, each.submission.id)
        if each.submission.id in unfinished or (known and not known[-1].is_over):
            continue
        if known or connection.has_ended(each.submission.id):
            forget(cluster, each.submission.id)
        else:
            unknown.append(each)
    return unknown


def _age(since: float) -> str:
    minutes = max(0, round((time.time() - since) / 60))
    if minutes < _MINUTES_AN_HOUR:
        return counted(minutes, "minute")
    hours = round(minutes / _MINUTES_AN_HOUR)
    return counted(hours, "hour") if hours < _LONG_HOURS else counted(round(hours / 24), "day")


def _folder(cluster: str) -> Path:
    return Path("~/.simtune/submitted").expanduser() / cluster
