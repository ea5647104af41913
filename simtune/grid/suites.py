"""The test tasks of each evaluation suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from simtune.config import Sweep
from simtune.config.evaluation import Suite, suite_field, suites_of
from simtune.corpus.drawn_tasks import DrawnTasks
from simtune.corpus.pool import TaskSets, read_test_tasks, task_fingerprint, why_dropped
from simtune.corpus.source import read_split
from simtune.corpus.task import Task
from simtune.errors import CorpusError
from simtune.prompting.registry import make_renderer
from simtune.storage.files import fingerprint
from simtune.wording import counted, nearest, some


@dataclass(frozen=True)
class SuiteTasks:
    """The test tasks of a suite, each with the instances that are scored.

    Attributes:
        fingerprint: of everything that a model or a metric reads of them.
        without_choices: names of the test tasks that cannot be ranked, and so are not among them.
    """

    suite: Suite
    tasks: tuple[Task, ...]
    fingerprint: str
    without_choices: tuple[str, ...]


def most_instances(sweep: Sweep) -> int:
    """The most instances of a test task that any suite takes."""
    return max(suite.instances_per_task for suite in suites_of(sweep))


def read_suite_splits(sweep: Sweep, pool: Sequence[Task], tasks: DrawnTasks) -> dict[str, TaskSets]:
    """The test tasks of every further split that a suite names, by its name.

    Args:
        sweep: the settings of one grid point.
        pool: its pool, which may have none of them.
        tasks: of its corpus, with as many test instances as any suite takes.

    Raises:
        CorpusError: there is no such split, a task of it is in the pool, or its files are unreadable.
    """
    read: dict[str, TaskSets] = {}
    for suite in suites_of(sweep):
        if suite.split is None or suite.split in read:
            continue
        field = f"{suite_field(sweep, suite.name)}.split"
        _, names = read_split(tasks.source, suite.split, field)
        trained = sorted({task.name for task in pool}.intersection(names))
        if trained:
            raise CorpusError(
                f"suite {suite.name!r}: {counted(len(trained), 'test task')} of split {suite.split!r} "
                f"{'is' if len(trained) == 1 else 'are'} in the pool ({some(trained)}). Choose a hold-out without them",
                field=field,
            )
        read[suite.split] = read_test_tasks(names, tasks, sweep.corpus.skip_bad)
        if not read[suite.split].test:
            raise CorpusError(
                f"suite {suite.name!r}: no test task of split {suite.split!r} can be used: "
                f"{why_dropped(read[suite.split].records)}. Check corpus.path and the split",
                field=field,
            )
    return read


def read_suites(sweep: Sweep, sets: TaskSets, splits: Mapping[str, TaskSets]) -> dict[str, SuiteTasks]:
    """The test tasks of every suite, by its name.

    Args:
        sweep: the settings of one grid point.
        sets: its pool and the test tasks of its hold-out, with as many instances as any suite takes.
        splits: from `read_suite_splits`.

    Raises:
        CorpusError: a suite has no tasks.
    """
    suites: dict[str, SuiteTasks] = {}
    for suite in suites_of(sweep):
        field = suite_field(sweep, suite.name)
        tasks: Sequence[Task] = sets.test if suite.split is None else splits[suite.split].test
        if suite.categories:
            tasks = _of_categories(suite, tasks, f"{field}.categories")
        cut = [replace(task, instances=task.instances[: suite.instances_per_task]) for task in tasks]
        if suite.method == "rank":
            cut = _with_choices(suite, cut, field)
        scored = {task.name for task in cut}
        suites[suite.name] = SuiteTasks(
            suite,
            tuple(cut),
            fingerprint([prompts_fingerprint(task, suite.num_choices) for task in cut]),
            without_choices=tuple(task.name for task in tasks if task.name not in scored),
        )
    return suites


def prompts_fingerprint(task: Task, num_choices: int) -> str:
    """A fingerprint of everything about a task that a prompt may use: also the labels if answer choices are ranked."""
    return fingerprint([task_fingerprint(task), task.labels]) if num_choices else task_fingerprint(task)


def _with_choices(suite: Suite, tasks: Sequence[Task], field: str) -> list[Task]:
    """The tasks and instances whose prompts have answer choices."""
    renderer = make_renderer(suite.encoding, f"{field}.encoding")
    usable = []
    for task in tasks:
        choices = renderer.choices(task, task.instances, suite.max_choices)
        instances = tuple(each for each, found in zip(task.instances, choices, strict=True) if found is not None)
        if instances:
            usable.append(replace(task, instances=instances))
    if not usable:
        raise CorpusError(
            f"suite {suite.name!r}: none of {counted(len(tasks), 'test task')} has answer choices to rank "
            f"(max_choices: {suite.max_choices}). Set method: generate, or name other tasks",
            field=field,
        )
    return usable


def _of_categories(suite: Suite, tasks: Sequence[Task], field: str) -> list[Task]:
    wanted = {category.casefold(): category for category in suite.categories}
    found = [task for task in tasks if task.category.casefold() in wanted]
    missing = sorted(set(wanted) - {task.category.casefold() for task in found})
    if missing:
        there = sorted({task.category for task in tasks})
        raise CorpusError(
            f"suite {suite.name!r}: no test task has the category {wanted[missing[0]]!r}"
            f"{nearest(wanted[missing[0]], there) or '.'} Categories there: {some(there, 20)}",
            field=field,
        )
    return found
