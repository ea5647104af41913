"""Commands on a run directory: what it has, its report, whether it is sound, its subsets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simtune.cli.number_options import count
from simtune.cli.number_options import seed as seed_number
from simtune.cli.options import (
    ExecutorChoice,
    JsonOption,
    Overrides,
    RunDirectory,
    StorageOption,
    display_for,
    executor_for,
    run_directory,
    sweep_settings,
)
from simtune.cli.screen import Screen
from simtune.errors import ConfigError, UserError
from simtune.terminal import say, say_json
from simtune.wording import counted

if TYPE_CHECKING:
    from simtune.config import Sweep

app = typer.Typer()
_PANEL = "Results"


@app.command(rich_help_panel=_PANEL)
def report(
    run: RunDirectory,
    paper: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Also write LaTeX and Markdown tables, and figures as PDF and SVG, into this folder."
        ),
    ] = None,
) -> None:
    """Build the tables, figures and page of a run, from the results it has so far."""
    from simtune.cli.screen import Screen
    from simtune.sweep.results import paper_of_run, report_run

    Screen().print_path("report", report_run(run_directory(run)))
    for path in paper_of_run(run_directory(run), paper) if paper is not None else ():
        say(f"{path}: written")


@app.command(rich_help_panel=_PANEL)
def doctor(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Run directory; with --cluster, a sweep file.", show_default=False),
    ],
    cluster: Annotated[
        bool,
        typer.Option("--cluster", help="Check the hosts of the Ray cluster that this machine is part of for a sweep."),
    ] = False,
    overrides: Overrides = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify every checksum and score of a run, and say how to fix what is wrong. Changes nothing.

    With --cluster: whether every host has this simtune, reaches the storage, and has what a sweep names.
    """
    if cluster:
        with sweep_settings(Path(run), overrides, storage) as settings:
            _check_cluster(settings, as_json)
        return
    for option, given in (("--set", overrides), ("--storage", storage)):
        if given:
            raise UserError(f"{option}: only with --cluster, which checks the hosts for a sweep")
    from simtune.inspection.doctor import diagnose

    with display_for(as_json) as display:
        diagnosis = diagnose(run_directory(run), display)
    if as_json:
        say_json(diagnosis.to_dict())
    else:
        from simtune.inspection.tables import diagnosis_table

        Screen().print(diagnosis_table(diagnosis))
    if diagnosis.findings:
        raise typer.Exit(1)


def _check_cluster(settings: Sweep, as_json: bool) -> None:
    """Prints what the hosts of a cluster have; refuses them as `simtune run` would."""
    from simtune.config import expand_grid
    from simtune.executors.hosts.tables import hosts_table
    from simtune.sweep.preflight import ask_hosts, refuse_problems

    sweeps = [point.sweep for point in expand_grid(settings)]
    unfit: ConfigError | None = None
    with display_for(as_json) as display, executor_for(ExecutorChoice.cluster) as worker:
        preflight = ask_hosts(sweeps, worker, display)
        try:
            # A run would wait for hosts, and ask for them.
            if not any(report.num_cpus for report in preflight.reports):
                raise ConfigError("resources: no host offers CPUs. A run waits until one does")
            for sweep in sweeps:
                worker.check(sweep, display)
        except ConfigError as error:
            unfit = error
    if as_json:
        say_json(preflight.to_dict())
    else:
        Screen().print(hosts_table(preflight))
    for line in preflight.warnings:
        say(f"warning: {line}", err=True)
    refuse_problems(preflight)
    if unfit is not None:
        raise unfit


@app.command(rich_help_panel=_PANEL)
def export(
    run: RunDirectory,
    arm: Annotated[str, typer.Option(help="Arm whose subset to write, as `simtune select` names it, or full.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to create.")],
    size: Annotated[
        int | None,
        typer.Option(parser=count, metavar="N", help="Number of tasks (not needed if the arm has one size)."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(parser=seed_number, metavar="N", help="Seed (the run's first by default).")
    ] = None,
    grid: Annotated[str | None, typer.Option(metavar="FIELD=VALUE", help="Grid point, if the run has several.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a subset's instances for another trainer: a Hugging Face data set, source/target lines and chat lines."""
    from simtune.export.subset_files import export_subset

    with display_for(as_json) as display:
        record = export_subset(run_directory(run), arm, size, seed, output, display, grid)
    if as_json:
        say_json({"output": str(output.absolute()), **record.model_dump(mode="json")})
    else:
        say(f"{output}: {counted(record.num_instances, 'instance')} of {counted(record.num_tasks, 'task')}")
