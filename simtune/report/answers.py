"""What models answered: a sample in the page, and all of it in files beside the page, opened on demand.

A page that was opened from a disk cannot fetch a file, so each of these files is a small page of its own, which hands
its data to the page that shows it in a frame. Nothing in them is run but one script of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from simtune.report.results_view import Row, clean
from simtune.storage.files import AnyPath
from simtune.storage.many_files import read_each

MOST_IN_PAGE = 4_000
"""Answers in the page itself, of all trials together: about a megabyte."""
FEWEST_OF_A_TRIAL = 8
MOST_IN_FILE = 20_000
_LONGEST_IN_PAGE, _LONGEST_IN_FILE = 300, 4_000
ANSWERS = "answers"
"""The folder beside the page."""


@dataclass(frozen=True)
class TrialDetail:
    """What the files of a trial have and the tables of its run have not.

    Attributes:
        losses: of each step, in nats a target token.
        predictions: `predictions.parquet`; None where there is none.
        problem: why there is none.
    """

    losses: tuple[float, ...] = ()
    predictions: pa.Table | None = None
    problem: str = ""


ReadDetail = Callable[[str, str], TrialDetail | None]
"""From the ids of a trial and a score to its files; None if there are none."""


@dataclass
class Answers:
    """What the page has of every score, by the ids of trial and score.

    Attributes:
        losses: of each step.
        samples: for the page's data.
        files: names of the files that have more.
    """

    losses: dict[tuple[str, str], tuple[float, ...]] = field(default_factory=dict)
    samples: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    files: dict[tuple[str, str], str] = field(default_factory=dict)


def read_answers(
    root: AnyPath,
    rows: Iterable[Row],
    metrics: Mapping[str, str],
    read: ReadDetail | None,
    write: Callable[[str, object], None],
) -> Answers:
    """Reads the files of every finished trial, of which few are in memory at the same time: all can be gigabytes.

    Args:
        root: where they are: on a disk or in an object store.
        rows: of the report.
        metrics: titles of metrics by their column in `predictions.parquet`.
        read: reads the files of one score; None where there are no files.
        write: writes a file beside the page, given its name and its data; several may be written at once.
    """
    answers = Answers()
    if read is None:
        return answers
    scores = list(dict.fromkeys((row["trial"], row["score"]) for row in rows if row["status"] == "done"))
    in_page = max(FEWEST_OF_A_TRIAL, MOST_IN_PAGE // max(1, len(scores)))

    def of_score(key: tuple[str, str]) -> tuple[tuple[float, ...], dict[str, Any], str] | None:
        """Losses, the sample for the page, and the name of the file that has more, or an empty one."""
        detail = read(*key)
        if detail is None:
            return None
        if detail.predictions is None:
            return detail.losses, {"total": 0, "problem": detail.problem, "rows": []}, ""
        sample = answer_rows(detail.predictions, metrics, in_page, _LONGEST_IN_PAGE)
        if len(sample["rows"]) == len(detail.predictions):
            return detail.losses, sample, ""
        file = f"{key[0]}-{key[1]}.html"
        write(file, answer_rows(detail.predictions, metrics, MOST_IN_FILE, _LONGEST_IN_FILE))
        return detail.losses, sample, file

    for key, found in read_each(root, scores, of_score).items():
        if found is not None:
            answers.losses[key], answers.samples[key], file = found
            if file:
                answers.files[key] = file
    return answers


def answer_rows(predictions: pa.Table, metrics: Mapping[str, str], most: int, longest: int) -> dict[str, Any]:
    """Answers for a page's data, spread evenly over all, so that each task has its share.

    Args:
        predictions: `predictions.parquet`.
        metrics: titles by columns; those that it lacks are left out.
        most: how many answers.
        longest: characters of a text; longer ones are cut.

    Returns:
        `total`; `metrics`; and `rows`, each instance, task, answer, references, whether the answer equals one of
        them but for case and spaces, and its scores.
    """
    columns = [name for name in metrics if name in predictions.column_names]
    count = min(most, len(predictions))
    chosen = predictions.take([index * len(predictions) // count for index in range(count)])
    rows = [_answer(row, columns, longest) for row in chosen.to_pylist()]
    return {"total": len(predictions), "metrics": [metrics[name] for name in columns], "rows": rows}


def _answer(row: Mapping[str, Any], columns: list[str], longest: int) -> list[Any]:
    references = list(row["references"] or ())
    answer = row["prediction"] or ""
    equals = _plain(answer) in {_plain(reference) for reference in references}
    scores = [None if row[name] is None else round(float(row[name]), 2) for name in columns]
    texts = list(_cut([answer, *references[:20]], longest))
    return [row["instance_id"], row["task"], texts[0], texts[1:], equals, scores]


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _cut(texts: Iterable[str], longest: int) -> Iterator[str]:
    for text in map(clean, texts):
        yield text if len(text) <= longest else text[: longest - 1] + "…"
