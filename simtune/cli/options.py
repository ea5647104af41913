"""What commands share: their common options, how sweep files are read, where progress goes and where work runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simtune.cli.screen import Screen
from simtune.errors import UserError, shown
from simtune.storage.files import AnyPath, as_path
from simtune.terminal import say
from simtune.wording import nearest

if TYPE_CHECKING:
    from simtune.config import Sweep
    from simtune.executors.base import Executor
    from simtune.progress import Display
    from simtune.sweep.train_one import Stages


class ExecutorChoice(StrEnum):
    """Values of `--executor`."""

    inline = "inline"
    local = "local"
    cluster = "cluster"


class RetryChoice(StrEnum):
    """Values of `--retry`."""

    failed = "failed"


def one_of(choices: type[StrEnum]) -> Callable[[object], StrEnum]:
    """A parser for an option whose values are the members of an enum; its error suggests the nearest one."""

    def parse(value: Any) -> StrEnum:
        try:
            return choices(value)
        except ValueError:
            known = [str(word) for word in choices]
            raise typer.BadParameter(
                f"{shown(value)} is not one of {', '.join(known)}{nearest(value, known)}"
            ) from None

    return parse


SweepFile = Annotated[
    Path,
    typer.Argument(
        metavar="SWEEP", help="Sweep file (YAML), or a built-in sweep: quickstart, paper.", show_default=False
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="Override a field, e.g. --set selection.sizes=[10,50]. Repeatable."
    ),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="DIR",
        help="Where to keep runs instead of the sweep's storage: a folder, or s3://, gs:// or az:// BUCKET/KEY.",
    ),
]
RetryOption = Annotated[
    RetryChoice | None,
    typer.Option(
        parser=one_of(RetryChoice),
        metavar="failed",
        help="failed: run only the trials that failed, for whatever reason.",
    ),
]
RetrainOption = Annotated[
    bool, typer.Option("--retrain", help="Retrain models that lack scores and whose weights were not saved.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
ExecutorOption = Annotated[
    ExecutorChoice,
    typer.Option(
        parser=one_of(ExecutorChoice),
        metavar="|".join(ExecutorChoice),
        help="inline: this process; local: Ray on this machine; cluster: the Ray cluster that this machine is part of.",
    ),
]
RunDirectory = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="Run directory, e.g. runs/quickstart or s3://bucket/runs/quickstart.", show_default=False
    ),
]


def run_directory(given: str) -> AnyPath:
    """The run directory that a user means.

    Raises:
        UserError: there is something else, or nothing.
    """
    path = as_path(given)
    if isinstance(path, Path) and not path.is_dir():
        what = "a file, not a run directory" if path.exists() else "no such run directory"
        named = Path("runs") / path.stem
        hint = (
            f"did you mean {named}?"
            if named.is_dir()
            else "give one such as runs/quickstart, which `simtune run` makes"
        )
        raise UserError(f"{given}: {what}; {hint}")
    return path


@contextmanager
def sweep_settings(
    sweep: Path,
    overrides: list[str] | None,
    storage: str | None,
    arm: str | None = None,
    as_written: bool = False,
) -> Iterator[Sweep]:
    """Reads a sweep file, or a built-in sweep by its name, and applies the overrides of the command line.

    Errors about its fields name the line or the option, also those that are found later, in the `with` block. `--arm`
    replaces the strategies. `as_written` leaves relative paths as they are.
    """
    from simtune.config.builtin_sweeps import find_sweep_file
    from simtune.config.loading import read_sweep, read_sweep_as_written

    read = read_sweep_as_written if as_written else read_sweep
    settings, origins = read(find_sweep_file(sweep), overrides or (), storage)
    if arm is not None:
        origins = origins.with_option("selection.strategies", f"--arm {arm}")
    with origins.in_errors():
        yield settings


def run_stages(settings: Sweep, executor: ExecutorChoice, with_subsets: bool) -> Stages:
    """Runs the stages before training and reports where their files are."""
    from simtune.sweep.train_one import embed_and_select

    with display_for(False) as display, executor_for(executor) as worker:
        stages = embed_and_select(settings, worker, display, with_subsets)
    say(f"written: {stages.run_directory}", err=True)
    return stages


def parse_list(text: str, option: str) -> list[Any]:
    """The values of a list such as `10,100`, with or without the brackets of a sweep file."""
    from simtune.config.loading import parse_value

    text = text.strip()
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    return [parse_value(part, option) for part in inner.split(",")]


def executor_for(choice: ExecutorChoice) -> Executor:
    """The executor of a name, to be used in a `with` block."""
    from simtune.executors.registry import make_executor

    return make_executor(choice.value)


@contextmanager
def display_for(quiet: bool) -> Iterator[Display]:
    """Shows progress and warnings on standard error, or only warnings if quiet.

    Standard output is for results, so whatever libraries print meanwhile (Ray reports lost workers there) is redirected
    to standard error too.
    """
    from simtune.cli.live_display import ConsoleDisplay, OnlyWarnings

    with redirect_stdout(sys.stderr):
        if quiet:
            yield OnlyWarnings()
        else:
            with ConsoleDisplay(Screen(err=True)) as display:
                yield display
