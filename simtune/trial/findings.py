"""What is wrong with a trial's files: each with its checksum, and its scores with its predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simtune.config import Sweep
from simtune.errors import UserError, cut
from simtune.evaluation.scores import PredictionRecord, score_predictions
from simtune.storage.complete_folder import MARKER, read_marker
from simtune.storage.file_kinds import WrongKind, kind_at
from simtune.storage.files import AnyPath, child_names, file_sha256
from simtune.storage.object_store import ObjectPath
from simtune.storage.parquet_files import read_table
from simtune.training.saved_weights import WeightsMarker, missing_epochs, weights_folder
from simtune.trial.files import (
    COSTS,
    FAILURE,
    IDENTITY,
    METRICS,
    PREDICTIONS,
    read_attempts,
    read_identity,
    read_metrics,
    read_side_file,
    wrong_trial_files,
)
from simtune.trial.records import Costs, Failure, Metrics, metrics_fields

_ASIDE = "move it aside; `simtune run` writes what belongs there"
_WEIGHTS_AGAIN = "remove {}; to have these weights again, move {} aside and `simtune run`"
_TRIAL_AGAIN = "move {} aside; `simtune run` then runs that trial again"
_NO_RESULT = "remove it: it decides no result"


@dataclass(frozen=True)
class Finding:
    """Something wrong: where, what, and what to do."""

    path: str
    problem: str
    remedy: str


class Found:
    """Findings so far, one a path: what is of the wrong kind would be found unreadable too."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.num_verified = self.num_unverified = 0

    def extend(self, findings: Iterable[Finding]) -> None:
        paths = {finding.path for finding in self.findings}
        for finding in findings:
            if finding.path not in paths:
                paths.add(finding.path)
                self.findings.append(finding)

    def compared(self, path: AnyPath, checksum: str, remedy: str) -> Iterator[Finding]:
        """A finding where a file is not there or not what it was."""
        kind = kind_at(path) if not isinstance(path, ObjectPath) else "file" if path.is_file() else None
        if kind != "file":
            yield Finding(str(path), "is missing" if kind is None else f"is {_with_article(kind)}, not a file", remedy)
            return
        self.num_verified += 1
        if file_sha256(path) != checksum:
            yield Finding(str(path), "is not what was written: its SHA-256 differs", remedy)


def finding_of(wrong: WrongKind) -> Finding:
    return Finding(str(wrong.path), wrong.problem, _ASIDE)


def trial_findings(directory: AnyPath, was_done: bool, found: Found) -> Iterator[Finding]:
    again = _TRIAL_AGAIN.format(directory)
    wrong = [
        Finding(str(each.path), each.problem, _remedy(directory, each.path)) for each in wrong_trial_files(directory)
    ]
    yield from wrong
    known = {finding.path for finding in wrong}
    if str(directory) in known:
        return
    yield from (finding for finding in _beside(directory) if finding.path not in known)
    if str(directory / METRICS) in known:
        return
    try:
        metrics = read_metrics(directory)
    except UserError as error:
        yield Finding(str(directory / METRICS), str(error), again)
        return
    if metrics is None:
        yield from _without_result(directory, was_done, again)
        return
    broken = False
    for name, checksum in ((IDENTITY, metrics.files.identity), (PREDICTIONS, metrics.files.predictions)):
        for finding in found.compared(directory / name, checksum, again):
            broken = True
            yield finding
    if not broken:
        yield from _agreement(directory, metrics, again)
    yield from _kept(directory, found)


def _remedy(directory: AnyPath, path: Path) -> str:
    """What to do about something of the wrong kind in a trial's folder; nothing is written to a finished trial's."""
    name, *below = path.relative_to(str(directory)).parts or ("",)
    if name in {IDENTITY, PREDICTIONS}:
        return _TRIAL_AGAIN.format(directory)
    if name == "weights" and below:
        return _WEIGHTS_AGAIN.format(path if not below[1:] else path.parent, directory)
    return _NO_RESULT if name in {COSTS, FAILURE} else _ASIDE


def _without_result(directory: AnyPath, was_done: bool, again: str) -> Iterator[Finding]:
    if was_done:
        problem = "is missing, and results.parquet has its result"
        yield Finding(str(directory / METRICS), problem, "`simtune run` runs that trial again")
    try:
        read_identity(directory)
    except UserError as error:
        yield Finding(str(directory / IDENTITY), str(error), again)


def _beside(directory: AnyPath) -> Iterator[Finding]:
    """Findings in what a trial recorded beside its result: what it took, and its failed attempts."""
    try:
        read_side_file(directory / COSTS, directory.name, Costs)
    except UserError as error:
        yield Finding(str(directory / COSTS), str(error), _NO_RESULT)
    try:
        read_side_file(directory / FAILURE, directory.name, Failure)
    except UserError as error:
        yield Finding(str(directory / FAILURE), str(error), _NO_RESULT)
    for path, problem in read_attempts(directory)[1].items():
        yield Finding(path, problem, _NO_RESULT)


def _kept(directory: AnyPath, found: Found) -> Iterator[Finding]:
    """Findings in the weights that a finished trial has kept."""
    weights = weights_folder(directory)
    for folder in (weights / name for name in sorted(child_names(weights)) if name.startswith("epoch-")):
        again = _WEIGHTS_AGAIN.format(folder, directory)
        marker = read_marker(folder, WeightsMarker)
        if marker is None or marker.trial != directory.name:
            yield Finding(str(folder), f"does not count: it has no {MARKER} of this trial", again)
            continue
        for name, checksum in marker.files.items():
            yield from found.compared(folder / name, checksum, again)


def keeps_less(directory: AnyPath, metrics: Metrics, sweep: Sweep) -> bool:
    training = metrics.training
    return bool(training and missing_epochs(directory, metrics.trial, sweep.training.keep, training.loss_by_epoch))


def _agreement(directory: AnyPath, metrics: Metrics, again: str) -> Iterator[Finding]:
    """Findings where identity, predictions and metrics of a trial do not belong together."""
    try:
        read_identity(directory)
        columns = ("instance_id", "task", "category", "references", "prediction")
        table = read_table(directory / PREDICTIONS).select(list(columns))
        records = [
            PredictionRecord(
                row["instance_id"], row["task"], row["category"], tuple(row["references"]), row["prediction"]
            )
            for row in table.to_pylist()
        ]
        scores = metrics_fields(score_predictions(records).to_dict())
    except (UserError, KeyError, TypeError, AttributeError, ValueError) as error:
        yield Finding(str(directory), f"cannot be verified: {error}", again)
        return
    for name, computed in scores.items():
        if getattr(metrics, name) != computed:
            problem = f"says {name} {_told(getattr(metrics, name))}, its predictions score {_told(computed)}"
            yield Finding(str(directory / METRICS), problem, again)
            return


def _told(scores: Any) -> str:
    return cut(str(scores), 120)


def _with_article(kind: str) -> str:
    return f"a {kind}" if kind == "folder" else kind
