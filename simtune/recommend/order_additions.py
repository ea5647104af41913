"""What to collect next: tasks that are not in a pool yet, in the order of what each adds to it.

The order is a strategy's, started from the whole pool: greedy coverage of the target (facility location of the target,
within 1 - 1/e of the best addition; Nemhauser, Wolsey and Fisher 1978) if there is one, else facility location of the
candidates. Every number of a row is computed again from the vectors, with uncentred cosines, as in statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from pydantic import ValidationError

from simtune.config import ArmSettings, SelectionSettings
from simtune.config.problems import error_lines
from simtune.errors import ConfigError, CorpusError
from simtune.graph.similarity import SimilarityGraph
from simtune.recommend.reasons import MIN_GAIN, AddedTask, Recommendation, recommendation_rows
from simtune.recommend.task_vectors import TaskVectors
from simtune.selection.arms import Arm, choose_tasks, resolve_arm
from simtune.selection.objective import Additions, largest_cosine
from simtune.selection.registry import all_strategies
from simtune.wording import counted, nearest, some

WITH_TARGET, WITHOUT_TARGET = "near-target(by=coverage)", "facility-location"
"""The objectives by default."""
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Recommendations:
    """What to add to a pool, and what a reader should know about the answer.

    Attributes:
        pool: where the pool comes from, as it was given.
        num_candidates: candidates that were not in the pool.
        num_target: None without a target.
        notes: sentences about the input.
    """

    pool: str
    num_pool: int
    num_candidates: int
    num_target: int | None
    rows: tuple[Recommendation, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def objective_arm(objective: str | None, has_target: bool) -> Arm:
    """The arm that orders candidates; by default coverage of the target, or facility location without a target.

    Args:
        objective: in the syntax of a sweep file's arms, such as `graph-cut(lambda=0.3)`.
        has_target: whether there is a target.

    Raises:
        ConfigError: it has no marginal gain, needs a target that is missing, or a parameter or an option is wrong.
    """
    text = objective or (WITH_TARGET if has_target else WITHOUT_TARGET)
    try:
        settings = ArmSettings.model_validate(text)
    except ValidationError as error:
        raise ConfigError("\n".join(error_lines(error, ArmSettings, text, lambda path: "--objective"))) from None
    known = [name for name, strategy in all_strategies().items() if strategy.objective]
    if settings.strategy not in known:
        hint = nearest(settings.strategy, known)
        raise ConfigError(
            f"--objective: {settings.strategy!r} is not a strategy that gives each task a gain{hint or '.'} Choose one "
            f"of {', '.join(known)}"
        )
    arm = resolve_arm(settings, SelectionSettings())
    if arm.options.include or arm.options.start:
        raise ConfigError(
            f"--objective: {text}: start and include have no effect here, where the pool comes first; leave them out"
        )
    if arm.strategy.oracle and not has_target:
        raise ConfigError(f"--objective: {text} needs a target; give --target, or choose another objective")
    return arm


def order_additions(
    pool: TaskVectors,
    candidates: TaskVectors,
    target: TaskVectors | None,
    size: int,
    arm: Arm,
    on_progress: OnProgress = lambda done, total: None,
) -> Recommendations:
    """Ranks candidates by what each adds to the pool, best first; ties go to the earlier name.

    Deterministic, and the order of the input has no effect. O((P + C) x D) for each of the P tasks of the pool and each
    rank, with C candidates and D dimensions.

    Args:
        pool: the tasks at hand.
        candidates: tasks to choose from; those that the pool has by name are left out.
        target: tasks to cover, if there are any.
        size: number of tasks to recommend.
        arm: decides the order; see `objective_arm`.
        on_progress: called with the number of tasks chosen and of all to choose.

    Raises:
        CorpusError: every candidate is in the pool already.
        ConfigError: an option of the objective names a task that does not exist.
    """
    check_new(pool.names, candidates.names, pool.location, candidates.location)
    new = candidates.without(pool.names)
    graph = SimilarityGraph.build(
        (*pool.names, *new.names),
        (*pool.categories, *new.categories),
        np.concatenate([pool.vectors_ND, new.vectors_ND]),
        target.vectors_ND if target else None,
        (*pool.sources, *new.sources),
    )
    notes = _notes_on_input(pool, candidates, new, target, size)
    added = _added(graph, arm, [graph.index[name] for name in pool.names], min(size, len(new)), on_progress)
    if added and added[-1].arm is not arm:
        useful = sum(task.arm is arm for task in added)
        notes.append(
            f"after rank {useful} no candidate adds to the coverage of the target; the others are ordered by "
            f"{added[-1].arm.name}"
            if useful
            else f"no candidate adds to the coverage of the target; they are ordered by {added[-1].arm.name}"
        )
    if len(added) < min(size, len(new)):
        notes.append(f"the options of {arm.label} leave {len(added)} of the {counted(min(size, len(new)), 'task')}")
    return Recommendations(
        pool=pool.location,
        num_pool=len(pool),
        num_candidates=len(new),
        num_target=len(target) if target else None,
        rows=recommendation_rows(pool, new, target, added),
        notes=tuple(notes),
    )


def check_new(pool: Sequence[str], candidates: Sequence[str], pool_location: str, location: str) -> set[str]:
    """Finds the names of candidates that the pool does not have.

    Args:
        pool: names of the pool's tasks.
        candidates: names of the candidates.
        pool_location: where the pool comes from, for the error.
        location: where the candidates come from, for the error.

    Raises:
        CorpusError: there is none.
    """
    new = set(candidates) - set(pool)
    if not new:
        raise CorpusError(
            f"--candidates {location}: nothing new: its {counted(len(candidates), 'task is', 'tasks are')} already in "
            f"{pool_location}; give candidates that the pool does not have"
        )
    return new


def _notes_on_input(
    pool: TaskVectors, candidates: TaskVectors, new: TaskVectors, target: TaskVectors | None, size: int
) -> list[str]:
    notes = [note for part in (pool, candidates, target) if part for note in part.notes]
    if left_out := len(candidates) - len(new):
        notes.append(f"{left_out} of {counted(len(candidates), 'candidate')} left out: already in the pool")
    if target and (both := sorted(set(new.names) & set(target.names))):
        notes.append(f"{counted(len(both), 'candidate is', 'candidates are')} also in the target ({some(both)})")
    if target and (not_improved := _not_improved(pool, new, target)):
        notes.append(
            f"for {len(not_improved)} of {counted(len(target), 'target task')} no candidate is more similar than the "
            f"pool: {some(not_improved)}"
        )
    if size > len(new):
        notes.append(f"{counted(size, 'task')} requested, {len(new)} available")
    return notes


def _not_improved(pool: TaskVectors, new: TaskVectors, target: TaskVectors) -> list[str]:
    """Target tasks that all candidates together would not cover better: tasks like these are still to be written."""
    gain_T = largest_cosine(target.unit_ND, new.unit_ND) - largest_cosine(target.unit_ND, pool.unit_ND)
    return [target.names[row] for row in np.flatnonzero(gain_T <= MIN_GAIN)]


def _added(
    graph: SimilarityGraph, arm: Arm, pool: Sequence[int], size: int, on_progress: OnProgress
) -> list[AddedTask]:
    """The next tasks of an arm's order after the pool; once the target is covered, those of facility location."""
    added = _next_tasks(graph, arm, pool, size, on_progress)
    if not arm.objective.covers_target(arm.parameters):
        return added
    num_target = len(graph.test_vectors_TD)
    useful = next((rank for rank, task in enumerate(added) if task.gain * num_target <= MIN_GAIN), len(added))
    if useful < len(added):
        fallback = replace(objective_arm(WITHOUT_TARGET, has_target=True), options=arm.options)
        given = [*pool, *(graph.index[task.name] for task in added[:useful])]
        added = added[:useful] + _next_tasks(graph, fallback, given, size - useful, on_progress)
    return added


def _next_tasks(
    graph: SimilarityGraph, arm: Arm, given: Sequence[int], size: int, on_progress: OnProgress
) -> list[AddedTask]:
    """The next tasks of an arm's order after those given, with their gains."""
    on_progress(0, size)
    num_chosen = -len(given)

    def on_take() -> None:
        nonlocal num_chosen
        num_chosen += 1
        if num_chosen >= 0:
            on_progress(num_chosen, size)

    options = arm.options.model_copy(update={"include": tuple(graph.names[row] for row in given)})
    total = len(given) + size
    rows = choose_tasks(replace(arm, options=options), graph, [total], 0, on_take)[total][len(given) :]
    compared = graph.centred if arm.options.cosine == "centred" else graph
    additions = Additions.from_graph(compared, given, rows, arm.parameters)
    gains = arm.objective.gains(additions)
    return [AddedTask(graph.names[row], arm, gain) for row, gain in zip(rows, gains, strict=True)]
