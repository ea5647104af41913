"""What a sweep will cost before anything runs: its trials, in examples, tokens and steps.

Needs no ray, and torch only to check folders of models and encoders, and a tokenizer that has no tokenizer.json.

Trials that the sweep's run has are in the plan as done, and what is left is counted by itself.

Which tasks a strategy will choose is not known before the embeddings are, so a subset's examples and tokens are the
pool's mean times its number of tasks; the whole pool and the number of trials are exact. Lengths are measured on a
few instances of each task.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from simtune.config import Sweep
from simtune.config.settings import accumulation_steps
from simtune.embedding.encoder import check_loaded_encoder
from simtune.errors import ModelError, RunError, StoreError
from simtune.executors.placement import describe_placement, describe_threads
from simtune.grid.grid_points import PointTasks, open_tasks
from simtune.grid.leak_guard import find_text_leaks, guard_leaks, leaks_line
from simtune.planning.disk_estimate import DiskNeed, PointDisk, disk_need, point_disk
from simtune.planning.earlier_trials import EarlierRun, TrialState
from simtune.planning.expected_lengths import ExpectedLengths, LengthsOfPoints
from simtune.planning.planned_trials import (
    PlannedTrial,
    answers_of,
    baseline_key,
    in_state,
    key_of,
    left_of,
    plan_point,
    totals,
)
from simtune.progress import Display, Quiet
from simtune.storage.object_store import is_object_url
from simtune.storage.output_path import check_writable
from simtune.sweep.memory_estimate import MemoryNeed, largest_need, memory_need
from simtune.sweep.missing_trials import UnsavedModel, unsaved_note
from simtune.trial.files import several_damaged
from simtune.wording import counted


@dataclass(frozen=True)
class Plan:
    """All trials of a sweep.

    Attributes:
        tokens_are: how lengths were found.
        effective_batch: examples an optimizer step, and how they come together.
        placement: how trials will lie on GPUs, and how many threads a worker has.
        leaks: near-duplicates of held-out tasks by their texts, and what becomes of them; embeddings may show more.
        disk: bytes that what is left needs of its storage.
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

    @property
    def left(self) -> tuple[PlannedTrial, ...]:
        """The trials that a run would start now, each with the costs of what is left of it."""
        return tuple(left_of(self.trials))

    def to_dict(self) -> dict[str, Any]:
        memory = self.memory.to_dict() if self.memory else None
        return {**asdict(self), "memory": memory, "totals": totals(self.trials), "left": totals(self.left)}


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
    for encoder in dict.fromkeys(point.sweep.embedding.encoder for point in read):
        check_loaded_encoder(encoder)
    _warn_if_unwritable(sweep, display)
    # Which leaks there are is a line of the plan.
    points = guard_leaks(read, find_text_leaks(read, display), Quiet())
    earlier = _earlier_run(sweep, display)
    with display.stage("measure lengths") as on_progress:
        trials, unsaved, disks, needs, described = _plan_points(points, earlier, display, on_progress)
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
        retraining=unsaved_note(unsaved),
    )


def _warn_if_unwritable(sweep: Sweep, display: Display) -> None:
    """Warns of a folder in which a run could not write; it may be there on the machine that will run the sweep."""
    if is_object_url(sweep.storage):
        return
    try:
        check_writable(Path(sweep.storage).absolute(), "--storage")
    except RunError as error:
        display.warn(f"`simtune run` will refuse to start here: {error}")


def _earlier_run(sweep: Sweep, display: Display) -> EarlierRun | None:
    with _unknown_if_unreadable(display):
        return EarlierRun.read(sweep)
    return None


@contextmanager
def _unknown_if_unreadable(display: Display) -> Iterator[None]:
    """Goes on without what there is already, if that cannot be read now."""
    try:
        yield
    except (RunError, StoreError, ModelError) as error:
        display.warn(f"cannot tell which trials are done, so all of them are planned ({error})")


def _plan_points(
    tasks_by_point: Sequence[PointTasks],
    earlier: EarlierRun | None,
    display: Display,
    on_progress: Callable[[int, int], None],
) -> tuple[list[PlannedTrial], list[UnsavedModel], list[PointDisk], list[MemoryNeed | None], str]:
    """All trials, unsaved models, the disk and the memory of each grid point, and how lengths were found."""
    trials: dict[str, PlannedTrial] = {}
    unsaved: dict[str, UnsavedModel] = {}
    disks: list[PointDisk] = []
    needs: list[MemoryNeed | None] = []
    described = ""
    total = sum(len(prepared.tasks.pool) + len(prepared.scored) for prepared in tasks_by_point)
    done, measured, problems, doubts = itertools.count(), LengthsOfPoints(), dict[str, None](), dict[str, None]()
    for prepared in tasks_by_point:
        tokenizer, described = measured.tokenizer(prepared)
        tasks = (*prepared.tasks.pool, *prepared.scored)
        training = prepared.sweep.training
        lengths = measured.measure(
            tasks, prepared.sweep.encoding, training, tokenizer, lambda: on_progress(next(done), total)
        )
        answers = answers_of(prepared, lengths, measured)
        planned = plan_point(prepared, lengths, answers)
        states: list[TrialState] = []
        if earlier is not None:
            with _unknown_if_unreadable(display):
                states = earlier.states(prepared, [key_of(trial) for trial in planned])
        if states:
            planned = [in_state(trial, state, answers) for trial, state in zip(planned, states, strict=True)]
            unsaved |= {state.unsaved.trial: state.unsaved for state in states if state.unsaved}
            problems |= dict.fromkeys(problem for state in states for problem in state.problems)
            doubts |= dict.fromkeys(state.doubt for state in states if state.doubt)
        need = memory_need(prepared.sweep, tokenizer.vocab_size if tokenizer else None)
        needs.append(need)
        disks.append(_disk(prepared, planned, lengths, need.num_parameters if need else None))
        for trial in planned:
            # Baselines that a grid does not touch would repeat at each of its points.
            key = baseline_key(prepared, trial) if trial.size is None else str(len(trials))
            trials.setdefault(key, trial)
    on_progress(total, total)
    if doubts:
        display.warn(f"planned as missing, though `simtune run` may find it done: {several_damaged(list(doubts))}")
    if problems:
        display.warn(f"`simtune run` will refuse to start: {several_damaged(list(problems))}")
    return list(trials.values()), list(unsaved.values()), disks, needs, described


def _effective_batch(sweep: Sweep) -> str:
    training, workers, steps = sweep.training, sweep.resources.workers, accumulation_steps(sweep)
    micro_batches = counted(steps, "micro-batch", "micro-batches")
    if training.tokens_per_batch is not None:
        return (
            f"{counted(training.tokens_per_batch, 'source token')} over {counted(workers, 'worker')} x {micro_batches}"
        )
    micro_batch = counted(training.batch_size // (workers * steps), "example")
    return f"{training.batch_size} = {counted(workers, 'worker')} x {micro_batch} x {micro_batches}"


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
    left = list(left_of(trials))
    return point_disk(
        prepared.sweep,
        scored,
        [trial.num_steps for trial in left if trial.num_steps],
        len(left),
        round(num_tokens),
        num_parameters,
    )
