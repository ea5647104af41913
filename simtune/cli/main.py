"""The commands that run sweeps, and the entry point.

Standard output is for results (tables, JSON); progress and messages go to standard error. Exit codes: 0 done, 1 some
trials have no result or something broke, 2 the input is wrong; 130 interrupted, 143 terminated, 129 terminal closed.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from simtune.cli import choosing, signals
from simtune.cli.numbers import count
from simtune.cli.numbers import seed as seed_number
from simtune.cli.options import (
    ExecutorChoice,
    ExecutorOption,
    JsonOption,
    Overrides,
    RetryChoice,
    RunDirectory,
    StorageOption,
    SweepFile,
    display_for,
    load,
    one_of,
    run_stages,
)
from simtune.cli.screen import Screen
from simtune.cli.stopped import what_is_left
from simtune.errors import SimtuneError, UserError
from simtune.redaction import redact
from simtune.storage.files import as_path
from simtune.terminal import guarded_streams, say, say_json
from simtune.wording import counted, nearest

app = typer.Typer(
    name="simtune",
    help="Which instruction tasks should a model be trained on? Choose subsets by semantic similarity, fine-tune on "
    "each, and measure what the choice was worth.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(help="Look at a corpus, or fetch a public one.", invoke_without_command=True)
app.add_typer(data_app, name="data")
app.add_typer(choosing.app)


@dataclass
class _Started:
    """What this process was started for."""

    debug: bool = False
    command: str = ""


_started = _Started()


def _print_version(asked: bool) -> None:
    if asked:
        from simtune import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        # Eager: it needs no command beside it.
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    _started.debug, _started.command = debug, context.invoked_subcommand or ""
    _help_without_command(context)


@data_app.callback()
def _data(context: typer.Context) -> None:
    _started.command = f"data {context.invoked_subcommand}"
    _help_without_command(context)


def _help_without_command(context: typer.Context) -> None:
    """A name without a command is a question, not a mistake: help, and exit code 0."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


@app.command()
def run(
    sweep: SweepFile,
    overrides: Overrides = None,
    storage: StorageOption = None,
    executor: ExecutorOption = ExecutorChoice.local,
    retry: Annotated[
        RetryChoice | None,
        typer.Option(
            parser=one_of(RetryChoice),
            metavar="failed",
            help="failed: only the trials that failed, whatever the reason.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Embed, select, train what is missing, score and report. Run it again to continue or to grow a sweep."""
    settings = load(sweep, overrides, storage)
    from simtune.executors.by_name import make_executor
    from simtune.report.tables import results_table
    from simtune.sweep.run import run_sweep

    with display_for(as_json) as display:
        worker = make_executor(executor.value)
        try:
            outcome = run_sweep(settings, worker, display, sys.argv[1:], only_failed=retry is RetryChoice.failed)
        finally:
            worker.close()
    if as_json:
        say_json(
            {
                "run": str(outcome.run_directory),
                "report": str(outcome.report),
                "num_run": outcome.num_run,
                "num_failed": outcome.num_failed,
                "results": outcome.results.to_pylist(),
            }
        )
    else:
        Screen().print(results_table(outcome.results))
        say(f"report: {outcome.report}")
    if outcome.num_failed:
        say(
            f"{counted(outcome.num_failed, 'trial has', 'trials have')} no result; see "
            f"{outcome.run_directory}/results.md",
            err=True,
        )
        raise typer.Exit(1)


@app.command()
def plan(
    sweep: SweepFile, overrides: Overrides = None, storage: StorageOption = None, as_json: JsonOption = False
) -> None:
    """List the trials and what each will cost, in examples, tokens and disk, without running anything."""
    settings = load(sweep, overrides, storage)
    from simtune.sweep.plan import plan_sweep, plan_table

    with display_for(as_json) as display:
        costs = plan_sweep(settings, display)
    if as_json:
        say_json(costs.to_dict())
    else:
        Screen().print(plan_table(costs))
    if costs.disk.warning:
        say(f"warning: {costs.disk.warning}", err=True)


@app.command()
def embed(
    sweep: SweepFile,
    overrides: Overrides = None,
    storage: StorageOption = None,
    executor: ExecutorOption = ExecutorChoice.local,
) -> None:
    """Embed the tasks of a sweep, and stop there."""
    run_stages(sweep, overrides, storage, executor, with_subsets=False)


@app.command()
def train(
    sweep: SweepFile,
    arm: Annotated[str, typer.Option(help="Strategy, or full, or untuned.")],
    size: Annotated[
        int | None, typer.Option(parser=count, metavar="N", help="Number of tasks (not for full and untuned).")
    ] = None,
    seed: Annotated[int, typer.Option(parser=seed_number, metavar="N", help="Seed.")] = 0,
    overrides: Overrides = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train and score one trial in this process, so that breakpoints stop. Nothing is reused, nothing is kept."""
    settings = load(sweep, overrides, storage)
    from simtune.sweep.train_one import train_one

    with display_for(as_json) as display:
        metrics = train_one(settings, arm, size, seed, display)
    if as_json:
        say_json(metrics)
    else:
        overall = metrics["overall"]
        say(f"ROUGE-L {overall['rouge_l']:.4f}  exact match {overall['exact_match']:.4f}")


@app.command()
def score(
    references: Annotated[Path, typer.Option(help="JSON lines: id, references, task_id, task_category, track.")],
    predictions: Annotated[Path, typer.Option(help="JSON lines: id, prediction.")],
    track: Annotated[str | None, typer.Option(help="default or xlingual; both by default.")] = None,
    xlingual_tokenizer: Annotated[
        str | None, typer.Option("--xlingual-tokenizer", help="GPT-2's tokenizer: a folder or a hub name.")
    ] = None,
    tasks: Annotated[bool, typer.Option("--tasks/--no-tasks", help="One line a task.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Score a prediction file with the public leaderboard's numbers."""
    from simtune.evaluation.leaderboard import TRACKS, score_files
    from simtune.evaluation.tables import render_report
    from simtune.hub import local_folder

    if track is not None and track not in TRACKS:
        raise UserError(
            f"--track: {track!r} is no track{nearest(track, TRACKS) or ';'} choose one of {', '.join(TRACKS)}"
        )
    for option, path in (("--references", references), ("--predictions", predictions)):
        if not path.exists():
            raise UserError(f"{option}: {path}: no such file")
    if xlingual_tokenizer is not None and not Path(xlingual_tokenizer).expanduser().is_file():
        local_folder(xlingual_tokenizer, "--xlingual-tokenizer")
    report = score_files(references, predictions, track, xlingual_tokenizer)
    if as_json:
        say_json(report.to_dict())
    else:
        for table in render_report(report, tasks=tasks):
            Screen().print(table)


@app.command()
def report(run: RunDirectory) -> None:
    """Build tables, figures and page of a run: of a finished one from its rows alone, or else of what is there now."""
    from simtune.sweep.results import report_run

    say(f"report: {report_run(as_path(run))}")


@app.command()
def status(run: RunDirectory, as_json: JsonOption = False) -> None:
    """How far a run is: trials done, running, failed and missing."""
    from simtune.sweep.status import run_status, status_table

    found = run_status(as_path(run))
    if as_json:
        say_json(found.to_dict())
    else:
        Screen().print(status_table(found))


@app.command()
def doctor(run: RunDirectory, as_json: JsonOption = False) -> None:
    """Verify every checksum and score of a run, and say what to do about what is wrong. Changes nothing."""
    from simtune.sweep.doctor import diagnose, diagnosis_table

    with display_for(as_json) as display:
        diagnosis = diagnose(as_path(run), display)
    if as_json:
        say_json(diagnosis.to_dict())
    else:
        Screen().print(diagnosis_table(diagnosis))
    if diagnosis.findings:
        raise typer.Exit(1)


@data_app.command("check")
def data_check(
    path: Annotated[str, typer.Argument(metavar="CORPUS", help="Corpus folder, or demo.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Read a corpus and say what is in it and what is wrong with it."""
    from simtune.corpus.check import check_corpus
    from simtune.corpus.tables import render_check

    with display_for(as_json) as display, display.stage("read tasks") as on_progress:
        found = check_corpus(path, on_progress)
    if as_json:
        say_json(found.to_dict())
    else:
        for part in render_check(found):
            Screen().print(part)
    if found.num_errors:
        raise typer.Exit(1)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="natural-instructions", show_default=False)],
    to: Annotated[Path | None, typer.Option(help="Folder to make (data/NAME by default).")] = None,
    url: Annotated[str | None, typer.Option(help="Another address of the archive, such as a mirror.")] = None,
    sha256: Annotated[str | None, typer.Option(help="Refuse any other content.")] = None,
    size: Annotated[
        int | None, typer.Option(parser=count, metavar="N", help="Refuse any other size, in bytes.")
    ] = None,
) -> None:
    """Download a public corpus: resumed where it broke off, checked, and unpacked safely."""
    from simtune.corpus.archive.fetch import ARCHIVES, ArchiveSource, fetch_archive, read_record
    from simtune.storage.output_path import check_folder, check_writable

    if name not in ARCHIVES:
        raise UserError(f"no public corpus {name!r}{nearest(name, ARCHIVES)} Known: {', '.join(ARCHIVES)}")
    known = ARCHIVES[name]
    source = ArchiveSource(url or known.url, sha256 or known.sha256, size or known.size)
    destination = to or Path("data") / name
    check_folder(destination, "--to")
    check_writable(destination, "--to")
    with display_for(False) as display, display.stage(f"fetch {name}") as on_progress:
        folder = fetch_archive(source, destination, progress=lambda done, total: on_progress(done, total or 0))
    record = read_record(folder)
    say(f"{folder}: ready; use it with --set corpus.path={folder}")
    if record is not None:
        say(f"SHA-256 of the archive: {record.sha256} ({counted(record.size, 'byte')})")


def _show_traceback(error: Exception) -> None:
    """Python's own traceback without secrets: libraries put whole addresses into their errors."""
    _say(redact("".join(traceback.format_exception(error))).rstrip("\n"))


def main() -> None:
    """Entry point: errors become one message and an exit code."""
    signals.install()
    with guarded_streams():
        try:
            # One name, however it was started.
            app(standalone_mode=True, prog_name="simtune")
        except (Exception, SystemExit) as error:
            _end(error)
        finally:
            signals.ignore()


def _end(error: Exception | SystemExit) -> None:
    """Says what ended a command, and ends it with the exit code for that."""
    if (stopped := signals.received()) is not None:
        signals.ignore()
        _say(f"{signals.REASONS[stopped]}; {what_is_left(_started.command, sys.argv[1:])}")
        sys.exit(128 + stopped)
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, SimtuneError) and not _started.debug:
        _say(f"error: {error}")
    else:
        _show_traceback(error)
    sys.exit(error.exit_code if isinstance(error, SimtuneError) else 1)


def _say(text: str) -> None:
    # A terminal that is gone refuses every write; the exit code is the right one all the same.
    with contextlib.suppress(OSError):
        say(text, err=True)
