"""What a sweep will cost before anything runs: its trials, in examples, tokens and steps. Needs neither ray nor torch.

Which tasks a strategy will choose is not known before the embeddings are, so a subset's examples and tokens are the
pool's mean times its number of tasks; the whole pool and the number of trials are exact. Lengths are measured on a
few instances of each task.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from simtune.config import Sweep
from simtune.config.settings import accumulation_steps
from simtune.executors.placement import describe_placement, describe_threads
from simtune.planning.disk_estimate import DiskNeed, PointDisk, disk_need, point_disk
from simtune.planning.expected_lengths import ExpectedLengths, measure_lengths, measuring_tokenizer
from simtune.progress import Display, Quiet
from simtune.prompting.tokenizer import TextTokenizer
from simtune.selection.strategies.listed_tasks import skipped_note
from simtune.selection.subsets import arms_and_sizes, resolve_arms, short_note, size_note
from simtune.sweep.earlier_models import models_to_retrain
from simtune.sweep.grid_points import PointTasks, open_tasks
from simtune.sweep.leak_guard import find_text_leaks, guard_leaks, leaks_line
from simtune.sweep.memory_estimate import MemoryNeed, largest_need, memory_need
from simtune.sweep.missing_trials import unsaved_note
from simtune.sweep.mixtures import mixture_of, no_example_note
from simtune.training.batch_order import expected_steps
from simtune.wording import counted

if TYPE_CHECKING:
    from simtune.tables import TextTable


@dataclass(frozen=True)
class PlannedTrial:
    """The expected cost of one trial.

    Attributes:
        size: number of tasks asked for; None for baselines.
        num_examples: training examples, each read `epochs` times.
        train_tokens: source and target tokens read in training over all epochs, padding not counted.
        test_instances: of all suites.
        test_tokens: source tokens read in all suites.
    """

    grid: str
    arm: str
    size: int | None
    num_tasks: int
    seed: int | None
    num_examples: int
    num_steps: int
    train_tokens: int
    test_instances: int
    test_tokens: int
    note: str


@dataclass(frozen=True)
class Plan:
    """All trials of a sweep.

    Attributes:
        tokens_are: how lengths were found.
        effective_batch: examples an optimizer step, and how they come together.
        placement: how trials will lie on GPUs, and how many threads a worker has.
        leaks: near-duplicates of held-out tasks by their texts, and what becomes of them; embeddings may show more.
        disk: bytes that it needs of its storage.
        memory: of a worker, at the grid point that needs most; None if no model is on this disk or known.
        retraining: trained models that lack scores and whose weights were not saved; empty where there are none.
    """

    trials: tuple[PlannedTrial, ...]
    pool_tasks: int
    test_tasks: int
    dropped_tasks: int
    num_splits: int
    tokens_are: str
    effective_batch: str
    placement: str
    leaks: str
    disk: DiskNeed
    memory: MemoryNeed | None
    retraining: str

    def to_dict(self) -> dict[str, Any]:
        totals = {
            "trials": len(self.trials),
            "num_steps": sum(trial.num_steps for trial in self.trials),
            "train_tokens": sum(trial.train_tokens for trial in self.trials),
            "test_tokens": sum(trial.test_tokens for trial in self.trials),
        }
        memory = self.memory.to_dict() if self.memory else None
        return {**asdict(self), "memory": memory, "totals": totals}


def plan_sweep(sweep: Sweep, display: Display | None = None) -> Plan:
    """Plans a sweep without running any of it.

    Args:
        sweep: what a user wants.
        display: where progress is shown; None shows nothing.

    Raises:
        UserError: wrong settings or task files.
    """
    display = display or Quiet()
    with display.stage("read tasks") as on_progress:
        read = open_tasks(sweep, on_progress, trains=True)
    # Which leaks there are is a line of the plan.
    points = guard_leaks(read, find_text_leaks(read, display), Quiet())
    with display.stage("measure lengths") as on_progress:
        trials, disks, needs, described = _plan_points(points, on_progress)
    first = points[0]
    return Plan(
        trials=tuple(trials),
        pool_tasks=len(first.tasks.pool),
        test_tasks=len(first.tasks.test),
        dropped_tasks=len(first.tasks.dropped),
        tokens_are=described,
        num_splits=len({point.split for point in points}),
        effective_batch=_effective_batch(sweep),
        placement=f"{describe_placement(sweep.resources)}. {describe_threads(sweep.resources)}",
        leaks=leaks_line(first),
        # What leaks is embedded too.
        disk=disk_need(sweep, disks, sum(len(point.tasks.pool) + len(point.scored) for point in read)),
        memory=largest_need(needs),
        retraining=unsaved_note(models_to_retrain(points)),
    )


def _plan_points(
    tasks_by_point: Sequence[PointTasks], on_progress: Callable[[int, int], None]
) -> tuple[list[PlannedTrial], list[PointDisk], list[MemoryNeed | None], str]:
    """All trials, the disk and the memory of each grid point, and how lengths were found."""
    trials: list[PlannedTrial] = []
    seen: set[str] = set()
    disks: list[PointDisk] = []
    needs: list[MemoryNeed | None] = []
    described = ""
    total = sum(len(prepared.tasks.pool) + len(prepared.scored) for prepared in tasks_by_point)
    measured = itertools.count()
    for prepared in tasks_by_point:
        tokenizer, described = measuring_tokenizer(prepared)
        tasks = (*prepared.tasks.pool, *prepared.scored)
        training = prepared.sweep.training
        lengths = measure_lengths(
            tasks, prepared.sweep.encoding, training, tokenizer, lambda: on_progress(next(measured), total)
        )
        planned = _plan_point(prepared, lengths, _test_tokens(prepared, lengths, tokenizer))
        need = memory_need(prepared.sweep, tokenizer.vocab_size if tokenizer else None)
        needs.append(need)
        disks.append(_disk(prepared, planned, lengths, need.num_parameters if need else None))
        for trial in planned:
            # Baselines that a grid does not touch would repeat at each of its points.
            key = f"{prepared.split} {trial.arm} {trial.seed} {trial.test_tokens}"
            if trial.size is not None or key not in seen:
                trials.append(trial)
            seen.add(key)
    on_progress(total, total)
    return trials, disks, needs, described


def _tokens(number: float, noun: str) -> str:
    millions = f"{number / 1e6:,.1f} M"
    return f"{millions} {noun}s" if number >= 1e6 else counted(round(number), noun)


def plan_table(plan: Plan) -> TextTable:
    """The plan for a terminal, seeds of an arm and size on one line."""
    from simtune.tables import TextTable

    totals = plan.to_dict()["totals"]
    table = TextTable(
        title=f"{counted(totals['trials'], 'trial')}; "
        + (f"{counted(plan.num_splits, 'split')}, of the first: " if plan.num_splits > 1 else "")
        + f"{counted(plan.pool_tasks, 'task')} in the pool, "
        f"{plan.test_tasks} held out, "
        f"{plan.dropped_tasks} dropped",
        caption=f"{counted(totals['num_steps'], 'step')}, {_tokens(totals['train_tokens'], 'training token')}, "
        f"{_tokens(totals['test_tokens'], 'test token')}. Tokens: {plan.tokens_are}. "
        f"Effective batch {plan.effective_batch}. {plan.placement}."
        + (f" {plan.leaks}." if plan.leaks else "")
        + f" {plan.disk}."
        + (f" {plan.memory}." if plan.memory else "")
        + (f" {plan.retraining}." if plan.retraining else ""),
    )
    with_grid = any(trial.grid for trial in plan.trials)
    table.add_columns(*(("grid",) if with_grid else ()), "arm")
    table.add_number_columns("tasks", "seeds", "examples", "steps", "train tokens", "test tokens")
    table.add_columns("note")
    groups: dict[tuple[str, str, int | None], list[PlannedTrial]] = {}
    for trial in plan.trials:
        groups.setdefault((trial.grid, trial.arm, trial.size), []).append(trial)
    for (grid, arm, _), trials in groups.items():
        first = trials[0]
        seeds = ", ".join(str(trial.seed) for trial in trials if trial.seed is not None)
        numbers = (first.num_examples, first.num_steps, first.train_tokens, first.test_tokens)
        table.add_row(
            *((grid,) if with_grid else ()),
            arm,
            str(first.num_tasks),
            seeds,
            *(f"{number:,}" for number in numbers),
            first.note,
        )
    return table


def _effective_batch(sweep: Sweep) -> str:
    training, workers, steps = sweep.training, sweep.resources.workers, accumulation_steps(sweep)
    micro_batches = counted(steps, "micro-batch", "micro-batches")
    if training.tokens_per_batch is not None:
        return (
            f"{counted(training.tokens_per_batch, 'source token')} over {counted(workers, 'worker')} x {micro_batches}"
        )
    micro_batch = counted(training.batch_size // (workers * steps), "example")
    return f"{training.batch_size} = {counted(workers, 'worker')} x {micro_batch} x {micro_batches}"


def _test_tokens(prepared: PointTasks, known: ExpectedLengths, tokenizer: TextTokenizer | None) -> int:
    """Source tokens that a model reads in all suites; `known` are the lengths with the training's encoding."""
    tokens = 0.0
    for suite in prepared.suites.values():
        lengths = known
        if suite.suite.encoding != prepared.sweep.encoding:
            lengths = measure_lengths(suite.tasks, suite.suite.encoding, prepared.sweep.training, tokenizer)
        tokens += sum(lengths.source[task.name] * len(task.instances) for task in suite.tasks)
    return round(tokens)


def _plan_point(prepared: PointTasks, lengths: ExpectedLengths, test_tokens: int) -> list[PlannedTrial]:
    sweep, pool = prepared.sweep, prepared.tasks.pool
    test_instances = sum(len(task.instances) for suite in prepared.suites.values() for task in suite.tasks)
    counts = {name: share.num_examples for name, share in mixture_of(pool, sweep).items()}
    pool_examples = sum(counts.values())
    mean_source_tokens = sum(lengths.source[name] * count for name, count in counts.items()) / pool_examples
    pool_tokens = sum((lengths.source[name] + lengths.target[name]) * count for name, count in counts.items())

    def planned(arm: str, size: int | None, num_tasks: int, seed: int | None, note: str, reads: bool) -> PlannedTrial:
        fixed = num_tasks and sweep.mixture.examples_per_epoch
        share = 1.0 if fixed else num_tasks / len(pool)
        num_examples = round(pool_examples * share)
        whole = num_tasks == len(pool)
        num_without = sum(not count for count in counts.values()) if whole else max(0, num_tasks - num_examples)
        notes = (note, no_example_note(num_without, num_tasks, at_least=not whole))
        return PlannedTrial(
            grid=prepared.point.label,
            arm=arm,
            size=size,
            num_tasks=num_tasks,
            seed=seed,
            num_examples=num_examples,
            num_steps=expected_steps(num_examples, mean_source_tokens, sweep.training),
            train_tokens=round(pool_tokens * share * sweep.training.epochs),
            test_instances=test_instances,
            test_tokens=test_tokens if reads else 0,
            note="; ".join(filter(None, notes)),
        )

    trials = []
    for baseline in sweep.baselines:
        seeded = baseline == "untuned" and sweep.model.init == "random"
        for seed in sweep.selection.seeds if seeded else (None,):
            trials.append(planned(baseline, None, 0, seed, "", baseline == "untuned"))
    lists = _lists(prepared)
    for arm, size in arms_and_sizes(sweep.selection, len(pool)):
        num_listed, skipped = lists.get(arm, (len(pool), ""))
        num_tasks = min(size, num_listed)
        note = short_note(arm, size, num_tasks) if num_tasks < min(size, len(pool)) else size_note(arm, size, len(pool))
        note = "; ".join(filter(None, (note, skipped)))
        for seed in sweep.selection.seeds:
            trials.append(planned(arm, size, num_tasks, seed, note, True))
    return trials


def _lists(prepared: PointTasks) -> dict[str, tuple[int, str]]:
    """For each arm that is a list: how many tasks it can give, and the warning for names that are skipped."""
    pool = {task.name for task in prepared.tasks.pool}
    return {
        arm.label: (
            len(pool.intersection(arm.parameters["names"]).union(arm.options.include).difference(arm.options.exclude)),
            skipped_note(arm.label, arm.parameters, pool, prepared.tasks.why_absent),
        )
        for arm in resolve_arms(prepared.sweep.selection)
        if arm.strategy.names_tasks
    }


def _disk(
    prepared: PointTasks, trials: Sequence[PlannedTrial], lengths: ExpectedLengths, num_parameters: int | None
) -> PointDisk:
    scored = [task for suite in prepared.suites.values() for task in suite.tasks]
    tasks = (*prepared.tasks.pool, *scored)
    num_tokens = sum(
        lengths.source[task.name] * len(task.instances)
        + lengths.target[task.name] * sum(len(instance.outputs) for instance in task.instances)
        for task in tasks
    )
    return point_disk(
        prepared.sweep,
        scored,
        [trial.num_steps for trial in trials if trial.num_tasks],
        len(trials),
        round(num_tokens),
        num_parameters,
    )
