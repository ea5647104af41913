"""Commands that read results: of a run, or of a file of predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simtune.cli.number_options import count
from simtune.cli.number_options import seed as seed_number
from simtune.cli.options import JsonOption, RunDirectory, display_for
from simtune.cli.screen import Screen
from simtune.errors import UserError
from simtune.storage.files import as_path
from simtune.terminal import say, say_json
from simtune.wording import counted, nearest

app = typer.Typer()
_PANEL = "Results"


@app.command(rich_help_panel=_PANEL)
def status(run: RunDirectory, as_json: JsonOption = False) -> None:
    """Show how far a run is: trials done, running, failed and missing."""
    from simtune.sweep.status import run_status, status_table

    found = run_status(as_path(run))
    if as_json:
        say_json(found.to_dict())
    else:
        Screen().print(status_table(found))


@app.command(rich_help_panel=_PANEL)
def report(run: RunDirectory) -> None:
    """Build the tables, figures and page of a run, from the results it has so far."""
    from simtune.sweep.results import report_run

    say(f"report: {report_run(as_path(run))}")


@app.command(rich_help_panel=_PANEL)
def doctor(run: RunDirectory, as_json: JsonOption = False) -> None:
    """Verify every checksum and score of a run, and say how to fix what is wrong. Changes nothing."""
    from simtune.sweep.doctor import diagnose, diagnosis_table

    with display_for(as_json) as display:
        diagnosis = diagnose(as_path(run), display)
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
        record = export_subset(as_path(run), arm, size, seed, output, display, grid)
    if as_json:
        say_json({"output": str(output.absolute()), **record.model_dump(mode="json")})
    else:
        say(f"{output}: {counted(record.num_instances, 'instance')} of {counted(record.num_tasks, 'task')}")


@app.command(rich_help_panel=_PANEL)
def score(
    references: Annotated[Path, typer.Option(help="JSON lines: id, references, task_id, task_category, track.")],
    predictions: Annotated[Path, typer.Option(help="JSON lines: id, prediction.")],
    track: Annotated[str | None, typer.Option(help="default or xlingual; both by default.")] = None,
    xlingual_tokenizer: Annotated[
        str | None, typer.Option("--xlingual-tokenizer", help="GPT-2's tokenizer: a folder or a hub name.")
    ] = None,
    tasks: Annotated[bool, typer.Option("--tasks/--no-tasks", help="Show one line per task.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Score a prediction file as the public leaderboard does."""
    from simtune.evaluation.leaderboard import TRACKS, score_files
    from simtune.evaluation.tables import render_report
    from simtune.hub import local_folder

    if track is not None and track not in TRACKS:
        suggestion = nearest(track, TRACKS) or ";"
        raise UserError(f"--track: unknown track {track!r}{suggestion} choose one of {', '.join(TRACKS)}")
    for option, path in (("--references", references), ("--predictions", predictions)):
        if not path.exists():
            raise UserError(f"{option}: {path}: no such file")
    if xlingual_tokenizer is not None and not Path(xlingual_tokenizer).expanduser().is_file():
        local_folder(xlingual_tokenizer, "--xlingual-tokenizer")
    scores = score_files(references, predictions, track, xlingual_tokenizer)
    if as_json:
        say_json(scores.to_dict())
    else:
        for table in render_report(scores, tasks=tasks):
            Screen().print(table)
