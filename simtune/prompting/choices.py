"""The answer choices of classification tasks whose files do not list them."""

from __future__ import annotations

from simtune.corpus.task import Task, find_labels


def label_set(task: Task, max_choices: int) -> tuple[str, ...] | None:
    """The labels of a classification task, sorted; None for free text, or where there are more than `max_choices`."""
    labels = find_labels(task) if task.labels is None else task.labels
    return labels if 2 <= len(labels) <= max_choices else None
