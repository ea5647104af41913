"""What only the head of a cluster can read of a run: its status, and its tables and report."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from simtune.cluster.archive import check_target, unpack
from simtune.cluster.connection import Connection
from simtune.cluster.ssh import SSH_FAILED, prepare_known_hosts
from simtune.cluster.submission import Found, find_submission
from simtune.errors import ClusterError, RunError
from simtune.storage.object_store import is_object_url


def is_run_directory(name: str) -> bool:
    """Whether a name is a run directory of the cluster, and not a submission or the name of a run."""
    return name.startswith("/") or is_object_url(name)


def run_directory_on(connection: Connection, name: str) -> str:
    """The run directory of a submission, or of a run's name."""
    return name if is_run_directory(name) else named_submission(connection, name).run


def named_submission(connection: Connection, name: str) -> Found:
    """The submission of a name; see `find_submission`."""
    return find_submission(connection.ask(lambda jobs: jobs.list()), name)


def head_status(connection: Connection, run: str) -> str:
    """The status of a run as JSON, as `simtune status --json` on the head gives it.

    Raises:
        RunError: there is no such run, or none whose trials are planned.
        ClusterError: the head cannot be reached.
    """
    done = connection.ssh.run(connection.ssh.simtune("status", run, "--json"))
    if done.returncode:
        raise RunError(_last_line(done.stderr))
    return done.stdout.decode()


def download(connection: Connection, run: str, last: str, folder: Path) -> int:
    """Copies tables and report of a run from the head; returns the number of files.

    Args:
        connection: to the cluster.
        run: the run directory, as the head sees it.
        last: the last file of the archive.
        folder: to make.

    Raises:
        RunError: there is no such run.
        ClusterError: the head cannot be reached, or the connection broke.
    """
    check_target(folder, last)
    prepare_known_hosts()
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
            num_files = unpack(process.stdout, last, folder)
        except ClusterError as error:
            problem = error
        process.stdout.close()
        code = process.wait()
        said.seek(0)
        text = said.read()
    if code == SSH_FAILED:
        raise connection.ssh.error(text.decode(errors="replace"))
    if code:
        raise RunError(_last_line(text))
    if problem is not None:
        raise problem
    return num_files


def _last_line(said: bytes) -> str:
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip().removeprefix("error: ") if lines else "the head gave no reason"
