"""Which tasks count as classification, and with which labels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simtune.corpus.task import Demonstration, Instance, Task
from simtune.prompting.choices import label_set


@pytest.mark.parametrize(
    ("outputs", "shown", "most", "labels"),
    [
        (["yes", "no"] * 2, [], 2, ("no", "yes")),
        (["yes", "no"] * 3, ["maybe"], 3, ("maybe", "no", "yes")),
        (["yes", "no"] * 3, ["maybe"], 2, None),
        (["yes", "no ", " yes", "no"], [], 2, ("no", "yes")),
        (["yes", "no", "maybe"], [], 10, None),
        (["yes"] * 4, [], 10, None),
        (["yes", ""] * 4, [], 10, None),
    ],
)
def test_labels_are_few_and_repeat(
    outputs: list[str], shown: list[str], most: int, labels: tuple[str, ...] | None
) -> None:
    demonstrations = tuple(Demonstration("x", output) for output in shown)
    instances = tuple(Instance(str(number), "x", (output,)) for number, output in enumerate(outputs))
    task = Task("task1", "Say", ("Truth",), demonstrations, (Demonstration("x", "wrong"),), instances)
    assert label_set(task, most) == labels
    # What the whole file was found to be decides, whatever the instances that are left of it.
    assert label_set(replace(task, labels=()), most) is None
