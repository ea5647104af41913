"""The pool and the hold-out: which tasks take part, with which instances, and why the others do not.

Every arm draws the same instances of a task, so arms differ only in their tasks. The draw ranks a task's instances
by a hash of seed, name and position: it needs no random stream, is the same on every machine, and grows by
addition (the draw of 50 is part of the draw of 100).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from simtune.config.settings import CorpusSettings, EvaluationSettings
from simtune.corpus.natural_instructions import Problem
from simtune.corpus.source import CorpusSource, open_corpus
from simtune.corpus.task import Instance, Task
from simtune.errors import CorpusError
from simtune.storage.files import fingerprint
from simtune.wording import counted, nearest, some

if TYPE_CHECKING:
    import pyarrow as pa

Role = Literal["pool", "test", "dropped"]

_MOST_PROBLEMS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """What became of one named task: a row of `tasks.parquet`.

    Attributes:
        num_instances: instances in the file; 0 where it is not on disk.
        num_drawn: instances that take part.
        reason: why a dropped task was dropped, else empty.
    """

    task: str
    role: Role
    category: str
    num_instances: int
    num_drawn: int
    reason: str


@dataclass(frozen=True)
class TaskSets:
    """The tasks of a study, with just the instances that take part, sorted by name.

    Attributes:
        shared_names: tasks in both lists, which were left out of the pool; each has two records.
    """

    pool: tuple[Task, ...]
    test: tuple[Task, ...]
    records: tuple[TaskRecord, ...]
    problems: tuple[Problem, ...]
    shared_names: tuple[str, ...] = ()

    @property
    def dropped(self) -> tuple[TaskRecord, ...]:
        return tuple(record for record in self.records if record.role == "dropped")

    def why_absent(self, name: str) -> str:
        """Why the pool does not have a task of this name."""
        found = [record for record in self.records if record.task == name]
        if not found:
            return "neither a train nor a test task of this corpus"
        return "; ".join(record.reason or f"a {_split_word(record.role)} task" for record in found)

    def table(self) -> pa.Table:
        """`tasks.parquet`: one row a named task, two where both lists name it."""
        import pyarrow as pa

        names = ("task", "role", "category", "num_instances", "num_drawn", "reason")
        return pa.table({name: [getattr(record, name) for record in self.records] for name in names})


def task_fingerprint(task: Task) -> str:
    """SHA-256 of everything of a task that a model or an encoder may see."""
    return fingerprint(
        {
            "name": task.name,
            "definition": task.definition,
            "categories": task.categories,
            "positive": [(shown.input, shown.output, shown.explanation) for shown in task.positive],
            "negative": [(shown.input, shown.output, shown.explanation) for shown in task.negative],
            "instances": [(instance.id, instance.input, instance.outputs) for instance in task.instances],
        }
    )


def draw_instances(task: Task, num_instances: int, seed: int) -> tuple[Instance, ...]:
    """Draws instances without replacement, in file order; all of them where the task has no more."""

    def rank(index: int) -> bytes:
        return hashlib.blake2b(f"{seed}\0{task.name}\0{index}".encode(), digest_size=16).digest()

    drawn = sorted(range(len(task.instances)), key=rank)[:num_instances]
    return tuple(task.instances[index] for index in sorted(drawn))


def build_task_sets(
    corpus: CorpusSettings,
    evaluation: EvaluationSettings,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    policy: Literal["error", "remove", "allow"] = "error",
) -> TaskSets:
    """Reads the named tasks, drops what is too small, draws the pool's instances, takes the first test instances.

    Args:
        policy: with `remove`, tasks in both lists are left out of the pool. They can never be in both: a task is one
            file with one draw, and training on it is training on its test instances.

    Raises:
        CorpusError: unreadable task files (unless `skip_bad`), overlapping train and test tasks (unless removed), an
            empty pool or hold-out.
    """
    source = open_corpus(corpus.path)
    train_names, test_names = _split_names(source, corpus, on_progress)
    overlap = sorted(set(train_names) & set(test_names))
    if overlap and policy != "remove":
        why = "; leakage: allow cannot keep them, for their test instances would be trained on" * (policy == "allow")
        raise CorpusError(
            f"{source.label}: {counted(len(overlap), 'task is', 'tasks are')} in both the train and the test list "
            f"({some(overlap, 5)}){why}. Remove them from one of the split lists, or from the pool with leakage: remove"
        )
    present = set(source.names())
    pool: list[Task] = []
    test: list[Task] = []
    records: list[TaskRecord] = []
    problems: list[Problem] = []
    roles: dict[str, Role] = {**dict.fromkeys(train_names, "pool"), **dict.fromkeys(test_names, "test")}
    for done, name in enumerate(sorted(roles)):
        on_progress(done, len(roles))
        role = roles[name]
        if name in overlap:
            records.append(TaskRecord(name, "dropped", "", 0, 0, f"leak: shares its name with test task {name}"))
        if name not in present:
            records.append(TaskRecord(name, "dropped", "", 0, 0, f"{_split_word(role)} task not on disk"))
            continue
        file = source.read(name)
        problems.extend(file.problems)
        task = file.task
        if task is None:
            reason = f"unreadable: {next(str(problem) for problem in file.problems if problem.severity == 'error')}"
            records.append(TaskRecord(name, "dropped", "", 0, 0, reason))
            continue
        found = len(task.instances)
        reason = ""
        if role == "pool" and found < corpus.min_instances:
            reason = f"instances: {found}, fewer than min_instances: {corpus.min_instances}"
        elif not found:
            reason = "test task without instances"
        if reason:
            records.append(TaskRecord(name, "dropped", task.category, found, 0, reason))
            continue
        if role == "pool":
            instances = draw_instances(task, corpus.instances_per_task, corpus.seed)
            pool.append(replace(task, instances=instances))
        else:
            instances = task.instances[: evaluation.instances_per_task]
            test.append(replace(task, instances=instances))
        records.append(TaskRecord(name, role, task.category, found, len(instances), ""))
    on_progress(len(roles), len(roles))
    _refuse_bad_files(problems, corpus.skip_bad)
    _refuse_empty(source.label, pool, test, records, corpus)
    return TaskSets(tuple(pool), tuple(test), tuple(records), tuple(problems), tuple(overlap))


def _split_names(
    source: CorpusSource, corpus: CorpusSettings, on_progress: Callable[[int, int], None]
) -> tuple[Sequence[str], Sequence[str]]:
    if corpus.split is not None:
        return source.split(corpus.split)
    held_out = {category.casefold() for category in corpus.holdout_categories}
    train, test, found = [], [], set()
    categories: set[str] = set()
    names = source.names()
    for done, name in enumerate(names):
        on_progress(done, len(names))
        task = source.read(name).task
        category = task.category.casefold() if task else None
        categories |= {task.category} if task else set()
        if category in held_out:
            test.append(name)
            found.add(category)
        else:
            train.append(name)
    missing = sorted(held_out - found)
    if missing:
        hint = nearest(missing[0], sorted(categories))
        raise CorpusError(
            f"corpus.holdout_categories: no task of {source.label} has the category {some(missing, 5)}{hint}"
        )
    return train, test


def _split_word(role: str) -> str:
    return "train" if role == "pool" else "test"


def _refuse_bad_files(problems: Sequence[Problem], skip_bad: bool) -> None:
    errors = [str(problem) for problem in problems if problem.severity == "error"]
    if not errors or skip_bad:
        return
    shown = errors[:_MOST_PROBLEMS_SHOWN]
    more = f"\n... and {len(errors) - len(shown)} more" if len(errors) > len(shown) else ""
    raise CorpusError(
        "\n".join(shown) + more + "\nMend these files, or leave such tasks out with --set corpus.skip_bad=true"
    )


def _refuse_empty(
    label: str,
    pool: Sequence[Task],
    test: Sequence[Task],
    records: Sequence[TaskRecord],
    corpus: CorpusSettings,
) -> None:
    if not pool:
        largest = max((record.num_instances for record in records if record.role == "dropped"), default=0)
        raise CorpusError(
            f"{label}: the pool is empty: every train task was dropped (corpus.min_instances: {corpus.min_instances}; "
            f"the largest dropped task has {counted(largest, 'instance')}). Lower corpus.min_instances or check "
            "corpus.path"
        )
    if not test:
        raise CorpusError(f"{label}: no test task of the split is on disk. Check corpus.path and corpus.split")
