"""The words of the field as data: an instruction task, its demonstrations and its instances."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# Whatever `str.splitlines` ends a line at: a split list has a name a line. And what no terminal should be sent.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def name_flaw(name: str) -> str | None:
    """Why a text cannot be the name of a task in any file that simtune writes; None where it can."""
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

    @property
    def category(self) -> str:
        return self.categories[0]
