"""What the commands share: their common options, and how settings are read and results printed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simtune.cli.screen import Screen
from simtune.errors import shown
from simtune.terminal import say
from simtune.wording import nearest

if TYPE_CHECKING:
    from simtune.config import Sweep
    from simtune.progress import Display


class ExecutorChoice(StrEnum):
    inline = "inline"
    local = "local"
    cluster = "cluster"


class RetryChoice(StrEnum):
    failed = "failed"


def one_of(kind: type[StrEnum]) -> Callable[[Any], StrEnum]:
    """A parser of an option that takes one of a few words."""

    def parse(value: Any) -> StrEnum:
        try:
            return kind(value)
        except ValueError:
            known = [str(word) for word in kind]
            raise typer.BadParameter(f"{shown(value)} is none of {', '.join(known)}{nearest(value, known)}") from None

    return parse


SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP", help="Sweep file (YAML).", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="Override a field, e.g. --set selection.sizes=[10,50]. Repeatable."
    ),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage", metavar="DIR", help="Where runs lie (the sweep's storage): a folder, or s3://bucket/key."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON in place of tables.")]
ExecutorOption = Annotated[
    ExecutorChoice,
    typer.Option(
        parser=one_of(ExecutorChoice),
        metavar="|".join(ExecutorChoice),
        help="inline: this process; local: a Ray of this machine; cluster: the Ray cluster this machine is in.",
    ),
]
RunDirectory = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="Run directory, e.g. runs/quickstart or s3://bucket/runs/quickstart.", show_default=False
    ),
]


def load(path: Path, overrides: list[str] | None, storage: str | None) -> Sweep:
    """The settings of a sweep file, with what the command line overrides."""
    from simtune.config import load_sweep

    return load_sweep(path, overrides or (), storage)


def run_stages(
    sweep: Path, overrides: list[str] | None, storage: str | None, executor: ExecutorChoice, with_subsets: bool
) -> list[Any]:
    """Runs the stages before training and says where their files are; the subsets of the first grid point."""
    settings = load(sweep, overrides, storage)
    from simtune.executors.by_name import make_executor
    from simtune.sweep.train_one import embed_and_select

    with display_for(False) as display:
        worker = make_executor(executor.value)
        try:
            stages = embed_and_select(settings, worker, display, with_subsets)
        finally:
            worker.close()
    say(f"written: {stages.run_directory}", err=True)
    return stages.subsets[0] if with_subsets else []


def listed(text: str, option: str) -> list[Any]:
    """The values of a list such as `10,100`, with or without the brackets of a sweep file."""
    from simtune.config.loading import parse_value

    text = text.strip()
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    return [parse_value(part, option) for part in inner.split(",")]


@contextmanager
def display_for(quiet: bool) -> Iterator[Display]:
    """Where progress goes: nowhere when quiet, else to standard error.

    Standard output is for results: what libraries print meanwhile (Ray tells there of lost workers) goes to standard
    error too.
    """
    from simtune.cli.live_display import ConsoleDisplay
    from simtune.progress import Quiet

    with redirect_stdout(sys.stderr):
        if quiet:
            yield Quiet()
        else:
            with ConsoleDisplay(Screen(err=True)) as display:
                yield display
