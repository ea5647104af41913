"""An instruction task, its demonstrations and its instances."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# Every character at which `str.splitlines` ends a line, as a list has one name a line, and terminal control codes.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def name_flaw(name: str) -> str | None:
    """Why a text cannot be the name of a task in the files that simtune writes; None if it can."""
    if _CONTROL.search(name):
        return "contains a line end or another control character"
    return "contains an unpaired surrogate (not valid UTF-8)" if _HALF_CHARACTER.search(name) else None


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A worked example that belongs to a task's instruction."""

    input: str
    output: str
    explanation: str | None = None


@dataclass(frozen=True, slots=True)
class Instance:
    """One input with its acceptable outputs (references), at least one."""

    id: str
    input: str
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """One instruction task.

    Attributes:
        name: the file's name without `.json`; task *numbers* repeat, names do not.
        definition: the first element of the file's `Definition`.
        categories: as in the file; the first one is *the* category (Super-NaturalInstructions' own scripts use it).
        positive: positive demonstrations, in file order.
        negative: negative demonstrations, in file order.
        instances: in file order.
        labels: the different answers of a classification task, sorted, of all instances in its file; empty for free
            text; None before they are looked for. A draw of instances keeps them.
    """

    name: str
    definition: str
    categories: tuple[str, ...]
    positive: tuple[Demonstration, ...]
    negative: tuple[Demonstration, ...]
    instances: tuple[Instance, ...]
    input_languages: tuple[str, ...] = ("English",)
    output_languages: tuple[str, ...] = ("English",)
    sources: tuple[str, ...] = field(default=())
    labels: tuple[str, ...] | None = None

    @property
    def category(self) -> str:
        """The first category."""
        return self.categories[0]


def find_labels(task: Task) -> tuple[str, ...]:
    """The labels of a classification task, sorted; empty for a task whose answers are free text.

    Super-NaturalInstructions marks no task as classification, so the answers decide: the distinct outputs of a task's
    instances and positive demonstrations are its labels if there are at least two, and at least two instances for
    each. White space around an output does not make another label.
    """
    most = len(task.instances) // 2
    labels = {shown.output.strip() for shown in task.positive}
    for instance in task.instances:
        labels.update(output.strip() for output in instance.outputs)
        if len(labels) > most:
            return ()
    return tuple(sorted(labels)) if len(labels) >= 2 and "" not in labels else ()
