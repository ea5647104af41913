"""The metrics by name: what each is called, its unit, how it is printed, and what computes it.

To add one, write a function from predictions with their references to numbers, and add a line to `METRICS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from simtune.evaluation.metrics import Scored, Tokenize, exact_matches, rouge_l_scores

Compute = Callable[[Sequence[Scored], Tokenize], Sequence[float]]


@dataclass(frozen=True)
class Metric:
    """A number for each prediction, whose mean is reported.

    Attributes:
        name: in sweep files.
        title: in tables and figures.
        digits: decimal places that are printed.
        unit: of differences, in the plural.
        method: of the suites that it is for: generated answers, or ranked choices.
        compute: one number a prediction, on the scale 0..100.
        higher_is_better: the direction of a better score.
    """

    name: str
    title: str
    digits: int
    method: Literal["generate", "rank"]
    compute: Compute
    unit: str = "points"
    higher_is_better: bool = True

    @property
    def column(self) -> str:
        """Its column in tables."""
        return self.name.replace("-", "_")


def _rouge_l(pairs: Sequence[Scored], tokenize: Tokenize) -> list[float]:
    return [100.0 * score for score in rouge_l_scores(pairs, tokenize)]


def _exact_match(pairs: Sequence[Scored], _: Tokenize) -> list[float]:
    return [100.0 * match for match in exact_matches(pairs)]


def _accuracy(pairs: Sequence[Scored], _: Tokenize) -> list[float]:
    return [100.0 * (choice.strip() in {text.strip() for text in references}) for choice, references in pairs]


METRICS = {
    metric.name: metric
    for metric in (
        Metric("rouge-l", "ROUGE-L", 2, "generate", _rouge_l),
        Metric("exact-match", "exact match", 2, "generate", _exact_match),
        Metric("accuracy", "accuracy", 2, "rank", _accuracy),
    )
}
"""By name, in the order of tables."""


def shown(name: str, value: float) -> str:
    """A metric's name and value, as people read it."""
    metric = METRICS[name]
    return f"{metric.title} {value:.{metric.digits}f}"
