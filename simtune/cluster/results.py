"""What only the head of a cluster can read of a run: its status, and its tables and report."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from simtune.cluster.archive import unpack
from simtune.cluster.connection import Connection
from simtune.cluster.ssh import SSH_FAILED
from simtune.cluster.submission import Found, find_submission
from simtune.errors import ClusterError, RunError, UserError
from simtune.storage.object_store import is_object_url
from simtune.wording import last_line


def is_run_directory(name: str) -> bool:
    """Whether a name is a run directory of the cluster, and not a submission or the name of a run."""
    return name.startswith("/") or is_object_url(name)


def source_on(connection: Connection, run: str) -> str:
    """What names a run of a cluster everywhere: its URL, or its folder and the cluster."""
    return run if is_object_url(run) else f"{connection.cluster.key}:{run}"


def run_directory_on(connection: Connection, name: str) -> str:
    """The run directory of a submission, or of a run's name."""
    return name if is_run_directory(name) else named_submission(connection, name).run


def named_submission(connection: Connection, name: str) -> Found:
    """A submission that Ray knows (see `find_submission`), or that is recorded on the head to be continued.

    Raises:
        UserError: there is none, or there are several.
    """
    there = connection.ask(lambda jobs: jobs.list())
    try:
        return find_submission(there, name)
    except UserError:
        records = [
            each
            for each in connection.records()
            if name.rstrip("/") in {each.id, each.job, each.run, Path(each.run).name}
        ]
        if len(records) != 1:
            raise
        return Found(records[0].id, records[0].run, records[0].job)


def head_status(connection: Connection, run: str) -> dict[str, Any] | None:
    """The status of a run, as `simtune status --json` on the head gives it; None if no trials are planned yet.

    Raises:
        RunError: it cannot be read.
        ClusterError: the head cannot be reached.
    """
    done = connection.ssh.run(connection.ssh.simtune("status", run, "--json", "--if-planned"))
    if done.returncode:
        raise RunError(f"{connection.ssh.address}: {run}: {_reason(done.stderr)}")
    found: dict[str, Any] | None = json.loads(done.stdout)
    return found


def download(connection: Connection, run: str, last: str, folder: Path, source: str) -> int:
    """Copies tables and report of a run from the head; returns the number of files.

    Args:
        connection: to the cluster.
        run: the run directory, as the head sees it.
        last: the last file of the archive.
        folder: to make.
        source: what the folder is a copy of (`source_on`).

    Raises:
        RunError: there is no such run.
        ClusterError: the head cannot be reached, or the connection broke.
    """
    command = connection.ssh.command(connection.ssh.simtune("results", run, "--download", "--output", "-"))
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101
        problem = None
        try:
            num_files = unpack(process.stdout, last, folder, source)
        except ClusterError as error:
            problem = error
        process.stdout.close()
        code = process.wait()
        said.seek(0)
        text = said.read()
    if code == SSH_FAILED:
        raise connection.ssh.error(text.decode(errors="replace"))
    if code:
        raise RunError(_reason(text))
    if problem is not None:
        raise problem
    return num_files


def _reason(said: bytes) -> str:
    return last_line(said.decode(errors="replace")).removeprefix("error: ") or "the head gave no reason"
