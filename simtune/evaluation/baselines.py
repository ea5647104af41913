"""Baselines without a model: the scores of copying.

The two heuristics of Super-NaturalInstructions (Tk-Instruct, `src/run_heuristics.py`): the whole input of the
instance, and the output of the task's *first* positive demonstration, the same for all its instances.
Published: ROUGE-L 14.20 and 28.54 on the English test tasks, 5.44 and 50.31 on the cross-lingual ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from simtune.corpus.task import Instance, Task
from simtune.errors import CorpusError

Heuristic = Callable[[Task, Instance], str]


def copy_input(_task: Task, instance: Instance) -> str:
    """The instance's input, unchanged."""
    return instance.input


def copy_demonstration(task: Task, _instance: Instance) -> str:
    """The output of the task's first positive demonstration.

    Raises:
        CorpusError: the task has no positive demonstration.
    """
    if not task.positive:
        raise CorpusError(
            f"task {task.name}: no positive demonstration to copy. Leave copy-demonstration out of "
            "`baselines`, or add an entry to the task's `Positive Examples`"
        )
    return task.positive[0].output


HEURISTICS: Mapping[str, Heuristic] = MappingProxyType(
    {"copy-input": copy_input, "copy-demonstration": copy_demonstration}
)
"""By the name a sweep file's `baselines` uses."""
