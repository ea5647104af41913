"""Commands on a run directory: what it has, its report, whether it is sound, its subsets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simtune.cli.number_options import count
from simtune.cli.number_options import seed as seed_number
from simtune.cli.options import JsonOption, RunDirectory, display_for, run_directory
from simtune.cli.screen import Screen
from simtune.terminal import say, say_json
from simtune.wording import counted

app = typer.Typer()
_PANEL = "Results"


@app.command(rich_help_panel=_PANEL)
def report(run: RunDirectory) -> None:
    """Build the tables, figures and page of a run, from the results it has so far."""
    from simtune.sweep.results import report_run

    say(f"report: {report_run(run_directory(run))}")


@app.command(rich_help_panel=_PANEL)
def doctor(run: RunDirectory, as_json: JsonOption = False) -> None:
    """Verify every checksum and score of a run, and say how to fix what is wrong. Changes nothing."""
    from simtune.sweep.doctor import diagnose, diagnosis_table

    with display_for(as_json) as display:
        diagnosis = diagnose(run_directory(run), display)
    if as_json:
        say_json(diagnosis.to_dict())
    else:
        Screen().print(diagnosis_table(diagnosis))
    if diagnosis.findings:
        raise typer.Exit(1)


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
