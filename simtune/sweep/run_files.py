"""A run's own files: which there are, their checksums once it is finished, and files of the wrong type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from simtune.errors import RunError
from simtune.executors.ray_log import RAY_LOG
from simtune.report.statistics.records import STATISTICS
from simtune.storage.file_types import (
    FileType,
    WrongFileType,
    file_type_at,
    has_file,
    refuse_wrong_file_types,
    wrong_file_types,
)
from simtune.storage.files import AnyPath, as_path, cache_folder, file_sha256, files_below
from simtune.storage.many_files import read_each
from simtune.storage.records import Record, read_record, read_record_if_present, write_record
from simtune.trial.records import ScoreId, TrialId

CHECKSUMS, MANIFEST, TIMINGS = "checksums.json", "manifest.json", "timings.json"
_PATTERNS = ("sweep.yaml", MANIFEST, TIMINGS, STATISTICS, "*.parquet", "results.*", "report/**/*", "splits/**/*")
_MADE_BY_REPORT = (STATISTICS, "results.csv", "results.md", "report/**/*")
_WRITTEN_AGAIN = "`simtune run` writes it again"

_STORAGE: dict[str, FileType] = {".guard": "file", "trials": "folder"}
_CACHE: dict[str, FileType] = {
    "embeddings": "folder",
    "embeddings/*": "folder",
    "embeddings/*/*.parquet": "file",
    "tokens": "folder",
    "tokens/*": "folder",
}
_RUN: dict[str, FileType] = {
    **dict.fromkeys((".lease", "sweep.yaml", MANIFEST, TIMINGS, CHECKSUMS, RAY_LOG), "file"),
    **dict.fromkeys(("*.parquet", STATISTICS, "results.csv", "results.md"), "file"),
    **dict.fromkeys(("report/index.html", "report/results.*", "report/figures/*", "report/answers/*"), "file"),
    **dict.fromkeys(("splits/subsets.json", "splits/*_tasks.txt"), "file"),
    **dict.fromkeys(("report", "report/figures", "report/answers", "splits", "graph", ".ray"), "folder"),
}


class PlannedTrial(Record):
    """A trial of a run: what users call it, and the names of its suites by the ids of its scores."""

    label: str
    scores: dict[ScoreId, str]


class Manifest(Record):
    """The manifest of a run.

    Attributes:
        metrics: of all suites, in the order of the sweep.
        grid_points: by label, the values of the swept settings and what the points have.
        arms: fingerprints of their strategies, by name.
        trials: by id.
        trained_on: environments of its trials; None before the run is finished.
        left_out: why trials were not run, by their ids.
    """

    version: Literal[1] = 1
    versions: dict[str, str]
    machine: str
    command: tuple[str, ...]
    commits: dict[str, Any]
    embeddings: tuple[dict[str, Any], ...]
    grid_points: dict[str, dict[str, Any]]
    metrics: tuple[str, ...] = ()
    arms: dict[str, str] = Field(default_factory=dict)
    trials: dict[TrialId, PlannedTrial]
    trained_on: tuple[dict[str, Any], ...] | None = None
    left_out: dict[TrialId, str] = Field(default_factory=dict)


class _Checksums(Record):
    version: Literal[1] = 1
    files: dict[str, str]


class NoRunError(RunError):
    """No run was started in a folder."""


def read_manifest(run_directory: AnyPath) -> Manifest:
    """Reads the manifest of a run.

    Raises:
        NoRunError: not a run directory.
        RunError: the file is damaged.
    """
    path = run_directory / MANIFEST
    try:
        return read_record(path, Manifest, f"move it aside; {_WRITTEN_AGAIN}")
    except FileNotFoundError:
        raise NoRunError(
            f"{run_directory}: no {MANIFEST} here, so no run was started in it. Give a run directory such as "
            "runs/quickstart, or start one with `simtune run SWEEP`"
        ) from None


def tables_and_report(run_directory: AnyPath) -> dict[str, AnyPath]:
    """The files of a run that people read, by their path within it: all but its locks, and none of its trials'."""
    return _found(run_directory, (*_PATTERNS, CHECKSUMS))


def write_checksums(run_directory: AnyPath) -> None:
    """Records the checksums of the files of a finished run."""
    found = _found(run_directory, _PATTERNS)
    sums = read_each(run_directory, sorted(found), lambda name: file_sha256(found[name]))
    write_record(run_directory / CHECKSUMS, _Checksums(files=sums))


def renew_report_checksums(run_directory: AnyPath) -> None:
    """Updates the checksums of the files that a report wrote."""
    sums = read_checksums(run_directory)
    if sums is not None:
        sums |= {name: file_sha256(path) for name, path in _found(run_directory, _MADE_BY_REPORT).items()}
        write_record(run_directory / CHECKSUMS, _Checksums(files=dict(sorted(sums.items()))))


def drop_checksums(run_directory: AnyPath) -> None:
    """Removes the checksums before files of the run change; a finished run gets new ones."""
    (run_directory / CHECKSUMS).unlink(missing_ok=True)


def read_checksums(run_directory: AnyPath) -> dict[str, str] | None:
    """SHA-256 by path; None if no run has ended in this directory, or one is running.

    Raises:
        RunError: the file is damaged.
    """
    remedy = f"move it aside; {_WRITTEN_AGAIN}"
    checksums = read_record_if_present(run_directory / CHECKSUMS, _Checksums, remedy)
    return dict(checksums.files) if checksums else None


def check_unchanged(run_directory: AnyPath, *names: str) -> None:
    """Compares files of a finished run with their checksums.

    Args:
        run_directory: of the run.
        names: of files; those that do not exist are skipped.

    Raises:
        RunError: a file of a finished run is not what the run wrote.
    """
    checksums = read_checksums(run_directory) or {}
    for name in names:
        path = run_directory / name
        if name in checksums and has_file(path) and file_sha256(path) != checksums[name]:
            raise RunError(f"{path}: has changed since it was written: its SHA-256 differs; {_WRITTEN_AGAIN}")


def check_run_files(storage: str, name: str) -> None:
    """Checks that whatever exists in a storage and a run is of the right type.

    Raises:
        RunError: there is something else where the storage or this run has a file or a folder.
    """
    root = as_path(storage)
    if isinstance(root, Path) and file_type_at(root) != "folder":
        # It does not exist yet, or the storage's own check refuses it.
        return
    found = list(wrong_cache_files(cache_folder(storage)))
    if isinstance(root, Path):
        found += [*wrong_storage_files(root), *wrong_file_types(root / name, _RUN)]
    refuse_wrong_file_types(found)


def wrong_storage_files(root: AnyPath) -> Iterator[WrongFileType]:
    """What is of the wrong type in a storage, beside runs and trials."""
    if isinstance(root, Path):
        yield from wrong_file_types(root, _STORAGE)


def wrong_cache_files(cache: Path) -> Iterator[WrongFileType]:
    """What is of the wrong type in a storage's cache."""
    yield from wrong_file_types(cache, _CACHE)


def wrong_run_files(run_directory: AnyPath) -> Iterator[WrongFileType]:
    """What is of the wrong type in a run's directory."""
    if isinstance(run_directory, Path):
        yield from wrong_file_types(run_directory, _RUN)


def _found(run_directory: AnyPath, patterns: Iterable[str]) -> dict[str, AnyPath]:
    below = [item for pattern in patterns for item in files_below(run_directory, pattern).items()]
    # Files that file managers leave in folders do not count.
    return {name: path for name, path in below if not path.name.startswith(".")}
