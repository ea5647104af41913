"""The test tasks of each evaluation suite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from simtune.config import Sweep
from simtune.config.evaluation import Suite, suite_field, suites_of
from simtune.corpus.pool import TaskSets, task_fingerprint
from simtune.corpus.registry import open_corpus
from simtune.corpus.task import Task, find_labels
from simtune.errors import CorpusError
from simtune.prompting.registry import make_renderer
from simtune.storage.files import fingerprint
from simtune.wording import counted, nearest, some


@dataclass(frozen=True)
class SuiteTasks:
    """The test tasks of a suite, each with the instances that are scored.

    Attributes:
        fingerprint: of everything that a model or a metric reads of them.
    """

    suite: Suite
    tasks: tuple[Task, ...]
    fingerprint: str


def most_instances(sweep: Sweep) -> int:
    """The most instances of a test task that any suite takes."""
    return max(suite.instances_per_task for suite in suites_of(sweep))


def read_suites(sweep: Sweep, sets: TaskSets) -> dict[str, SuiteTasks]:
    """The test tasks of every suite, by its name.

    Args:
        sweep: the settings of one grid point.
        sets: its pool and the test tasks of its hold-out, with as many instances as any suite takes.

    Raises:
        CorpusError: a suite has no tasks, or a test task of a suite is in the pool.
    """
    suites: dict[str, SuiteTasks] = {}
    for suite in suites_of(sweep):
        field = suite_field(sweep, suite.name)
        tasks = list(sets.test) if suite.split is None else _of_split(sweep, suite, sets)
        if suite.categories:
            tasks = _of_categories(suite, tasks, field)
        cut = [replace(task, instances=task.instances[: suite.instances_per_task]) for task in tasks]
        if suite.method == "rank":
            cut = _with_choices(suite, cut, field)
        if not cut:
            raise CorpusError(f"suite {suite.name!r}: no test task; check its split and categories", field=field)
        suites[suite.name] = SuiteTasks(
            suite, tuple(cut), fingerprint([prompts_fingerprint(task, suite.num_choices) for task in cut])
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


def _of_split(sweep: Sweep, suite: Suite, sets: TaskSets) -> list[Task]:
    """The test tasks of another split of the corpus."""
    source = open_corpus(sweep.corpus.path)
    _, names = source.split(suite.split or "")
    pool = {task.name for task in sets.pool}
    trained = sorted(pool.intersection(names))
    if trained:
        raise CorpusError(
            f"suite {suite.name!r}: {counted(len(trained), 'test task')} of split {suite.split!r} "
            f"{'is' if len(trained) == 1 else 'are'} in the pool ({some(trained)}). Choose a hold-out without them",
            field=suite_field(sweep, suite.name),
        )
    present = set(source.names())
    known = {task.name: task for task in sets.test}
    tasks = []
    for name in sorted(set(names) & present):
        task = known.get(name) or source.read(name).task
        if task is not None and task.instances:
            cut = task.instances[: suite.instances_per_task]
            tasks.append(task if name in known else replace(task, instances=cut, labels=find_labels(task)))
    return tasks


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
