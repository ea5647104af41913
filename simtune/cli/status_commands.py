"""Status and results of a run: one on this machine or in an object store, or one that only a cluster can read."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from simtune.cli.cluster_options import OnClusterOption, connected
from simtune.cli.options import JsonOption, run_directory
from simtune.cli.screen import Screen
from simtune.errors import RunError, StoreError, UserError
from simtune.storage.files import AnyPath, as_path
from simtune.terminal import say, say_json
from simtune.wording import counted

if TYPE_CHECKING:
    from simtune.inspection.status import RunStatus

app = typer.Typer()
_PANEL = "Results"
_STANDARD_OUTPUT = Path("-")

RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Run directory, e.g. runs/quickstart or s3://bucket/runs/quickstart. With --cluster also the name of a "
        "run, or the id that `simtune submit` printed.",
        show_default=False,
    ),
]


@app.command(rich_help_panel=_PANEL)
def status(
    run: RunName,
    cluster: OnClusterOption = None,
    as_json: JsonOption = False,
    if_planned: Annotated[bool, typer.Option("--if-planned", hidden=True)] = False,
) -> None:
    """Show how far a run is: trials done, running, failed and missing."""
    from simtune.inspection.status import run_status
    from simtune.sweep.run_files import NoRunError

    try:
        # A command on another computer asks whether trials are planned: a folder that is not there has none, either.
        found = _status_on(cluster, run) if cluster else run_status(as_path(run) if if_planned else run_directory(run))
    except NoRunError:
        if not if_planned:
            raise
        say_json(None)
        return
    if as_json:
        say_json(found.to_dict())
    else:
        from simtune.inspection.tables import status_table

        Screen().print(status_table(found, *(_submit_commands(cluster) if cluster else ())))


@app.command(rich_help_panel=_PANEL)
def results(
    run: RunName,
    cluster: OnClusterOption = None,
    download: Annotated[
        bool, typer.Option("--download", help="Copy tables and report, not the weights, to a folder of this machine.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="With --download: the folder, results/NAME by default; - for a tar file.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the results of a run as a table, or copy tables and report to this machine."""
    if output is not None and not download:
        raise UserError("--output: only with --download; without it, the results are printed")
    if output == _STANDARD_OUTPUT:
        _pack_run(run_directory(run))
    elif download:
        folder, num_files = _copy_run(run, cluster, output)
        report = folder / "report" / "index.html"
        say(f"{folder}: {counted(num_files, 'file')}" + (f"; open {report}" if report.exists() else "; no report yet"))
    elif cluster is None:
        _print_results(run_directory(run), as_json)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "run"
            _copy_run(run, cluster, folder)
            _print_results(folder, as_json)


def _status_on(cluster: Path, run: str) -> RunStatus:
    """The status of a run that the head of a cluster can read; one without trials if they are not planned yet."""
    from simtune.cluster.results import head_status, is_run_directory, named_submission
    from simtune.cluster.tables import job_line
    from simtune.inspection.status import RunStatus

    with connected(cluster) as connection:
        directory = run
        if not is_run_directory(run):
            submission = named_submission(connection, run)
            directory = submission.run
            say(job_line(submission), err=True)
        found = head_status(connection, directory)
        if found is not None:
            return RunStatus.from_dict(found)
        if directory == run:
            raise RunError(f"{run}: no run was started in this folder of the cluster")
        say("no trials are planned yet", err=True)
        return RunStatus(directory, None, ())


def _submit_commands(cluster: Path) -> tuple[str, str]:
    """The commands that continue a run on a cluster, and that try again what failed there."""
    from simtune.cluster.cluster_file import read_cluster_file

    file = read_cluster_file(cluster)
    return file.command("submit SWEEP"), file.command("submit SWEEP --retry failed")


def _copy_run(run: str, cluster: Path | None, output: Path | None) -> tuple[Path, int]:
    """Copies a run's tables and report; returns the folder, `results/NAME` by default, and the number of files."""
    from simtune.cluster.archive import check_target
    from simtune.cluster.results import download, run_directory_on, source_on
    from simtune.storage.object_store import is_object_url
    from simtune.sweep.run_files import MANIFEST

    def target(directory: str, source: str) -> Path:
        folder = output or Path("results") / Path(directory.rstrip("/")).name
        check_target(folder, source)
        return folder

    if cluster is None or (is_object_url(run) and _is_readable(as_path(run))):
        source = run if is_object_url(run) else str(Path(run).absolute())
        folder = target(run, source)
        return folder, _copy_from(run_directory(run), folder, source)
    with connected(cluster) as connection:
        directory = run_directory_on(connection, run)
        source = source_on(connection, directory)
        folder = target(directory, source)
        # Whether this machine can read `run` itself was asked above.
        if directory != run and is_object_url(directory) and _is_readable(as_path(directory)):
            return folder, _copy_from(as_path(directory), folder, source)
        return folder, download(connection, directory, MANIFEST, folder, source)


def _is_readable(run: AnyPath) -> bool:
    """Whether this machine can read a run in an object store, with credentials of its own."""
    from simtune.storage.file_types import has_file
    from simtune.sweep.run_files import MANIFEST

    try:
        return has_file(run / MANIFEST)
    except StoreError:
        return False


def _copy_from(run: AnyPath, folder: Path, source: str) -> int:
    from simtune.cluster.archive import unpack
    from simtune.sweep.run_files import MANIFEST

    with tempfile.TemporaryFile() as stream:
        _write_archive(run, stream)
        stream.seek(0)
        return unpack(stream, MANIFEST, folder, source)


def _pack_run(run: AnyPath) -> None:
    """Writes the archive that `results --cluster --download` reads on the other side."""
    _write_archive(run, sys.stdout.buffer)
    sys.stdout.flush()


def _write_archive(run: AnyPath, stream: IO[bytes]) -> None:
    from simtune.cluster.archive import pack
    from simtune.sweep.run_files import MANIFEST, read_manifest, tables_and_report

    # Says what a run directory is, if this is none.
    read_manifest(run)
    pack(tables_and_report(run), MANIFEST, stream)


def _print_results(run: AnyPath, as_json: bool) -> None:
    from simtune.cli.results_screen import show_results
    from simtune.storage.parquet_files import read_table
    from simtune.sweep.run_files import read_manifest

    read_manifest(run)
    table = read_table(run / "results.parquet")
    if as_json:
        say_json(table.to_pylist())
    else:
        show_results(run, table)
