"""Hold-outs: from a rule and a corpus to the tasks of the pool and the test tasks.

Splits as in Super-NaturalInstructions (lists), leave-one-category, leave-one-dataset, leave-one-task and two random
tasks a category as in Natural Instructions v1, and clusters with related clusters as in FLAN.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from simtune.config.holdout import ClusterSettings, HoldoutSettings
from simtune.corpus.drawn_tasks import DrawnTasks
from simtune.corpus.source import read_split
from simtune.corpus.source_datasets import source_names
from simtune.corpus.task import Task
from simtune.errors import CorpusError
from simtune.wording import nearest, some

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Split:
    """The two sides of one hold-out, by task name; they may name tasks that are not on disk.

    Attributes:
        left_out: tasks on neither side because they are too close to the test tasks, with the reason.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)


def single_rules(rule: HoldoutSettings, tasks: DrawnTasks, on_progress: OnProgress) -> dict[str, HoldoutSettings]:
    """A rule for each split that `rule` gives, by the split's name.

    Args:
        rule: the hold-out.
        tasks: the corpus.
        on_progress: called with tasks read and tasks in all, where the rule needs the tasks.

    Raises:
        CorpusError: the corpus has nothing to hold out.
    """
    if not rule.gives_several:
        return {split_name(rule): rule}
    if rule.clusters is not None:
        return {
            name: HoldoutSettings(
                clusters={
                    other: cluster.model_copy(update={"held_out": other == name})
                    for other, cluster in rule.clusters.items()
                }
            )
            for name, held in rule.clusters.items()
            if held.held_out
        }
    usable = tasks.usable(on_progress)
    if rule.task is not None:
        return {task.name: HoldoutSettings(task=(task.name,)) for task in usable}
    groups = _by_category(usable) if rule.categories is not None else _by_source(usable)
    if not groups:
        raise CorpusError(
            f"no task of {tasks.source.label} names a source data set", field=f"corpus.holdout.{rule.rule}"
        )
    field_name = "categories" if rule.categories is not None else "source"
    return {group.name: HoldoutSettings.model_validate({field_name: (group.name,)}) for group in groups.values()}


def split_name(rule: HoldoutSettings) -> str:
    """What tables call the split of a rule that gives one."""
    if rule.split is not None:
        return rule.split
    if rule.random_per_category is not None:
        return f"{rule.random_per_category.num} random a category, seed {rule.random_per_category.seed}"
    if rule.tasks is not None:
        return "lists"
    if rule.clusters is not None:
        return next(name for name, cluster in rule.clusters.items() if cluster.held_out)
    return " + ".join(getattr(rule, rule.rule))


def make_split(rule: HoldoutSettings, tasks: DrawnTasks, on_progress: OnProgress) -> Split:
    """The split of a rule that gives one.

    Raises:
        CorpusError: the rule names a split, category, data set or task that the corpus does not have.
    """
    if rule.split is not None:
        train, test = read_split(tasks.source, rule.split, "corpus.holdout.split")
        return Split(tuple(train), tuple(test))
    if rule.tasks is not None:
        return Split(rule.tasks.train, rule.tasks.test)
    if rule.task is not None:
        _refuse_unknown("task", rule.task, tasks.names, tasks.source.label)
        return _without(tasks.names, rule.task)
    usable = tasks.usable(on_progress)
    if rule.random_per_category is not None:
        number, seed = rule.random_per_category.num, rule.random_per_category.seed
        drawn = [name for group in _by_category(usable).values() for name in _draw(group.tasks, number, seed)]
        return _without(tasks.names, drawn)
    if rule.clusters is not None:
        return _hold_out_cluster(rule.clusters, tasks, usable)
    if rule.source is not None:
        return _without(tasks.names, _members("source", rule.source, _by_source(usable), _source_key, tasks))
    return _without(tasks.names, _members("categories", rule.categories or (), _by_category(usable), _fold, tasks))


@dataclass
class _Group:
    """Tasks with something in common: how the first of them spells it, and their names."""

    name: str
    tasks: list[str] = field(default_factory=list)


def _by_category(usable: Sequence[Task]) -> dict[str, _Group]:
    return _grouped((_fold(task.category), task.category, task.name) for task in usable)


def _by_source(usable: Sequence[Task]) -> dict[str, _Group]:
    return _grouped((key, name, task.name) for task in usable for key, name in source_names(task.sources).items())


def _grouped(entries: Iterable[tuple[str, str, str]]) -> dict[str, _Group]:
    groups: dict[str, _Group] = {}
    for key, name, task in entries:
        groups.setdefault(key, _Group(name)).tasks.append(task)
    return dict(sorted(groups.items()))


def _fold(name: str) -> str:
    return name.casefold()


def _source_key(name: str) -> str:
    return next(iter(source_names((name,))), name)


def _members(
    rule: str, wanted: Sequence[str], groups: Mapping[str, _Group], key: Callable[[str], str], tasks: DrawnTasks
) -> list[str]:
    """The tasks of the groups that a rule names."""
    known = [group.name for group in groups.values()]
    missing = [name for name in wanted if key(name) not in groups]
    if missing:
        word = "category" if rule.endswith("categories") else "source data set"
        hint = nearest(missing[0], known)
        raise CorpusError(
            f"no task of {tasks.source.label} has the {word} {some(missing, 5)}{hint}",
            field=f"corpus.holdout.{rule}",
        )
    return [task for name in wanted for task in groups[key(name)].tasks]


def _refuse_unknown(rule: str, wanted: Sequence[str], names: Sequence[str], label: str) -> None:
    missing = sorted(set(wanted) - set(names))
    if missing:
        raise CorpusError(
            f"{label} has no task {some(missing, 5)}{nearest(missing[0], names)}", field=f"corpus.holdout.{rule}"
        )


def _without(names: Sequence[str], held_out: Iterable[str], left_out: Mapping[str, str] | None = None) -> Split:
    test = set(held_out)
    apart = {name: reason for name, reason in (left_out or {}).items() if name not in test}
    train = tuple(name for name in names if name not in test and name not in apart)
    return Split(train, tuple(sorted(test)), apart)


def _draw(names: Sequence[str], number: int, seed: int) -> list[str]:
    """Draws names by a hash of seed and name, so that the same tasks are drawn on every machine."""

    def rank(name: str) -> bytes:
        return hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=16).digest()

    return sorted(names, key=rank)[: min(number, len(names) - 1)]


def _hold_out_cluster(clusters: Mapping[str, ClusterSettings], tasks: DrawnTasks, usable: Sequence[Task]) -> Split:
    categories = _by_category(usable)
    members = {}
    for name, cluster in clusters.items():
        _refuse_unknown(f"clusters.{name}.tasks", cluster.tasks, tasks.names, tasks.source.label)
        of_categories = _members(f"clusters.{name}.categories", cluster.categories, categories, _fold, tasks)
        members[name] = {*cluster.tasks, *of_categories}
    held_out = next(name for name, cluster in clusters.items() if cluster.held_out)
    related = [
        name for name, cluster in clusters.items() if name in clusters[held_out].related or held_out in cluster.related
    ]
    reasons = {
        task: f"in cluster {name}, which is related to the held-out cluster {held_out}"
        for name in related
        for task in sorted(members[name])
    }
    return _without(tasks.names, members[held_out], reasons)
