"""The files of a trial, and functions that read them.

    trials/MODEL/            a model, named by what decides its weights
      model.json             what that is
      training.json          written once, when it is trained and scored on the suites of that run
      scores/SCORE/          a score, named by its model and its suite
        score.json           what that is
        predictions.parquet
        metrics.json         written once, last: with it the score is done
        costs.json
        failure.json         why this score could not be made; nothing about the others
      attempts/ failure.json .claim  weights/ checkpoints/

Every file has a checksum and names its trial, so that neither a changed bit nor another trial's file is used. A damaged
result is an error: nothing is computed from it, and its trial is not trained again silently. Other files decide no
result: a damaged one is ignored, and the problem is reported.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from simtune.errors import RunError
from simtune.storage.checksummed import checksummed_json, verified_json
from simtune.storage.file_types import (
    FileType,
    WrongFileType,
    has_file,
    read_file,
    refuse_wrong_file_types,
    wrong_file_types,
)
from simtune.storage.files import AnyPath, child_names, fingerprint, json_text
from simtune.storage.many_files import read_each
from simtune.storage.records import read_record_if_present
from simtune.trial.records import Attempt, Costs, Failure, Metrics, OverallScore, TrainedModel, Training

MODEL, TRAINING, FAILURE = "model.json", "training.json", "failure.json"
SCORE, PREDICTIONS, METRICS, COSTS = "score.json", "predictions.parquet", "metrics.json", "costs.json"
SCORES = "scores"
ATTEMPTS = "attempts"
CHECKPOINTS = "checkpoints"

_FILE_TYPES: dict[str, FileType] = {
    **dict.fromkeys((MODEL, TRAINING, FAILURE, ".claim", "attempts/*.json", "attempts/*.log"), "file"),
    **dict.fromkeys((f"{SCORES}/*/{name}" for name in (SCORE, PREDICTIONS, METRICS, COSTS, FAILURE)), "file"),
    **dict.fromkeys((f"{SCORES}/*/predictions.parts/*.parquet", "weights/epoch-*/*.json"), "file"),
    "checkpoints/step-*/*.json": "file",
    **dict.fromkeys((SCORES, f"{SCORES}/*", f"{SCORES}/*/predictions.parts"), "folder"),
    **dict.fromkeys((ATTEMPTS, "weights", CHECKPOINTS, "weights/epoch-*", f"{CHECKPOINTS}/step-*"), "folder"),
}

# A result may be a megabyte in memory.
_READ_AT_ONCE = 256
_NO_RESULT = "remove it: no result depends on it"

ScoreOf = tuple[str, str]
"""The ids of a trial and of one of its scores."""

Result = TypeVar("Result", Metrics, OverallScore)
SideFile = TypeVar("SideFile", Costs, Attempt, Failure)


@dataclass(frozen=True)
class ScoreState:
    """What a driver remembers of a score's outcome.

    Attributes:
        done: whether it has its result.
        failure: why it is not done, if that was recorded.
        loss_by_epoch: of the training of a score that is done; empty without one.
        score_by_epoch: on instances that were set aside; empty if there are none.
    """

    done: bool
    failure: Failure | None
    loss_by_epoch: tuple[float, ...] = ()
    score_by_epoch: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What is known about a trial's score from its files.

    Attributes:
        metrics: None if it is not done.
        failure: why it is not done, if that was recorded.
        costs: None if none were recorded.
        problems: damaged files beside the result, each with what to do.
    """

    metrics: Metrics | None
    failure: Failure | None
    costs: Costs | None
    problems: tuple[str, ...] = ()

    @property
    def state(self) -> ScoreState:
        """Without the scores, which take most of the memory."""
        training = self.metrics.training if self.metrics else None
        if training is None:
            return ScoreState(self.metrics is not None, self.failure)
        return ScoreState(True, None, training.loss_by_epoch, training.score_by_epoch)


def score_folder(directory: AnyPath, score: str) -> AnyPath:
    """The folder of one of a trial's scores."""
    return directory / SCORES / score


def is_scored(directory: AnyPath, score: str) -> bool:
    """Whether a trial has this score, intact or damaged.

    Raises:
        RunError: something other than a file is at its path.
    """
    return has_file(score_folder(directory, score) / METRICS)


def read_metrics(directory: AnyPath, score: str) -> Metrics | None:
    """A trial's score; None if it does not have it.

    Raises:
        RunError: the file is damaged, of another score or of another version.
    """
    return _read_result(directory, score, Metrics)


def read_overall(directory: AnyPath, score: str) -> dict[str, float] | None:
    """The means over instances of a score by metric, or None. Verified like the whole score, in a fraction of the time.

    Raises:
        RunError: the file is damaged, of another score or of another version.
    """
    found = _read_result(directory, score, OverallScore)
    return dict(found.overall.values) if found else None


def _read_result(directory: AnyPath, score: str, record_type: type[Result]) -> Result | None:
    folder = score_folder(directory, score)
    path = folder / METRICS
    remedy = _aside(folder)
    result = read_record_if_present(path, record_type, remedy)
    if result is not None and (result.model, result.score) != (directory.name, score):
        raise RunError(f"{path}: belongs to score {result.score} of trial {result.model}; {remedy}")
    return result


def read_training(directory: AnyPath) -> TrainedModel | None:
    """The end of a trial's training; None if it has not ended.

    Raises:
        RunError: the file is damaged, of another trial or of another version.
    """
    path = directory / TRAINING
    remedy = _aside(directory)
    found = read_record_if_present(path, TrainedModel, remedy)
    if found is not None and found.model != directory.name:
        raise RunError(f"{path}: belongs to the training of trial {found.model}; {remedy}")
    return found


def known_training(directory: AnyPath) -> Training | None:
    """How a trial's model was trained, from the record of its end or else one of its scores; None if there is neither.

    Raises:
        RunError: the file is damaged.
    """
    trained = read_training(directory)
    if trained is not None:
        return trained.training
    for score in sorted(child_names(directory / SCORES)):
        metrics = read_metrics(directory, score)
        if metrics is not None:
            return metrics.training
    return None


def identity_bytes(name: str, identity: dict[str, Any]) -> bytes:
    """The identity of a model or a score as a file with its checksum."""
    return checksummed_json(json_text({"id": name, **identity}))


def read_identity(path: AnyPath) -> dict[str, Any] | None:
    """The identity of a model or a score (`model.json`, `score.json`); None if none was written.

    Raises:
        RunError: the file is damaged, or its hash is not the folder's name.
    """
    remedy = _aside(path.parent)
    try:
        identity = dict(json.loads(verified_json(read_file(path), str(path), remedy)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, RecursionError) as error:
        raise RunError(f"{path}: not a JSON object ({error}); {remedy}") from error
    identity.pop("id", None)
    if fingerprint(identity)[:16] != path.parent.name:
        raise RunError(f"{path}: does not describe {path.parent.name}; {remedy}")
    return identity


def read_side_file(path: AnyPath, trial: str, record_type: type[SideFile]) -> SideFile | None:
    """A record on which no result depends; None if it does not exist.

    Raises:
        RunError: it is damaged, or another trial's.
    """
    record = read_record_if_present(path, record_type, _NO_RESULT)
    if record is not None and record.trial != trial:
        raise RunError(f"{path}: belongs to trial {record.trial}; {_NO_RESULT}")
    of_score = path.parent.name if path.parent.parent.name == SCORES else None
    if record is not None and not isinstance(record, Attempt) and record.score != of_score:
        raise RunError(f"{path}: belongs to {f'score {record.score}' if record.score else 'no score'}; {_NO_RESULT}")
    return record


def read_failure(directory: AnyPath, score: str) -> tuple[Failure | None, tuple[str, ...]]:
    """Why a trial lacks a score, None if no intact record says so; and the problems of damaged records.

    Without its model a trial has none of its scores; what kept it from one score says nothing of the others.
    """
    problems: list[str] = []
    for folder in (score_folder(directory, score), directory):
        try:
            failure = read_side_file(folder / FAILURE, directory.name, Failure)
        except RunError as error:
            problems.append(str(error))
        else:
            if failure is not None:
                return failure, tuple(problems)
    return None, tuple(problems)


def read_outcome(directory: AnyPath, score: str) -> Outcome:
    """The outcome of one of a trial's scores.

    Raises:
        RunError: the score is damaged.
    """
    metrics = read_metrics(directory, score)
    if metrics is None:
        failure, problems = read_failure(directory, score)
        return Outcome(None, failure, None, (*problems, *read_attempts(directory)[1].values()))
    try:
        return Outcome(metrics, None, read_side_file(score_folder(directory, score) / COSTS, directory.name, Costs))
    except RunError as error:
        return Outcome(metrics, None, None, (str(error),))


def read_outcomes(trials: AnyPath, scores: Iterable[ScoreOf]) -> Iterator[tuple[ScoreOf, Outcome]]:
    """The outcomes of scores, each named by its trial and its own id, a few hundred at a time.

    Raises:
        RunError: after the last one: results are damaged; names the first, and how many more there are.
    """
    # One listing, instead of several requests for each of thousands of trials that have not started.
    started = child_names(trials)

    def read(score: ScoreOf) -> Outcome | RunError:
        if score[0] not in started:
            return Outcome(None, None, None)
        try:
            return read_outcome(trials / score[0], score[1])
        except RunError as error:
            return error

    errors: list[RunError] = []
    different = list(dict.fromkeys(scores))
    for first in range(0, len(different), _READ_AT_ONCE):
        for score, outcome in read_each(trials, different[first : first + _READ_AT_ONCE], read).items():
            if isinstance(outcome, RunError):
                errors.append(outcome)
            else:
                yield score, outcome
    if errors:
        raise RunError(several_damaged([str(error) for error in errors]))


def several_damaged(problems: Sequence[str]) -> str:
    """The first of some problems with results, and how many more there are."""
    more = f" ({len(problems) - 1} more damaged; `simtune doctor` lists them)" if problems[1:] else ""
    return f"{problems[0]}{more}"


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
                raise RunError(f"{path}: belongs to attempt {record.attempt}; {_NO_RESULT}")
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
    """Checks that whatever exists in the folders of trials is of the right type.

    Raises:
        RunError: there is something else where one of these trials has a file or a folder.
    """
    refuse_wrong_file_types([wrong for directory in directories for wrong in wrong_trial_files(directory)])


def wrong_trial_files(directory: AnyPath) -> Iterator[WrongFileType]:
    """What is of the wrong type in a trial's folder."""
    if isinstance(directory, Path):
        yield from wrong_file_types(directory, _FILE_TYPES)
