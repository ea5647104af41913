"""The tasks of a corpus with the instances that may take part, each file read once.

Every arm draws the same instances of a task, so arms differ only in their tasks. The draw ranks a task's instances
by a hash of seed, name and position: it needs no random stream, is the same on every machine, and grows by
addition (the draw of 50 is part of the draw of 100).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from simtune.config.settings import CorpusSettings
from simtune.corpus.registry import open_corpus
from simtune.corpus.source import CorpusSource, Problem
from simtune.corpus.task import Instance, Task, find_labels


@dataclass(frozen=True, slots=True)
class DrawnTask:
    """What a sweep may use of a task's file.

    Attributes:
        as_train: the task with the instances drawn for training; None where the file cannot be used.
        held_in: the task with the instances that are set aside for scores during training.
        as_test: the task with its first instances, for scoring; None where the file cannot be used.
        num_instances: in the file.
    """

    as_train: Task | None
    held_in: Task | None
    as_test: Task | None
    num_instances: int
    problems: tuple[Problem, ...]


class DrawnTasks:
    """The tasks of one corpus; several hold-outs of it share what was read.

    Args:
        corpus: where the tasks are and how many instances are drawn of each.
        num_test_instances: the first instances of a test task, that many of them.
        num_held_in: instances of a training task that are set aside.
    """

    def __init__(self, corpus: CorpusSettings, num_test_instances: int, num_held_in: int = 0) -> None:
        self.source: CorpusSource = open_corpus(corpus.path, "corpus.path")
        self.names = self.source.names()
        self._corpus = corpus
        self._num_test_instances = num_test_instances
        self._num_held_in = num_held_in
        self._read: dict[str, DrawnTask] = {}

    def read(self, name: str) -> DrawnTask:
        """One task of the corpus."""
        if name not in self._read:
            file = self.source.read(name)
            task = file.task
            as_train = held_in = as_test = None
            if task is not None:
                # Of all instances, so that a draw does not decide what is a classification task.
                task = replace(task, labels=find_labels(task))
                drawn, aside = split_draw(task, self._corpus, self._num_held_in)
                as_train, held_in = replace(task, instances=drawn), replace(task, instances=aside)
                as_test = replace(task, instances=task.instances[: self._num_test_instances])
            self._read[name] = DrawnTask(as_train, held_in, as_test, len(task.instances) if task else 0, file.problems)
        return self._read[name]

    def usable(self, on_progress: Callable[[int, int], None]) -> list[Task]:
        """All tasks that can be test tasks: readable, with at least one instance."""
        tasks = []
        for done, name in enumerate(self.names):
            on_progress(done, len(self.names))
            task = self.read(name).as_test
            if task is not None and task.instances:
                tasks.append(task)
        return tasks


def split_draw(
    task: Task, corpus: CorpusSettings, num_held_in: int
) -> tuple[tuple[Instance, ...], tuple[Instance, ...]]:
    """The instances of a task to train on, and those set aside.

    Where a task has fewer than both together, the ones set aside come first, but one is always left to train on.
    """
    num_both = min(len(task.instances), corpus.instances_per_task + num_held_in)
    drawn = draw_instances(task, max(1, num_both - num_held_in), corpus.seed)
    if not num_held_in:
        return drawn, ()
    taken = set(drawn)
    both = draw_instances(task, num_both, corpus.seed)
    return drawn, tuple(instance for instance in both if instance not in taken)


def draw_instances(task: Task, num_instances: int, seed: int) -> tuple[Instance, ...]:
    """Draws instances without replacement, in file order; all of them where the task has no more."""

    def rank(index: int) -> bytes:
        return hashlib.blake2b(f"{seed}\0{task.name}\0{index}".encode(), digest_size=16).digest()

    drawn = sorted(range(len(task.instances)), key=rank)[:num_instances]
    return tuple(task.instances[index] for index in sorted(drawn))
