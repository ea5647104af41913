"""Commands that run a sweep on a cluster from this machine: submit it, follow it, stop it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simtune.cli.cluster_options import DEFAULT_CLUSTER_FILE, ClusterFileOption, SubmissionName, connected
from simtune.cli.options import (
    JsonOption,
    Overrides,
    RetrainOption,
    RetryChoice,
    RetryOption,
    StorageOption,
    SweepFile,
    sweep_settings,
)
from simtune.redaction import redact_command
from simtune.terminal import say, say_json

if TYPE_CHECKING:
    from simtune.cluster.cluster_file import ClusterFile
    from simtune.cluster.connection import Connection
    from simtune.cluster.submission import Submission
    from simtune.cluster.submit import Submitted

app = typer.Typer()
_PANEL = "Clusters"


@app.command(rich_help_panel=_PANEL)
def submit(
    sweep: SweepFile,
    cluster: ClusterFileOption = DEFAULT_CLUSTER_FILE,
    overrides: Overrides = None,
    storage: StorageOption = None,
    retry: RetryOption = None,
    retrain: RetrainOption = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return once the sweep is submitted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a sweep on a cluster, and show what it prints. It keeps running if this command or this machine stops."""
    with sweep_settings(sweep, overrides, storage, as_written=True) as settings:
        from simtune.cluster.package import make_package
        from simtune.cluster.portable_sweep import make_portable
        from simtune.cluster.submission import new_submission
        from simtune.cluster.submit import submit as submit_to

        portable = make_portable(settings)
    package = make_package(portable.files)
    options = ["--retry", str(retry)] if retry is RetryChoice.failed else []
    options += ["--retrain"] if retrain else []
    submission = new_submission(portable, package, options, _typed(cluster))
    with connected(cluster) as connection:
        say(f"cluster {connection.cluster.name}: head {connection.ssh.address}", err=True)
        submitted = submit_to(connection, submission, package)
        _tell(submitted, submission, connection.cluster)
        if as_json:
            say_json(
                {"submission": submission.id, "job": submitted.job, "run": submission.run, "new": submitted.is_new}
            )
        if not detach:
            _follow(connection, submitted.job)


@app.command(rich_help_panel=_PANEL)
def logs(
    run: SubmissionName,
    cluster: ClusterFileOption = DEFAULT_CLUSTER_FILE,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until the sweep has ended.")] = False,
) -> None:
    """Show what a submitted sweep has printed."""
    from simtune.cluster.results import named_submission

    with connected(cluster) as connection:
        found = named_submission(connection, run)
        if follow:
            _follow(connection, found.job, is_recorded=found.latest is None)
        elif found.latest is None:
            say(f"{found.job}: waiting to be continued; it has printed nothing since Ray was restarted", err=True)
        else:
            _show(connection.ask(lambda jobs: jobs.log(found.job)))
            if found.latest.status == "FAILED" and found.latest.exit_code is None and found.latest.message:
                say(found.latest.message, err=True)


@app.command(rich_help_panel=_PANEL)
def cancel(run: SubmissionName, cluster: ClusterFileOption = DEFAULT_CLUSTER_FILE) -> None:
    """Stop a submitted sweep. Finished trials are kept, and submitting the sweep again continues it."""
    from simtune.cluster.submit import cancel as cancel_on

    with connected(cluster) as connection:
        cancel_on(connection, run, say)


def _typed(cluster: Path) -> str:
    """The command that submits this sweep again, with its cluster."""
    words = redact_command(sys.argv[1:])
    if not any(word.partition("=")[0] == "--cluster" for word in words):
        words += ["--cluster", str(cluster)]
    return shlex.join(["simtune", *words])


def _tell(submitted: Submitted, submission: Submission, cluster: ClusterFile) -> None:
    """Says what came of submitting a sweep, and what to do next."""
    if submitted.is_new:
        again = "" if submitted.job == submission.id else ", which continues an earlier attempt"
        say(f"submitted: {submitted.job}, to {submission.run}{again}", err=True)
    else:
        say(f"already running: {submitted.job}, in {submission.run}", err=True)
    if submitted.runs_other_code:
        say(
            f"warning: it is running different code from this machine; to run this code, stop it "
            f"({cluster.command(f'cancel {submitted.job}')}) and submit again",
            err=True,
        )
    say(
        f"it keeps running without this machine; {cluster.command(f'status|logs|cancel|results {submission.id}')}",
        err=True,
    )


def _follow(connection: Connection, job: str, is_recorded: bool = False) -> None:
    """Shows what a job prints until it ends; this command then ends with the exit code of the job's driver."""
    from simtune.cluster.follow import follow

    ended = follow(connection, job, _show, lambda text: say(text, err=True), is_recorded)
    say(f"{ended.id}: {ended.status.lower()}", err=True)
    if ended.status != "SUCCEEDED":
        if ended.exit_code is None:
            say(ended.message, err=True)
        raise typer.Exit(ended.exit_code if ended.exit_code in (1, 2) else 1)


def _show(text: str) -> None:
    say(text, end="")
