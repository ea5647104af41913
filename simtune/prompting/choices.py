"""The answer choices of classification tasks whose files do not list them."""

from __future__ import annotations

from simtune.corpus.task import Task


def label_set(task: Task, max_choices: int) -> tuple[str, ...] | None:
    """The labels of a classification task, sorted; None for a task whose answers are free text.

    Super-NaturalInstructions marks no task as classification, so the answers decide: the distinct outputs of a task's
    instances and positive demonstrations are its labels if there are 2 to `max_choices` of them, and at least two
    instances for each. White space around an output does not make another label.
    """
    outputs = [output for instance in task.instances for output in instance.outputs]
    outputs += [shown.output for shown in task.positive]
    labels = {output.strip() for output in outputs}
    if "" in labels or not 2 <= len(labels) <= max_choices or 2 * len(labels) > len(task.instances):
        return None
    return tuple(sorted(labels))
