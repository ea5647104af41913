"""What a trial leaves in its folder, read in one place: its result and what is recorded beside it.

Every file has a checksum and names its trial, so that neither a changed bit nor another trial's file is used. A damaged
result is an error: nothing may be computed from it, nor the trial be trained again without a word. What lies beside a
result decides nothing: damaged, it is left out and its problem is said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from simtune.errors import RunError
from simtune.storage.checksummed import checksummed_json, verified_json
from simtune.storage.file_kinds import Kind, WrongKind, has_file, read_file, refuse_wrong_kinds, wrong_kinds
from simtune.storage.files import AnyPath, fingerprint, json_text
from simtune.storage.records import read_record
from simtune.trial.records import Attempt, Costs, Failure, Metrics, Score

METRICS, COSTS, FAILURE = "metrics.json", "costs.json", "failure.json"
IDENTITY, PREDICTIONS = "trial.json", "predictions.parquet"
ATTEMPTS = "attempts"

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("metrics.json", "trial.json", "predictions.parquet", "costs.json", "failure.json"), "file"),
    **dict.fromkeys((".claim", "attempts/*.json", "attempts/*.log", "predictions.parts/*.parquet"), "file"),
    **dict.fromkeys(("weights/epoch-*/*.json", "checkpoints/step-*/*.json"), "file"),
    **dict.fromkeys(("attempts", "weights", "checkpoints", "predictions.parts"), "folder"),
    **dict.fromkeys(("weights/epoch-*", "checkpoints/step-*"), "folder"),
}

# An object store takes its time with each file; a disk is read as fast by one thread.
_READERS = 16
_NO_RESULT = "remove it: it decides no result"

T = TypeVar("T")
Result = TypeVar("Result", Metrics, Score)
SideFile = TypeVar("SideFile", Costs, Attempt, Failure)


@dataclass(frozen=True)
class Outcome:
    """What a trial left.

    Attributes:
        metrics: None where it is not done.
        failure: why not, where that was recorded.
        costs: None where none were recorded.
        problems: files beside the result that are damaged, each with what to do.
    """

    metrics: Metrics | None
    failure: Failure | None
    costs: Costs | None
    problems: tuple[str, ...] = ()


def is_done(directory: AnyPath) -> bool:
    """Whether a trial has a result, whole or damaged.

    Raises:
        RunError: something that is no file lies in its place.
    """
    return has_file(directory / METRICS)


def read_metrics(directory: AnyPath) -> Metrics | None:
    """A trial's result, or None where it is not done.

    Raises:
        RunError: the file is damaged, of another trial or of another version.
    """
    return _read_result(directory, Metrics)


def read_score(directory: AnyPath) -> float | None:
    """ROUGE-L of a trial's result, or None where it is not done; verified alike, in a fraction of the time.

    Raises:
        RunError: the file is damaged, of another trial or of another version.
    """
    score = _read_result(directory, Score)
    return score.overall.rouge_l if score else None


def _read_result(directory: AnyPath, kind: type[Result]) -> Result | None:
    path = directory / METRICS
    remedy = _aside(directory)
    try:
        result = read_record(path, kind, remedy)
    except FileNotFoundError:
        return None
    if result.trial != directory.name:
        raise RunError(f"{path}: is the result of trial {result.trial}; {remedy}")
    return result


def identity_bytes(trial: str, identity: dict[str, Any]) -> bytes:
    """A trial's identity as a file with its checksum."""
    return checksummed_json(json_text({"trial": trial, **identity}))


def read_identity(directory: AnyPath) -> dict[str, Any] | None:
    """A trial's identity, or None where none was written.

    Raises:
        RunError: the file is damaged, or its hash is not the trial's id.
    """
    path = directory / IDENTITY
    remedy = _aside(directory)
    try:
        identity = dict(json.loads(verified_json(read_file(path), str(path), remedy)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, RecursionError) as error:
        raise RunError(f"{path}: not a JSON object ({error}); {remedy}") from error
    identity.pop("trial", None)
    if fingerprint(identity)[:16] != directory.name:
        raise RunError(f"{path}: does not describe this trial; {remedy}")
    return identity


def read_side_file(path: AnyPath, trial: str, kind: type[SideFile]) -> SideFile | None:
    """A record beside a trial's result, or None where it is not there.

    Raises:
        RunError: it is damaged, or another trial's.
    """
    try:
        record = read_record(path, kind, _NO_RESULT)
    except FileNotFoundError:
        return None
    if record.trial != trial:
        raise RunError(f"{path}: is of trial {record.trial}; {_NO_RESULT}")
    return record


def read_failure(directory: AnyPath) -> tuple[Failure | None, tuple[str, ...]]:
    """Why a trial has no result, or None where nothing sound says so; and the problem of a damaged record."""
    try:
        return read_side_file(directory / FAILURE, directory.name, Failure), ()
    except RunError as error:
        return None, (str(error),)


def read_outcome(directory: AnyPath) -> Outcome:
    """What a trial left.

    Raises:
        RunError: its result is damaged.
    """
    metrics = read_metrics(directory)
    if metrics is None:
        failure, problems = read_failure(directory)
        return Outcome(None, failure, None, (*problems, *read_attempts(directory)[1].values()))
    try:
        return Outcome(metrics, None, read_side_file(directory / COSTS, directory.name, Costs))
    except RunError as error:
        return Outcome(metrics, None, None, (str(error),))


def read_outcomes(trials: AnyPath, ids: Iterable[str]) -> dict[str, Outcome]:
    """The outcomes of trials by id.

    Raises:
        RunError: results are damaged; names the first, and how many more there are.
    """

    def read(trial: str) -> Outcome | RunError:
        try:
            return read_outcome(trials / trial)
        except RunError as error:
            return error

    found = read_each(trials, ids, read)
    errors = [outcome for outcome in found.values() if isinstance(outcome, RunError)]
    if errors:
        more = f" ({len(errors) - 1} more damaged; `simtune doctor` lists them)" if errors[1:] else ""
        raise RunError(f"{errors[0]}{more}")
    return {trial: outcome for trial, outcome in found.items() if isinstance(outcome, Outcome)}


def read_each(trials: AnyPath, ids: Iterable[str], read: Callable[[str], T]) -> dict[str, T]:
    """What `read` finds of each trial, in the order of the ids."""
    different = list(dict.fromkeys(ids))
    if isinstance(trials, Path):
        return {trial: read(trial) for trial in different}
    with ThreadPoolExecutor(_READERS) as pool:
        return dict(zip(different, pool.map(read, different), strict=True))


def attempt_number(name: str) -> int:
    """The number in the name of an attempt's record or log; 0 for any other file."""
    stem = name.partition(".")[0]
    return int(stem) if stem.isdecimal() and stem.isascii() and len(stem) < 10 else 0


def attempt_paths(directory: AnyPath) -> list[AnyPath]:
    """The records of a trial's failed attempts, first to last."""
    found: list[AnyPath] = list((directory / ATTEMPTS).glob("*.json"))
    return sorted(filter(_number_of, found), key=_number_of)


def read_attempts(directory: AnyPath) -> tuple[list[Attempt], dict[str, str]]:
    """The failed attempts at a trial, first to last, and the problems of damaged records by their path."""
    records: list[Attempt] = []
    problems: dict[str, str] = {}
    for path in attempt_paths(directory):
        try:
            record = read_side_file(path, directory.name, Attempt)
            if record is not None and record.attempt != _number_of(path):
                raise RunError(f"{path}: is of attempt {record.attempt}; {_NO_RESULT}")
        except RunError as error:
            problems[str(path)] = str(error)
        else:
            records += [record] if record is not None else []
    return records, problems


def _number_of(path: AnyPath) -> int:
    return attempt_number(path.name)


def _aside(directory: AnyPath) -> str:
    return f"move {directory} aside and run again"


def check_trial_files(directories: Iterable[AnyPath]) -> None:
    """
    Raises:
        RunError: something of the wrong kind lies where one of these trials has a file or a folder.
    """
    refuse_wrong_kinds([wrong for directory in directories for wrong in wrong_trial_files(directory)])


def wrong_trial_files(directory: AnyPath) -> Iterator[WrongKind]:
    """What is of the wrong kind in a trial's folder."""
    if isinstance(directory, Path):
        yield from wrong_kinds(directory, _KINDS)
