"""From predictions to the numbers that are reported: of instances, tasks, categories and the whole test set.

All scores are on the scale 0..100 and unrounded; four places is a matter of printing. The overall number is
the mean over *instances*, as in Super-NaturalInstructions' evaluation script; the mean over tasks, which
weighs a task of 26 instances like one of 100, stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any

from simtune.errors import CorpusError
from simtune.evaluation.headline_metric import GENERATED, category_key, headline_metric
from simtune.evaluation.metric_registry import METRICS
from simtune.evaluation.metrics import Tokenize, rouge_tokenize


@dataclass(frozen=True, slots=True)
class PredictionRecord:
    """A prediction with what is needed to score it.

    Attributes:
        task: the task's full name; task *numbers* repeat.
        category: the task's first category, as the task file writes it or as a key.
        references: the acceptable outputs, at least one.
        prediction: what the model wrote; a missing prediction is the empty string.
    """

    instance_id: str
    task: str
    category: str
    references: tuple[str, ...]
    prediction: str


@dataclass(frozen=True, slots=True)
class InstanceScore:
    """Scores of one instance, 0..100, by metric."""

    instance_id: str
    task: str
    category: str
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class MeanScore:
    """Means over instances, 0..100, by metric."""

    values: dict[str, float]
    num_instances: int

    def to_dict(self) -> dict[str, Any]:
        """Metrics as columns, ready for JSON."""
        return {**_columns(self.values), "num_instances": self.num_instances}


@dataclass(frozen=True, slots=True)
class GroupScore:
    """Means over the instances of a task or of a category, 0..100.

    Attributes:
        name: the task's name, or the category's key.
        category: the category's key.
        metric: the headline metric of the category.
        headline: the value of that metric.
        num_tasks: 1 for a task.
    """

    name: str
    category: str
    metric: str
    headline: float
    values: dict[str, float]
    num_instances: int
    num_tasks: int

    def to_dict(self) -> dict[str, Any]:
        """Metrics as columns, ready for JSON."""
        return {
            "name": self.name,
            "category": self.category,
            "metric": METRICS[self.metric].column,
            "headline": self.headline,
            **_columns(self.values),
            "num_instances": self.num_instances,
            "num_tasks": self.num_tasks,
        }


@dataclass(frozen=True, slots=True)
class Scores:
    """All scores of one set of predictions.

    Attributes:
        overall: means over instances (the official number).
        task_mean: means over tasks of their means over instances; `num_instances` as in `overall`.
        tasks: one for each task, by name.
        categories: one for each category, by key.
        instances: aligned with the records that were scored.
    """

    overall: MeanScore
    task_mean: MeanScore
    tasks: tuple[GroupScore, ...]
    categories: tuple[GroupScore, ...]
    instances: tuple[InstanceScore, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the instances (they are rows of the prediction file), ready for JSON."""
        return {
            "overall": self.overall.to_dict(),
            "task_mean": self.task_mean.to_dict(),
            "categories": [category.to_dict() for category in self.categories],
            "tasks": [task.to_dict() for task in self.tasks],
        }


def score_predictions(
    records: Sequence[PredictionRecord], metrics: Sequence[str] = GENERATED, tokenize: Tokenize | None = None
) -> Scores:
    """Scores predictions and groups the scores.

    The result does not depend on the order of the records (sums are exact), except for `instances`, which keep
    it.

    Args:
        records: at least one.
        metrics: names, at least one.
        tokenize: tokens for ROUGE-L; None is `rouge_score`'s default with the Porter stemmer.

    Raises:
        CorpusError: there is nothing to score, a record has no reference, or a task has two categories.
    """
    category_of = _categories(records)
    pairs = [(record.prediction, record.references) for record in records]
    computed = {name: METRICS[name].of_each(pairs, tokenize or rouge_tokenize) for name in metrics}
    instances = tuple(
        InstanceScore(
            instance_id=record.instance_id,
            task=record.task,
            category=category_of[record.task],
            values={name: values[number] for name, values in computed.items()},
        )
        for number, record in enumerate(records)
    )
    by_task: dict[str, list[InstanceScore]] = {}
    by_category: dict[str, list[InstanceScore]] = {}
    for instance in instances:
        by_task.setdefault(instance.task, []).append(instance)
        by_category.setdefault(instance.category, []).append(instance)
    tasks = tuple(_group(task, by_task[task], metrics) for task in sorted(by_task))
    task_mean = {name: _average(task.values[name] for task in tasks) for name in metrics}
    return Scores(
        overall=_mean(instances, metrics),
        task_mean=MeanScore(task_mean, len(instances)),
        tasks=tasks,
        categories=tuple(_group(key, by_category[key], metrics) for key in sorted(by_category)),
        instances=instances,
    )


def _categories(records: Sequence[PredictionRecord]) -> dict[str, str]:
    """The category's key of each task."""
    if not records:
        raise CorpusError("there are no predictions to score; check that the test split has instances")
    category_of: dict[str, str] = {}
    for record in records:
        key = category_key(record.category)
        if category_of.setdefault(record.task, key) != key:
            raise CorpusError(
                f"task {record.task}: two categories, {category_of[record.task]!r} and {key!r} "
                f"(instance {record.instance_id}); a task counts in its first category only: keep that one"
            )
        if not record.references:
            raise CorpusError(f"task {record.task}, instance {record.instance_id}: no reference; add one or drop it")
    return category_of


def _columns(values: dict[str, float]) -> dict[str, float]:
    return {METRICS[name].column: value for name, value in values.items()}


def _average(values: Iterable[float]) -> float:
    numbers = list(values)
    return fsum(numbers) / len(numbers)


def _mean(instances: Sequence[InstanceScore], metrics: Sequence[str]) -> MeanScore:
    values = {name: _average(instance.values[name] for instance in instances) for name in metrics}
    return MeanScore(values, len(instances))


def _group(name: str, instances: Sequence[InstanceScore], metrics: Sequence[str]) -> GroupScore:
    mean = _mean(instances, metrics)
    category = instances[0].category
    metric = headline_metric(category, metrics)
    return GroupScore(
        name=name,
        category=category,
        metric=metric,
        headline=mean.values[metric],
        values=mean.values,
        num_instances=mean.num_instances,
        num_tasks=len({instance.task for instance in instances}),
    )
