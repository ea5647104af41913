"""A sweep made concrete: its grid points, with the tasks that each one names.

Reading them starts nothing and writes nothing, so what is wrong with settings and task files is found before a run
directory exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from simtune.config import GridPoint, Sweep, expand_grid
from simtune.config.evaluation import suite_field, suites_of
from simtune.config.selection import MOST_TRIALS, num_subsets
from simtune.config.settings import MOST_GRID_POINTS
from simtune.corpus.drawn_tasks import DrawnTasks
from simtune.corpus.holdout import single_rules, split_name
from simtune.corpus.leakage import Leak
from simtune.corpus.pool import TaskSets, build_task_sets, task_fingerprint
from simtune.corpus.task import Task
from simtune.embedding.encoder import check_encoder
from simtune.errors import ConfigError
from simtune.evaluation.metric_registry import check_metrics
from simtune.grid.rouge_tokenizers import check_rouge_tokenizers
from simtune.grid.suites import SuiteTasks, most_instances, read_suite_splits, read_suites
from simtune.prompting.registry import resolve_encoding
from simtune.prompting.tokenizer import check_tokenizer
from simtune.selection.subsets import resolve_arms
from simtune.storage.files import fingerprint
from simtune.storage.object_store import is_object_url
from simtune.storage.output_path import check_folder
from simtune.training.model import check_model
from simtune.wording import counted

HOLDOUT = "corpus.holdout"
"""The name of the grid axis that the splits of a hold-out are."""

TASKS_FOLLOW = (
    "corpus.",
    "leakage.",
    *(f"evaluation.{name}" for name in ("instances_per_task", "held_in", "suites", "method", "max_choices")),
)
"""The settings that tasks and their leaks follow from, as the beginnings of their names."""
SUBSETS_FOLLOW = (*TASKS_FOLLOW, "embedding.")
"""The settings that embeddings and subsets follow from."""


@dataclass(frozen=True)
class PointTasks:
    """A grid point and its tasks.

    Attributes:
        task_fingerprints: of every pool and test task that was read, with its drawn instances.
        suites: the test tasks of each evaluation suite, by its name.
        leaks: what the leak guard has found; empty before it. With `leakage: remove` the pool is without these tasks.
    """

    point: GridPoint
    tasks: TaskSets
    task_fingerprints: dict[str, str]
    suites: Mapping[str, SuiteTasks]
    leaks: tuple[Leak, ...] = ()

    @property
    def sweep(self) -> Sweep:
        return self.point.sweep

    @cached_property
    def scored(self) -> tuple[Task, ...]:
        """All tasks that must not be trained on, sorted: those of the hold-out and of suites with other tasks.

        Only the hold-out's are what subsets are chosen for: a further suite changes no choice.
        """
        tasks = {task.name: task for suite in self.suites.values() for task in suite.tasks}
        tasks |= {task.name: task for task in self.tasks.test}
        return tuple(tasks[name] for name in sorted(tasks))

    @cached_property
    def pool_by_name(self) -> dict[str, Task]:
        """The tasks of the pool by their names."""
        return {task.name: task for task in self.tasks.pool}

    @cached_property
    def held_in_fingerprints(self) -> dict[str, str]:
        """Of every pool task of which instances are set aside, with these."""
        return {task.name: task_fingerprint(task) for task in self.tasks.held_in}

    @property
    def fingerprint(self) -> str:
        """Of the pool and the test tasks that are used, with their drawn instances."""
        tasks = (*self.tasks.pool, *self.tasks.test)
        return fingerprint(sorted((task.name, self.task_fingerprints[task.name]) for task in tasks))

    @property
    def split(self) -> str:
        """The name of its split where the sweep has several, else empty."""
        return str(dict(self.point.values).get(HOLDOUT, ""))


def open_tasks(
    sweep: Sweep, on_progress: Callable[[int, int], None] = lambda done, total: None, trains: bool = False
) -> list[PointTasks]:
    """Checks the settings of every grid point and reads its tasks, each corpus once.

    Args:
        sweep: what a user wants.
        on_progress: called with tasks read and tasks in all.
        trains: whether models and tokenizers will be needed too.

    Raises:
        UserError: anything wrong with the settings, with what they name on this disk, or with the task files.
    """
    resolve_arms(sweep.selection)
    _check_places(sweep, trains)
    corpora: dict[str, DrawnTasks] = {}
    read: dict[str, tuple[TaskSets, dict[str, str], dict[str, SuiteTasks]]] = {}
    points = []
    for point in grid_points(sweep, on_progress, corpora):
        settings = point.sweep
        policy = settings.leakage.policy
        scored = [suite.model_dump(mode="json") for suite in suites_of(settings)]
        held_in = settings.evaluation.held_in
        key = fingerprint([settings.corpus.model_dump(mode="json"), scored, held_in, policy])
        if key not in read:
            evaluation = settings.evaluation.model_copy(update={"instances_per_task": most_instances(settings)})
            drawn = _drawn_tasks(settings, corpora)
            sets = build_task_sets(settings.corpus, evaluation, on_progress, policy, drawn)
            fingerprints = {task.name: task_fingerprint(task) for task in (*sets.pool, *sets.test)}
            splits = read_suite_splits(settings, sets.pool, drawn)
            suites = read_suites(settings, sets, splits)
            read[key] = (sets.with_records_of(splits.values()), fingerprints, suites)
        points.append(PointTasks(point, *read[key]))
    return points


def with_resolved_encoding(sweep: Sweep) -> Sweep:
    """The same sweep with every setting of its prompt format written out, unless a grid varies the format.

    Raises:
        ConfigError: the format or one of its settings is wrong.
    """
    if "encoding.format" in sweep.grid:
        return sweep
    suites = sweep.evaluation.suites and tuple(
        suite.model_copy(
            update={"encoding": resolve_encoding(suite.encoding, f"{suite_field(sweep, suite.name)}.encoding")}
        )
        if suite.encoding is not None
        else suite
        for suite in sweep.evaluation.suites
    )
    evaluation = sweep.evaluation.model_copy(update={"suites": suites})
    return sweep.model_copy(update={"encoding": resolve_encoding(sweep.encoding), "evaluation": evaluation})


def grid_points(
    sweep: Sweep,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    corpora: dict[str, DrawnTasks] | None = None,
) -> list[GridPoint]:
    """The points of a sweep's grid, of which the splits of a hold-out are an axis, with resolved settings.

    Args:
        sweep: what a user wants.
        on_progress: called with tasks read and tasks in all, where the hold-out needs the tasks.
        corpora: filled with the tasks that were read, for the next who needs them.

    Raises:
        ConfigError: the grid or the prompt format is wrong, or there are too many splits.
        CorpusError: the corpus does not have what the hold-out names.
    """
    corpora = {} if corpora is None else corpora
    points: list[GridPoint] = []
    for point in expand_grid(sweep):
        settings = with_resolved_encoding(point.sweep)
        rule = settings.corpus.holdout
        if not rule.gives_several:
            points.append(replace(point, values=_with_split(sweep, point, split_name(rule)), sweep=settings))
            continue
        for name, single in single_rules(rule, _drawn_tasks(settings, corpora), on_progress).items():
            corpus = settings.corpus.model_copy(update={"holdout": single})
            values = _with_split(sweep, point, name)
            points.append(GridPoint(values, settings.model_copy(update={"corpus": corpus})))
        _refuse_too_many(sweep, len(points))
    return points


def grid_label(values: Sequence[tuple[str, object]], deciding: tuple[str, ...]) -> str:
    """What column `grid` calls a grid point in a table that follows from some of the settings."""
    return ", ".join(f"{key}={value}" for key, value in values if key.startswith(deciding))


def _with_split(sweep: Sweep, point: GridPoint, name: str) -> tuple[tuple[str, object], ...]:
    """The values of a grid point with the name of its split; several rules in one grid differ by their type."""
    rule = point.sweep.corpus.holdout
    if HOLDOUT in sweep.grid:
        return tuple((key, f"{rule.rule}: {name}" if key == HOLDOUT else value) for key, value in point.values)
    return (*point.values, (HOLDOUT, name)) if rule.gives_several else point.values


def _refuse_too_many(sweep: Sweep, num_points: int) -> None:
    """The same limits as for a grid that is written out."""
    each = num_subsets(sweep.selection) + len(sweep.baselines) * len(sweep.selection.seeds)
    if num_points > MOST_GRID_POINTS or num_points * each > MOST_TRIALS:
        raise ConfigError(
            f"{counted(num_points, 'split')} of {counted(each, 'trial')} are more than "
            f"{MOST_GRID_POINTS:,} splits or {MOST_TRIALS:,} trials; list fewer strategies, sizes or seeds, or "
            "name what is to be held out",
            field="corpus.holdout",
        )


def _drawn_tasks(settings: Sweep, corpora: dict[str, DrawnTasks]) -> DrawnTasks:
    corpus, num_test, held_in = settings.corpus, most_instances(settings), settings.evaluation.held_in
    key = fingerprint([corpus.path, corpus.instances_per_task, corpus.seed, num_test, held_in])
    if key not in corpora:
        corpora[key] = DrawnTasks(corpus, num_test, held_in)
    return corpora[key]


def _check_places(sweep: Sweep, trains: bool) -> None:
    """Looks at every folder that the settings name, before the tasks are read, which takes longer."""
    if not is_object_url(sweep.storage):
        check_folder(Path(sweep.storage) / sweep.name, "storage")
    points = expand_grid(sweep)
    for point in points:
        check_metrics(point.sweep)
    if trains:
        check_rouge_tokenizers(point.sweep for point in points)
    for encoder in dict.fromkeys(point.sweep.embedding.encoder for point in points):
        check_encoder(encoder)
    if trains:
        # Each once: a tokenizer's file may take a second.
        for model in {point.sweep.model.model_dump_json(): point.sweep.model for point in points}.values():
            check_model(model)
            check_tokenizer(model)
