"""The metrics by name: what each is called, its unit, how it is printed, and what computes it.

To add one, write a function from predictions with their references to numbers, and add a line to `METRICS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from simtune.config import Sweep
from simtune.config.evaluation import suite_field, suites_of
from simtune.entry_points import check_one_each, failures_named
from simtune.errors import ConfigError, ExtensionError
from simtune.errors import shown as shown_value
from simtune.evaluation.metrics import Scored, Tokenize, exact_matches, rouge_l_scores
from simtune.wording import nearest

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

    def of_each(self, pairs: Sequence[Scored], tokenize: Tokenize) -> list[float]:
        """One number a prediction, checked.

        Raises:
            ExtensionError: it failed, or returned something else than a finite number for each.
        """
        what = f"metric {self.name}"
        with failures_named(what):
            values = [float(value) for value in self.compute(pairs, tokenize)]
        check_one_each(values, len(pairs), what, "number")
        if not all(map(isfinite, values)):
            number = next(number for number, value in enumerate(values) if not isfinite(value))
            prediction, references = pairs[number]
            raise ExtensionError(
                f"{what}: returned {values[number]} for {shown_value(prediction)} with the references "
                f"{shown_value(references)}"
            )
        return values


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


def check_metrics(sweep: Sweep) -> None:
    """Checks that every suite has metrics that there are and that are for its method.

    Raises:
        ConfigError: names the metric and its field.
    """
    for suite in suites_of(sweep):
        given = next((each for each in sweep.evaluation.suites or () if each.name == suite.name), None)
        owner = "evaluation" if given is None or given.metrics is None else suite_field(sweep, suite.name)
        known = [metric.name for metric in METRICS.values() if metric.method == suite.method]
        for number, name in enumerate(suite.metrics):
            if name in known:
                continue
            field = f"{owner}.metrics.{number}"
            if name in METRICS:
                text = f"suite {suite.name!r} has metric {name!r} with method: {suite.method};"
            else:
                text = f"there is no metric {name!r}{nearest(name, METRICS) or ';'}"
            raise ConfigError(f"{text} choose from {', '.join(known)}", field=field)


def shown(name: str, value: float) -> str:
    """A metric's name and value, as people read it; also of one that this installation does not know."""
    metric = METRICS.get(name)
    if metric is None:
        return f"{name} {value:g}"
    return f"{metric.title} {value:.{metric.digits}f}"
