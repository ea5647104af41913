"""`simtune score`: a file of predictions, scored as the public leaderboard does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simtune.cli.options import JsonOption
from simtune.cli.screen import Screen
from simtune.errors import UserError
from simtune.terminal import say_json
from simtune.wording import nearest

app = typer.Typer()


@app.command(rich_help_panel="Results")
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
