"""How many examples of each task the trainings of a sweep have in an epoch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from simtune.config import Sweep
from simtune.corpus.mixture import TaskShare, task_shares
from simtune.corpus.task import Task
from simtune.prompting.registry import make_renderer
from simtune.wording import counted


def mixture_of(tasks: Iterable[Task], sweep: Sweep) -> dict[str, TaskShare]:
    """The share of each task in a training on these tasks."""
    tasks = list(tasks)
    renderer = make_renderer(sweep.encoding)
    templates = {task.name: renderer.num_templates(task) for task in tasks}
    return task_shares({task.name: len(task.instances) for task in tasks}, sweep.mixture, templates)


def mixture_identity(shares: dict[str, TaskShare]) -> dict[str, Any] | None:
    """What a mixture decides of weights: instances used and examples of each task; None if each is used once."""
    if all(share.once_each for share in shares.values()):
        return None
    return {name: [share.num_used, share.num_examples] for name, share in sorted(shares.items())}


def no_example_note(num_without: int, num_tasks: int, at_least: bool = False) -> str:
    """Says of how many tasks of a training an epoch has no example; empty where it has one of each."""
    if not num_without:
        return ""
    number = f"at least {num_without}" if at_least else str(num_without)
    return f"{number} of {counted(num_tasks, 'task')} without an example: raise mixture.examples_per_epoch"
