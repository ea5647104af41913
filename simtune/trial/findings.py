"""Damage in a trial's files: each is compared with its checksum, and scores are recomputed from predictions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from simtune.config import Sweep
from simtune.errors import UserError, cut
from simtune.evaluation.metric_registry import METRICS as KNOWN_METRICS
from simtune.evaluation.metrics import Tokenize
from simtune.evaluation.scores import PredictionRecord, score_predictions
from simtune.storage.complete_folder import MARKER, read_marker
from simtune.storage.file_types import WrongFileType, file_type_at
from simtune.storage.files import AnyPath, child_names, file_sha256
from simtune.storage.object_store import ObjectPath
from simtune.storage.parquet_files import read_table
from simtune.training.saved_weights import WeightsMarker, missing_epochs, saved_epoch, weights_folder
from simtune.trial.files import (
    COSTS,
    FAILURE,
    METRICS,
    MODEL,
    PREDICTIONS,
    SCORE,
    SCORES,
    TRAINING,
    read_attempts,
    read_identity,
    read_metrics,
    read_side_file,
    read_training,
    score_folder,
    wrong_trial_files,
)
from simtune.trial.records import Costs, Failure, Metrics, metrics_fields

_ASIDE = "move it aside; `simtune run` writes what belongs there"
_WEIGHTS_AGAIN = "remove {}; to have these weights again, move {} aside and `simtune run`"
_TRIAL_AGAIN = "move {} aside; `simtune run` then runs that trial again"
_SCORE_AGAIN = "move {} aside; `simtune run` then makes that score again"
_NO_RESULT = "remove it: no result depends on it"


@dataclass(frozen=True)
class Finding:
    """A problem: where, what, and what to do."""

    path: str
    problem: str
    remedy: str


class Found:
    """Findings so far, one per path, because a file of the wrong type would be found unreadable too.

    Attributes:
        num_verified: files whose bytes were compared with a checksum.
        num_unverified: files without a checksum.
        num_unscored: scores that were not computed again, because their tokenizer of ROUGE-L is not at hand.
        rouge_tokenizers: those at hand, by their fingerprint.
    """

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.num_verified = self.num_unverified = self.num_unscored = 0
        self.rouge_tokenizers: Mapping[str, Tokenize] = {}

    def extend(self, findings: Iterable[Finding]) -> None:
        paths = {finding.path for finding in self.findings}
        for finding in findings:
            if finding.path not in paths:
                paths.add(finding.path)
                self.findings.append(finding)

    def compared(self, path: AnyPath, checksum: str, remedy: str) -> Iterator[Finding]:
        """A finding if a file is missing or has changed."""
        file_type = file_type_at(path) if not isinstance(path, ObjectPath) else "file" if path.is_file() else None
        if file_type != "file":
            yield Finding(
                str(path), "is missing" if file_type is None else f"is {_with_article(file_type)}, not a file", remedy
            )
            return
        self.num_verified += 1
        if file_sha256(path) != checksum:
            yield Finding(str(path), "has changed since it was written: its SHA-256 differs", remedy)


def finding_of(wrong: WrongFileType) -> Finding:
    """The finding for something of the wrong type."""
    return Finding(str(wrong.path), wrong.problem, _ASIDE)


def trial_findings(directory: AnyPath, scores: Iterable[str], done: Collection[str], found: Found) -> Iterator[Finding]:
    """Findings in a trial's folder: its training, its scores, what is recorded beside them, and saved weights.

    Args:
        directory: of the trial.
        scores: ids of the scores that the run asks for.
        done: ids of the scores that have a result in the run's table.
        found: compares files with their checksums.
    """
    wrong = [
        Finding(str(each.path), each.problem, _remedy(directory, each.path)) for each in wrong_trial_files(directory)
    ]
    yield from wrong
    known = {finding.path for finding in wrong}
    if str(directory) in known:
        return
    yield from (finding for finding in _beside(directory) if finding.path not in known)
    yield from (finding for finding in _training(directory) if finding.path not in known)
    for score in scores:
        folder = score_folder(directory, score)
        if str(folder) not in known and str(folder / METRICS) not in known:
            yield from _score_findings(directory, score, score in done, found)
    yield from _saved_weights(directory, found)


def _score_findings(directory: AnyPath, score: str, was_done: bool, found: Found) -> Iterator[Finding]:
    folder = score_folder(directory, score)
    again = _again(directory, folder)
    try:
        metrics = read_metrics(directory, score)
    except UserError as error:
        yield Finding(str(folder / METRICS), str(error), again)
        return
    if metrics is None:
        if was_done:
            problem = "is missing, and results.parquet has its result"
            yield Finding(str(folder / METRICS), problem, "`simtune run` makes that score again")
        yield from _identity(folder / SCORE, again)
        return
    broken = False
    for name, checksum in ((SCORE, metrics.files.identity), (PREDICTIONS, metrics.files.predictions)):
        for finding in found.compared(folder / name, checksum, again):
            broken = True
            yield finding
    if not broken:
        yield from _agreement(folder, metrics, again, found)


def _again(directory: AnyPath, folder: AnyPath) -> str:
    """How to recompute a score: from saved weights, or by training its model again."""
    try:
        trained = read_training(directory)
    except UserError:
        trained = None
    if trained is not None and saved_epoch(directory, trained.training.loss_by_epoch) is None:
        return _TRIAL_AGAIN.format(directory)
    return _SCORE_AGAIN.format(folder)


def _remedy(directory: AnyPath, path: Path) -> str:
    """What to do about something of the wrong type in a trial's folder; finished trials are never written to."""
    name, *below = path.relative_to(str(directory)).parts or ("",)
    if name in {MODEL, TRAINING}:
        return _TRIAL_AGAIN.format(directory)
    if name == SCORES and below[1:] and below[1] in {SCORE, PREDICTIONS}:
        return _again(directory, directory / SCORES / below[0])
    if name == "weights" and below:
        return _WEIGHTS_AGAIN.format(path if not below[1:] else path.parent, directory)
    return _NO_RESULT if path.name in {COSTS, FAILURE} else _ASIDE


def _identity(path: AnyPath, remedy: str) -> Iterator[Finding]:
    try:
        read_identity(path)
    except UserError as error:
        yield Finding(str(path), str(error), remedy)


def _training(directory: AnyPath) -> Iterator[Finding]:
    """Findings in the identity of a model and in the record of its training."""
    again = _TRIAL_AGAIN.format(directory)
    findings = list(_identity(directory / MODEL, again))
    yield from findings
    try:
        trained = read_training(directory)
    except UserError as error:
        yield Finding(str(directory / TRAINING), str(error), again)
        return
    if trained is not None and not findings:
        try:
            sha256 = file_sha256(directory / MODEL)
        except OSError:
            yield Finding(str(directory / MODEL), "is missing", again)
            return
        if sha256 != trained.identity:
            yield Finding(str(directory / MODEL), "has changed since it was written: its SHA-256 differs", again)


def _beside(directory: AnyPath) -> Iterator[Finding]:
    """Findings in files that decide no result: costs, failed attempts, and the failure."""
    scores = [score_folder(directory, name) for name in sorted(child_names(directory / SCORES))]
    for path in (*(folder / name for folder in scores for name in (COSTS, FAILURE)), directory / FAILURE):
        try:
            if path.name == FAILURE:
                read_side_file(path, directory.name, Failure)
            else:
                read_side_file(path, directory.name, Costs)
        except UserError as error:
            yield Finding(str(path), str(error), _NO_RESULT)
    for named, problem in read_attempts(directory)[1].items():
        yield Finding(named, problem, _NO_RESULT)


def _saved_weights(directory: AnyPath, found: Found) -> Iterator[Finding]:
    """Findings in the weights that a trial has saved."""
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
    """Whether a finished trial has fewer saved weights than the sweep asks for."""
    training = metrics.training
    return bool(
        training
        and missing_epochs(
            directory, metrics.model, sweep.training.keep, training.loss_by_epoch, training.score_by_epoch
        )
    )


def _agreement(folder: AnyPath, metrics: Metrics, again: str, found: Found) -> Iterator[Finding]:
    """Findings where identity, predictions and metrics of a score do not belong together."""
    try:
        identity = read_identity(folder / SCORE) or {}
        columns = ("instance_id", "task", "category", "references", "prediction")
        table = read_table(folder / PREDICTIONS).select(list(columns))
        records = [
            PredictionRecord(
                row["instance_id"], row["task"], row["category"], tuple(row["references"]), row["prediction"]
            )
            for row in table.to_pylist()
        ]
        name = identity["rouge_tokenizer"]
        if name is not None and name not in found.rouge_tokenizers:
            # The result is sound: its files are what was written.
            found.num_unscored += 1
            return
        if unknown := [metric for metric in identity["metrics"] if metric not in KNOWN_METRICS]:
            problem = f"cannot be verified: this installation has no metric {unknown[0]!r}"
            yield Finding(str(folder), problem, "install what adds the metric")
            return
        tokenizer = found.rouge_tokenizers[name] if name is not None else None
        scores = metrics_fields(score_predictions(records, identity["metrics"], tokenizer))
    except (UserError, KeyError, TypeError, AttributeError, ValueError) as error:
        yield Finding(str(folder), f"cannot be verified: {error}", again)
        return
    if identity.get("model") != metrics.model:
        yield Finding(str(folder / SCORE), f"belongs to model {identity.get('model')}", again)
    for name, computed in scores.items():
        if getattr(metrics, name) != computed:
            problem = f"says {name} {_shortened(getattr(metrics, name))}, its predictions score {_shortened(computed)}"
            yield Finding(str(folder / METRICS), problem, again)
            return


def _shortened(scores: object) -> str:
    return cut(str(scores), 120)


def _with_article(file_type: str) -> str:
    return f"a {file_type}" if file_type == "folder" else file_type
