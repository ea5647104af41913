"""The pool and the test tasks of a grid point: which tasks take part, with which instances, and why others do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from simtune.config.evaluation import EvaluationSettings
from simtune.config.settings import CorpusSettings
from simtune.corpus.drawn_tasks import DrawnTask, DrawnTasks
from simtune.corpus.holdout import make_split
from simtune.corpus.source import Problem
from simtune.corpus.task import Task
from simtune.errors import CorpusError
from simtune.storage.files import fingerprint
from simtune.wording import counted, some

if TYPE_CHECKING:
    import pyarrow as pa

Side = Literal["pool", "test"]
Role = Literal["pool", "test", "dropped"]
Policy = Literal["error", "remove", "allow"]
OnProgress = Callable[[int, int], None]

_MOST_PROBLEMS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """How one named task is used: a row of `tasks.parquet`.

    Attributes:
        num_instances: instances in the file; 0 if it is not on disk.
        num_drawn: instances that are used.
        reason: why the task was dropped; empty if it was not.
    """

    task: str
    role: Role
    category: str
    num_instances: int
    num_drawn: int
    reason: str


@dataclass(frozen=True)
class TaskSets:
    """The tasks of a grid point, with only the instances that are used, sorted by name.

    Attributes:
        shared_names: tasks in both lists, which were left out of the pool; each has two records.
        held_in: pool tasks with the instances that are set aside for scores during training.
    """

    pool: tuple[Task, ...]
    test: tuple[Task, ...]
    records: tuple[TaskRecord, ...]
    problems: tuple[Problem, ...]
    shared_names: tuple[str, ...] = ()
    held_in: tuple[Task, ...] = ()

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
        """`tasks.parquet`: one row for each named task, two if it is in both lists."""
        import pyarrow as pa

        names = ("task", "role", "category", "num_instances", "num_drawn", "reason")
        return pa.table({name: [getattr(record, name) for record in self.records] for name in names})


def task_fingerprint(task: Task) -> str:
    """SHA-256 of everything in a task that a model or an encoder may read."""
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


def build_task_sets(
    corpus: CorpusSettings,
    evaluation: EvaluationSettings,
    on_progress: OnProgress = lambda done, total: None,
    policy: Policy = "error",
    tasks: DrawnTasks | None = None,
) -> TaskSets:
    """The tasks of a hold-out that gives one split, without those of the pool that are too small.

    Args:
        corpus: where the tasks are, the hold-out, and what is drawn.
        evaluation: how many instances of a test task are scored.
        on_progress: called with tasks read and tasks in all.
        policy: with `remove`, tasks on both sides are left out of the pool. They can never be on both: a task is one
            file with one draw, and training on it is training on its test instances.
        tasks: the corpus's tasks where several hold-outs share them.

    Raises:
        CorpusError: unreadable task files (unless `skip_bad`), overlapping train and test tasks (unless removed), an
            empty pool or hold-out.
    """
    tasks = tasks or DrawnTasks(corpus, evaluation.instances_per_task, evaluation.held_in)
    label = tasks.source.label
    split = make_split(corpus.holdout, tasks, on_progress)
    overlap = sorted(set(split.train) & set(split.test))
    _refuse_overlap(label, overlap, policy)
    sides = _Sides(corpus.min_instances)
    for name, reason in sorted(split.left_out.items()):
        sides.drop(name, "", 0, reason)
    for name in overlap:
        sides.drop(name, "", 0, f"leak: shares its name with test task {name}")
    roles: dict[str, Side] = {**dict.fromkeys(split.train, "pool"), **dict.fromkeys(split.test, "test")}
    present = set(tasks.names)
    for done, name in enumerate(sorted(roles)):
        on_progress(done, len(roles))
        if name in present:
            sides.add(name, roles[name], tasks.read(name))
        else:
            sides.drop(name, "", 0, f"{_split_word(roles[name])} task not on disk")
    on_progress(len(roles), len(roles))
    _refuse_bad_files(sides.problems, corpus.skip_bad)
    _refuse_empty(label, sides)
    # Of a name the record as a task of either side comes after the one that says why it is not on the other.
    records = sorted(sides.records, key=lambda record: record.task)
    return TaskSets(
        pool=tuple(sides.pool),
        test=tuple(sides.test),
        records=tuple(records),
        problems=tuple(sides.problems),
        shared_names=tuple(overlap),
        held_in=tuple(sides.held_in),
    )


@dataclass
class _Sides:
    """The pool and the test tasks as they are filled."""

    min_instances: int
    pool: list[Task] = field(default_factory=list)
    held_in: list[Task] = field(default_factory=list)
    test: list[Task] = field(default_factory=list)
    records: list[TaskRecord] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, name: str, side: Side, drawn: DrawnTask) -> None:
        """Takes a task in, or records why not."""
        self.problems += drawn.problems
        task = drawn.as_train if side == "pool" else drawn.as_test
        if task is None:
            first = next(str(problem) for problem in drawn.problems if problem.severity == "error")
            self.drop(name, "", 0, f"unreadable: {first}")
        elif side == "pool" and drawn.num_instances < self.min_instances:
            reason = f"instances: {drawn.num_instances}, fewer than min_instances: {self.min_instances}"
            self.drop(name, task.category, drawn.num_instances, reason)
        elif not drawn.num_instances:
            self.drop(name, task.category, 0, "test task without instances")
        else:
            (self.pool if side == "pool" else self.test).append(task)
            if side == "pool" and drawn.held_in is not None and drawn.held_in.instances:
                self.held_in.append(drawn.held_in)
            record = TaskRecord(name, side, task.category, drawn.num_instances, len(task.instances), "")
            self.records.append(record)

    def drop(self, name: str, category: str, num_instances: int, reason: str) -> None:
        self.records.append(TaskRecord(name, "dropped", category, num_instances, 0, reason))


def _refuse_overlap(label: str, overlap: Sequence[str], policy: Policy) -> None:
    if not overlap or policy == "remove":
        return
    why = "; leakage: allow cannot keep them, for their test instances would be trained on" * (policy == "allow")
    raise CorpusError(
        f"{label}: {counted(len(overlap), 'task is', 'tasks are')} in both the train and the test list "
        f"({some(overlap, 5)}){why}. Remove them from one of the lists, or from the pool with leakage: remove",
        field="corpus.holdout",
    )


def _split_word(role: str) -> str:
    return "train" if role == "pool" else "test"


def _refuse_bad_files(problems: Sequence[Problem], skip_bad: bool) -> None:
    errors = [str(problem) for problem in problems if problem.severity == "error"]
    if not errors or skip_bad:
        return
    shown = errors[:_MOST_PROBLEMS_SHOWN]
    more = f"\n... and {len(errors) - len(shown)} more" if len(errors) > len(shown) else ""
    raise CorpusError(
        "\n".join(shown) + more + "\nFix these files, or leave such tasks out with --set corpus.skip_bad=true"
    )


def _refuse_empty(label: str, sides: _Sides) -> None:
    if not sides.pool:
        largest = max((record.num_instances for record in sides.records if record.role == "dropped"), default=0)
        raise CorpusError(
            f"{label}: the pool is empty: every train task was dropped (corpus.min_instances: {sides.min_instances}; "
            f"the largest dropped task has {counted(largest, 'instance')}). Lower corpus.min_instances or check "
            "corpus.path",
            field="corpus",
        )
    if not sides.test:
        raise CorpusError(
            f"{label}: no test task of the hold-out can be used. Check corpus.path and corpus.holdout",
            field="corpus.holdout",
        )
