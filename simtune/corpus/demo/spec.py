"""What a demo task is made from, and how it becomes a Super-NaturalInstructions file.

Every task has a random generator of its own, seeded by its name: adding, removing or reordering tasks changes no
other task's bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from simtune.config.yaml_text import read_yaml
from simtune.corpus.demo import pools
from simtune.corpus.demo.families import FAMILIES, Case, Family

NUM_POSITIVE = 2
NUM_NEGATIVE = 2
NUM_INSTANCES = 64
MAX_DRAWS = 20_000


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task of a topic.

    Attributes:
        name: the file's name without `.json`; it seeds the task's instances.
        definition: the instruction, in one to three sentences.
        family: draws the cases.
        num_instances: how many instances the task has, beside its demonstrations.
    """

    name: str
    definition: str
    family: Family
    num_instances: int = NUM_INSTANCES


@dataclass(frozen=True, slots=True)
class Topic:
    """Tasks that share a category, as `Categories` and `Domains` of their files."""

    category: str
    domain: str
    tasks: tuple[TaskSpec, ...]


@cache
def read_topics(split: str) -> tuple[Topic, ...]:
    """The topics of `train` or `test`, in the order of their file."""
    topics, _ = read_yaml(Path(__file__).with_name(f"{split}_topics.yaml").read_text(encoding="utf-8"))
    return tuple(
        Topic(topic["category"], topic["domain"], tuple(_task(name, fields) for name, fields in topic["tasks"].items()))
        for topic in topics
    )


def _task(name: str, fields: Mapping[str, Any]) -> TaskSpec:
    (family,) = FAMILIES.keys() & fields.keys()
    arguments = {key: _with_pools(value) for key, value in fields[family].items()}
    num_instances = fields.get("num_instances", NUM_INSTANCES)
    return TaskSpec(name, fields["definition"], FAMILIES[family](**arguments), num_instances)


def _with_pools(value: object) -> object:
    """An argument of a family; a word in capitals becomes the pool of that name."""
    if isinstance(value, dict):
        return {key: _with_pools(inner) for key, inner in value.items()}
    return getattr(pools, value) if isinstance(value, str) and value.isupper() else value


def raw_task(topic: Topic, spec: TaskSpec) -> dict[str, Any]:
    """Draw a task.

    Args:
        topic: where the task belongs.
        spec: the task.

    Returns:
        The task as the content of a Super-NaturalInstructions file. Inputs are unique over demonstrations and
        instances together. The same on every machine and Python version.
    """
    rng = Random(spec.name)
    cases: dict[str, Case] = {}
    for _ in range(MAX_DRAWS):
        case = spec.family(rng)
        cases.setdefault(case.input, case)
        if len(cases) == NUM_POSITIVE + NUM_NEGATIVE + spec.num_instances:
            break
    else:
        raise AssertionError(f"{spec.name}: its pools yield only {len(cases)} different inputs")
    drawn = list(cases.values())
    positive, drawn = _demonstrations(drawn)
    negative, instances = drawn[:NUM_NEGATIVE], drawn[NUM_NEGATIVE:]
    return {
        "Contributors": ["simtune"],
        # A topic stands for a data set: its sentences are its own.
        "Source": [f"simtune-demo-{topic.category.lower().replace(' ', '-')}"],
        "URL": [],
        "Categories": [topic.category],
        "Reasoning": [],
        "Definition": [spec.definition],
        "Input_language": ["English"],
        "Output_language": ["English"],
        "Instruction_language": ["English"],
        "Domains": [topic.domain],
        "Positive Examples": [
            {"input": case.input, "output": case.output, "explanation": case.because} for case in positive
        ],
        "Negative Examples": [
            {"input": case.input, "output": case.wrong, "explanation": f"Wrong. {case.because}"} for case in negative
        ],
        "Instances": [
            {"id": f"{spec.name}-{index:03d}", "input": case.input, "output": [case.output]}
            for index, case in enumerate(instances)
        ],
        "Instance License": ["Apache-2.0"],
    }


def _demonstrations(drawn: list[Case]) -> tuple[list[Case], list[Case]]:
    """Two cases with different answers, so that a reader sees what varies, and the rest in drawn order."""
    first = drawn[0]
    second = next(case for case in drawn[1:] if case.output != first.output)
    return [first, second], [case for case in drawn if case is not first and case is not second]
