"""The application: its commands, its common options, and the entry point that turns errors into exit codes.

Results (tables, JSON) go to standard output; progress and messages go to standard error. Exit codes: 0 done, 1 some
trials have no result or something broke, 2 the input is wrong; 130 interrupted, 143 terminated, 129 terminal closed.
"""

from __future__ import annotations

import contextlib
import errno
import sys
import traceback
from dataclasses import dataclass
from typing import Annotated

import typer

from simtune.cli import (
    cluster_commands,
    data_commands,
    run_directory_commands,
    score_command,
    signals,
    status_commands,
    submission_commands,
    sweep_commands,
    task_commands,
)
from simtune.cli.stop_message import stop_message
from simtune.errors import SimtuneError
from simtune.redaction import redact
from simtune.terminal import printable_streams, say

app = typer.Typer(
    name="simtune",
    help="Which instruction tasks should you train on? Choose subsets by semantic similarity, fine-tune a model on "
    "each, and measure what the choice was worth.",
    epilog="Start with `simtune new`: it writes a commented sweep file. Built-in sweeps run by name: "
    "`simtune run quickstart`.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(sweep_commands.app)
app.add_typer(task_commands.app)
app.add_typer(status_commands.app)
app.add_typer(run_directory_commands.app)
app.add_typer(score_command.app)
app.add_typer(submission_commands.app)
app.add_typer(cluster_commands.app, name="cluster", rich_help_panel="Clusters")
app.add_typer(data_commands.app, name="data", rich_help_panel="Corpora")


@dataclass
class _Invocation:
    """What this process was started to do."""

    debug: bool = False
    command: str = ""


_invocation = _Invocation()

# A disk or a share that stops working, or refuses, in the middle of the work.
_DISK_ERRORS = {
    *(errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN),
    *(errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT),
}


def _print_version(asked: bool) -> None:
    if asked:
        from simtune import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _common_options(
    context: typer.Context,
    version: Annotated[
        # Eager, so that no command is needed beside it.
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    _invocation.debug, _invocation.command = debug, context.invoked_subcommand or ""
    _show_help_without_command(context)


@data_commands.app.callback()
def _data(context: typer.Context) -> None:
    _invocation.command = f"data {context.invoked_subcommand}"
    _show_help_without_command(context)


@cluster_commands.app.callback()
def _cluster(context: typer.Context) -> None:
    _invocation.command = f"cluster {context.invoked_subcommand}"
    _show_help_without_command(context)


def _show_help_without_command(context: typer.Context) -> None:
    """Without a command, shows the help and exits with 0."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


def main() -> None:
    """Entry point: an error becomes one message and an exit code."""
    signals.install()
    with printable_streams():
        try:
            # The same name in every message, however the command was started.
            app(standalone_mode=True, prog_name="simtune")
        except (Exception, SystemExit) as error:
            _exit_with(error)
        finally:
            signals.ignore()


def _exit_with(error: Exception | SystemExit) -> None:
    """Reports what ended a command and exits with the matching code."""
    if (stopped := signals.received()) is not None:
        signals.ignore()
        _say(f"{signals.REASONS[stopped]}; {stop_message(_invocation.command, sys.argv[1:])}")
        sys.exit(128 + stopped)
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, SimtuneError) and not _invocation.debug:
        _say(f"error: {error}")
    elif isinstance(error, OSError) and error.filename and error.errno in _DISK_ERRORS and not _invocation.debug:
        _say(f"error: {redact(str(error.filename))}: {error.strerror}. Fix that and run the same command again")
    else:
        # Redacted: libraries put whole addresses, with their passwords, into errors.
        _say(redact("".join(traceback.format_exception(error))).rstrip("\n"))
    sys.exit(error.exit_code if isinstance(error, SimtuneError) else 1)


def _say(text: str) -> None:
    # Writing to a terminal that is gone fails; the exit code must still be right.
    with contextlib.suppress(OSError):
        say(text, err=True)
