"""Scoring a prediction file as the public Super-NaturalInstructions leaderboard does.

References are JSON lines `{id, references, task_id, task_category, track}`, predictions JSON lines
`{id, prediction}`. The rules are those of `eval/automatic/evaluation.py` in allenai/natural-instructions: a
missing prediction is the empty string, a missing `track` is `default`, and on the track `xlingual` ROUGE-L is
computed over GPT-2's BPE tokens, because the default tokenizer knows only the Latin script. This one
reports what that script ignores: a repeated id (there the last one wins) and a track without instances (there a
crash) are errors, and ids without a reference are counted.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from simtune.corpus.strict_json import unique_keys
from simtune.errors import CorpusError, cut, shown
from simtune.evaluation.scores import PredictionRecord, Scores, score_predictions
from simtune.evaluation.xlingual import GPT2_TOKENIZER, gpt2_tokenize
from simtune.outside_files import GIB, open_outside

Track = Literal["default", "xlingual"]

TRACKS: tuple[Track, ...] = get_args(Track)

_LARGEST_FILE = 4 * GIB


@dataclass(frozen=True, slots=True)
class Reference:
    """One line of a reference file."""

    id: str
    references: tuple[str, ...]
    task_id: str
    task_category: str
    track: Track


@dataclass(frozen=True, slots=True)
class TrackReport:
    """Scores of one track and how many of its instances had no prediction (they count, as empty)."""

    track: Track
    scores: Scores
    num_missing: int

    def to_dict(self) -> dict[str, Any]:
        return {"track": self.track, "num_missing": self.num_missing, **self.scores.to_dict()}


@dataclass(frozen=True, slots=True)
class LeaderboardReport:
    """Scores of a prediction file.

    Attributes:
        tracks: one report for each track that was scored, `default` first.
        num_unknown: predictions whose id no reference of any track has.
    """

    tracks: tuple[TrackReport, ...]
    num_unknown: int

    def to_dict(self) -> dict[str, Any]:
        return {"num_unknown": self.num_unknown, "tracks": [track.to_dict() for track in self.tracks]}


def read_references(path: Path) -> list[Reference]:
    """Reads a reference file, in its order.

    Raises:
        CorpusError: the file is missing, empty or not UTF-8; a line is not a JSON object, lacks a field or
            has one of another type; an id comes twice. The message names file, line and field.
    """
    references: list[Reference] = []
    line_of: dict[str, int] = {}
    for number, row in _rows(path):
        where = f"{path}, line {number}"
        track = row.get("track", TRACKS[0])
        if track not in TRACKS:
            raise CorpusError(f"{where}, field `track`: must be one of {', '.join(TRACKS)}, got {_shown(track)}")
        reference = Reference(
            id=_text(row, "id", where),
            references=_texts(row, "references", where),
            task_id=_text(row, "task_id", where),
            task_category=_text(row, "task_category", where),
            track=cast(Track, track),
        )
        _refuse_repeated(reference.id, number, line_of, where)
        references.append(reference)
    if not references:
        raise CorpusError(f"{path}: there are no JSON objects in it; expected one JSON object per test instance")
    return references


def read_predictions(path: Path) -> dict[str, str]:
    """Reads a prediction file: from instance id to prediction.

    Raises:
        CorpusError: as for `read_references`.
    """
    predictions: dict[str, str] = {}
    line_of: dict[str, int] = {}
    for number, row in _rows(path):
        where = f"{path}, line {number}"
        instance_id = _text(row, "id", where)
        _refuse_repeated(instance_id, number, line_of, where)
        predictions[instance_id] = _text(row, "prediction", where)
    if not predictions:
        raise CorpusError(
            f'{path}: there are no JSON objects in it; expected one {{"id": ..., "prediction": ...}} per line'
        )
    return predictions


def score_files(
    references_path: Path,
    predictions_path: Path,
    track: Track | None = None,
    xlingual_tokenizer: str | None = None,
) -> LeaderboardReport:
    """Scores a prediction file against a reference file.

    Args:
        references_path: JSON lines with the right answers.
        predictions_path: JSON lines with a model's answers.
        track: score this one only; None scores every track the reference file has.
        xlingual_tokenizer: see `gpt2_tokenize`; None is GPT-2's from the hub. Loaded only for that track.

    Raises:
        CorpusError: a file is wrong, or the reference file has no instance of the track.
        ModelError: the cross-lingual track's tokenizer cannot be loaded.
    """
    if track is not None and track not in TRACKS:
        raise CorpusError(f"track: must be one of {', '.join(TRACKS)}, got {track!r}")
    references = read_references(references_path)
    predictions = read_predictions(predictions_path)
    present = [name for name in TRACKS if any(reference.track == name for reference in references)]
    if track is not None and track not in present:
        raise CorpusError(f"{references_path}: no instance of track {track!r}; it has {', '.join(present)}")
    chosen = present if track is None else [track]
    # Loaded before anything is scored, so that a missing tokenizer is reported at once.
    xlingual = gpt2_tokenize(xlingual_tokenizer or GPT2_TOKENIZER) if "xlingual" in chosen else None
    reports = []
    for name in chosen:
        of_track = [reference for reference in references if reference.track == name]
        records = [_record(reference, predictions) for reference in of_track]
        reports.append(
            TrackReport(
                track=name,
                scores=score_predictions(records, tokenize=xlingual if name == "xlingual" else None),
                num_missing=sum(reference.id not in predictions for reference in of_track),
            )
        )
    known = {reference.id for reference in references}
    return LeaderboardReport(tracks=tuple(reports), num_unknown=len(predictions.keys() - known))


def _record(reference: Reference, predictions: Mapping[str, str]) -> PredictionRecord:
    return PredictionRecord(
        instance_id=reference.id,
        task=reference.task_id,
        category=reference.task_category,
        references=reference.references,
        prediction=predictions.get(reference.id, ""),
    )


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file with their line numbers, from 1; blank lines are skipped."""
    try:
        # Bytes: text mode would also break lines at characters that JSON allows inside a string.
        with open_outside(path, _LARGEST_FILE) as file:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip():
                    yield number, _parsed(line, f"{path}, line {number}")
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from error


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"), object_pairs_hook=unique_keys)
    except UnicodeDecodeError as error:
        raise CorpusError(f"{where}: not UTF-8 (byte {error.start} of the line); save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{where}: not valid JSON ({error}); expected one JSON object per line") from error
    if not isinstance(row, dict):
        raise CorpusError(f"{where}: expected a JSON object, got {_shown(row)}")
    return row


def _text(row: Mapping[str, object], field: str, where: str) -> str:
    if field not in row:
        raise CorpusError(f"{where}, field `{field}`: missing; the line has {cut(', '.join(row)) or 'no field'}")
    return _checked_text(row[field], f"{where}, field `{field}`")


def _texts(row: Mapping[str, object], field: str, where: str) -> tuple[str, ...]:
    values = row.get(field)
    if not isinstance(values, list) or not values:
        got = _shown(values) if field in row else "no such field"
        raise CorpusError(f"{where}, field `{field}`: must be a list of at least one string, got {got}")
    return tuple(_checked_text(value, f"{where}, field `{field}[{index}]`") for index, value in enumerate(values))


def _checked_text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise CorpusError(f"{where}: must be a string, got {_shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        # Half of a \ud83d\ude00 pair: no tokenizer accepts it, and it cannot be written to a file.
        raise CorpusError(f"{where}: character {error.start} is half of a \\u escape pair, not a character") from error
    return value


def _refuse_repeated(instance_id: str, number: int, line_of: dict[str, int], where: str) -> None:
    if line_of.setdefault(instance_id, number) != number:
        before = line_of[instance_id]
        raise CorpusError(f"{where}, field `id`: {shown(instance_id)} is a duplicate of line {before}; keep one")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else f"{text[:57]}..."
