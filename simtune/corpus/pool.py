"""The pool and the test tasks of a grid point: which tasks take part, with which instances, and why others do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
        reason_group: the reason without what differs from task to task, by which messages and the report group tasks.
    """

    task: str
    role: Role
    category: str
    num_instances: int
    num_drawn: int
    reason: str
    reason_group: str = ""


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

    def with_records_of(self, others: Iterable[TaskSets]) -> TaskSets:
        """The same tasks with the records and problems of further test tasks too, each once."""
        all_sets = (self, *others)
        records = dict.fromkeys(record for sets in all_sets for record in sets.records)
        problems = dict.fromkeys(problem for sets in all_sets for problem in sets.problems)
        return replace(self, records=tuple(sorted(records, key=lambda record: record.task)), problems=tuple(problems))

    def table(self) -> pa.Table:
        """`tasks.parquet`: one row for each named task, two if it is in both lists."""
        import pyarrow as pa

        names = ("task", "role", "category", "num_instances", "num_drawn", "reason", "reason_group")
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
        sides.drop("pool", name, "", 0, reason)
    for name in overlap:
        sides.drop("pool", name, "", 0, f"leak: shares its name with test task {name}", "leak")
    roles: dict[str, Side] = {**dict.fromkeys(split.train, "pool"), **dict.fromkeys(split.test, "test")}
    sides.fill(roles, tasks, on_progress)
    _refuse_bad_files(sides.problems, corpus.skip_bad)
    _refuse_empty(label, sides, f"corpus.holdout.{corpus.holdout.rule}")
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


def read_test_tasks(names: Iterable[str], tasks: DrawnTasks, skip_bad: bool) -> TaskSets:
    """Test tasks beside those of the hold-out, dropped and recorded by the same rules; there is no pool.

    Args:
        names: as a split lists them.
        tasks: the corpus's tasks.
        skip_bad: whether unreadable files are recorded instead of refused.

    Raises:
        CorpusError: unreadable task files, unless they may be skipped.
    """
    sides = _Sides(min_instances=0)
    sides.fill(dict.fromkeys(names, "test"), tasks, lambda done, total: None)
    _refuse_bad_files(sides.problems, skip_bad)
    return TaskSets(pool=(), test=tuple(sides.test), records=tuple(sides.records), problems=tuple(sides.problems))


def why_dropped(records: Iterable[TaskRecord]) -> str:
    """Why tasks were dropped, by reason: `a, b (not on disk); c (unreadable)`."""
    reasons: dict[str, list[str]] = {}
    for record in records:
        if record.role == "dropped":
            reasons.setdefault(record.reason_group, []).append(record.task)
    return "; ".join(f"{some(names)} ({reason})" for reason, names in reasons.items())


@dataclass
class _Sides:
    """The pool and the test tasks as they are filled.

    Attributes:
        too_small: instances of each pool task that has too few.
    """

    min_instances: int
    pool: list[Task] = field(default_factory=list)
    held_in: list[Task] = field(default_factory=list)
    test: list[Task] = field(default_factory=list)
    records: list[TaskRecord] = field(default_factory=list)
    dropped: dict[Side, list[TaskRecord]] = field(default_factory=lambda: {"pool": [], "test": []})
    problems: list[Problem] = field(default_factory=list)
    too_small: list[int] = field(default_factory=list)

    def fill(self, roles: Mapping[str, Side], tasks: DrawnTasks, on_progress: OnProgress) -> None:
        """Takes in the tasks that are on disk, and records why others are not."""
        present = set(tasks.names)
        for done, name in enumerate(sorted(roles)):
            on_progress(done, len(roles))
            if name in present:
                self.add(name, roles[name], tasks.read(name))
            else:
                self.drop(roles[name], name, "", 0, f"{_split_word(roles[name])} task not on disk")
        on_progress(len(roles), len(roles))

    def add(self, name: str, side: Side, drawn: DrawnTask) -> None:
        """Takes a task in, or records why not."""
        self.problems += drawn.problems
        task = drawn.as_train if side == "pool" else drawn.as_test
        if task is None:
            first = next(str(problem) for problem in drawn.problems if problem.severity == "error")
            self.drop(side, name, "", 0, f"unreadable: {first}", "unreadable")
        elif side == "pool" and drawn.num_instances < self.min_instances:
            self.too_small.append(drawn.num_instances)
            few = f"fewer than min_instances: {self.min_instances}"
            reason = f"instances: {drawn.num_instances}, {few}"
            self.drop(side, name, task.category, drawn.num_instances, reason, few)
        elif not drawn.num_instances:
            self.drop(side, name, task.category, 0, "test task without instances")
        else:
            (self.pool if side == "pool" else self.test).append(task)
            if side == "pool" and drawn.held_in is not None and drawn.held_in.instances:
                self.held_in.append(drawn.held_in)
            record = TaskRecord(name, side, task.category, drawn.num_instances, len(task.instances), "")
            self.records.append(record)

    def drop(self, side: Side, name: str, category: str, num_instances: int, reason: str, group: str = "") -> None:
        """Records why a task is left out; `group` is the reason without what differs from task to task."""
        record = TaskRecord(name, "dropped", category, num_instances, 0, reason, group or reason)
        self.records.append(record)
        self.dropped[side].append(record)


def _refuse_overlap(label: str, overlap: Sequence[str], policy: Policy) -> None:
    if not overlap or policy == "remove":
        return
    why = "; leakage: allow cannot keep them, because their test instances would be trained on" * (policy == "allow")
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


def _refuse_empty(label: str, sides: _Sides, holdout: str) -> None:
    """Refuses a hold-out with nothing on one of its sides, with why its tasks were dropped."""
    if not sides.pool:
        dropped = sides.dropped["pool"]
        why = f"every train task was dropped: {why_dropped(dropped)}" if dropped else "the hold-out takes every task"
        if sides.too_small:
            raise CorpusError(
                f"{label}: the pool is empty: {why}. The largest of the small ones has "
                f"{counted(max(sides.too_small), 'instance')}; lower corpus.min_instances",
                field="corpus.min_instances",
            )
        raise CorpusError(f"{label}: the pool is empty: {why}. Check corpus.path and {holdout}", field=holdout)
    if not sides.test:
        why = why_dropped(sides.dropped["test"]) or "it holds out no task"
        raise CorpusError(
            f"{label}: no test task of the hold-out can be used: {why}. Check corpus.path and {holdout}", field=holdout
        )
