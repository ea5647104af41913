"""What to collect next: tasks that are not in a pool yet, in the order of what each adds to it.

The order is a strategy's, started from the whole pool: greedy coverage of the target (facility location of the
target, 1 - 1/e of the best addition; Nemhauser, Wolsey and Fisher 1978) where one is given, else facility location of
the candidates. Every number of a row is computed anew from the vectors, and cosines are uncentred, as in statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from pydantic import ValidationError

from simtune.config import ArmSettings, SelectionSettings
from simtune.config.problems import described
from simtune.errors import ConfigError, CorpusError
from simtune.graph.similarity import SimilarityGraph
from simtune.recommend.reasons import NO_RISE, Recommendation, explained_rows
from simtune.recommend.task_vectors import TaskVectors
from simtune.selection.arms import Arm, orders, resolve_arm
from simtune.selection.objective import Additions, largest_cosine
from simtune.selection.registry import all_strategies
from simtune.wording import counted, nearest, some

COVERAGE = "near-target(by=coverage)"
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Recommendations:
    """What to add to a pool, and what a reader should know about the answer.

    Attributes:
        num_candidates: of those that were not in the pool.
    """

    pool: str
    num_pool: int
    num_candidates: int
    num_target: int | None
    rows: tuple[Recommendation, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def objective_arm(objective: str | None, has_target: bool) -> Arm:
    """The arm that orders candidates; by default coverage where there is a target, else facility location.

    Args:
        objective: in the syntax of a sweep file's arms, such as `graph-cut(lambda=0.3)`.
        has_target: whether there is a target.

    Raises:
        ConfigError: it has no marginal gain, needs a target that is not there, or a parameter or an option is wrong.
    """
    text = objective or (COVERAGE if has_target else "facility-location")
    try:
        settings = ArmSettings.model_validate(text)
    except ValidationError as error:
        raise ConfigError("\n".join(described(error, ArmSettings, text, lambda path: "--objective"))) from None
    with_gains = [name for name, strategy in all_strategies().items() if strategy.objective is not None]
    if settings.strategy not in with_gains:
        hint = nearest(settings.strategy, with_gains)
        known = ", ".join(with_gains)
        raise ConfigError(f"--objective: {settings.strategy!r} has no gain a task{hint or '.'} Choose one of {known}")
    arm = resolve_arm(settings, SelectionSettings())
    if arm.options.include or arm.options.start:
        raise ConfigError(f"--objective: {text}: start and include are the pool's here; leave them out")
    if arm.strategy.oracle and not has_target:
        raise ConfigError(f"--objective: {text} needs a target; give --target, or choose another objective")
    return arm


def recommend(
    pool: TaskVectors,
    candidates: TaskVectors,
    target: TaskVectors | None,
    size: int,
    arm: Arm,
    on_progress: OnProgress = lambda done, total: None,
) -> Recommendations:
    """Ranks candidates by what each adds to the pool, in their best order; ties go to the earlier name.

    Deterministic, whatever the order of the input. O((P + C) x D) for each of the pool's P tasks and of the ranks.

    Raises:
        CorpusError: every candidate is in the pool already.
        ConfigError: an option of the objective names a task that is not there.
    """
    check_new(pool.names, candidates.names, pool.place, candidates.place)
    new = candidates.without(pool.names)
    graph = SimilarityGraph.build(
        (*pool.names, *new.names),
        (*pool.categories, *new.categories),
        np.concatenate([pool.vectors_ND, new.vectors_ND]),
        target.vectors_ND if target else None,
        (*pool.sources, *new.sources),
    )
    notes = _notes_on_input(pool, candidates, new, target, size)
    wanted = min(size, len(new))
    given = [graph.index[name] for name in pool.names]
    chosen = _next(graph, arm, given, wanted, on_progress)
    gains = _gains(graph, arm, given, chosen)
    by = [(arm, gain) for gain in gains]
    if arm.objective.covers_target(arm.parameters) and target is not None:
        useful = next((rank for rank, gain in enumerate(gains) if gain * len(target) <= NO_RISE), len(gains))
        if useful < wanted and len(chosen) > useful:
            fallback = replace(objective_arm("facility-location", True), options=arm.options)
            done = given + chosen[:useful]
            rest = _next(graph, fallback, done, wanted - useful, on_progress)
            by = by[:useful] + [(fallback, gain) for gain in _gains(graph, fallback, done, rest)]
            chosen = chosen[:useful] + rest
            notes.append(
                f"after rank {useful} no candidate adds to the coverage of the target; the others follow by "
                "facility location"
                if useful
                else "no candidate adds to the coverage of the target; they are ordered by facility location"
            )
    if len(chosen) < wanted:
        notes.append(f"the options of {arm.label} leave {len(chosen)} of {counted(wanted, 'task')} asked for")
    names = [graph.names[place] for place in chosen]
    rows = explained_rows(pool, new, target, names, by)
    return Recommendations(pool.place, len(pool), len(new), len(target) if target else None, rows, tuple(notes))


def check_new(pool: Sequence[str], candidates: Sequence[str], pool_place: str, candidates_place: str) -> set[str]:
    """The names of candidates that the pool does not have.

    Raises:
        CorpusError: there is none.
    """
    new = set(candidates) - set(pool)
    if not new:
        raise CorpusError(
            f"--candidates {candidates_place}: nothing new: its {counted(len(candidates), 'task is', 'tasks are')} "
            f"in {pool_place} already"
        )
    return new


def _notes_on_input(
    pool: TaskVectors, candidates: TaskVectors, new: TaskVectors, target: TaskVectors | None, size: int
) -> list[str]:
    notes = [note for part in (pool, candidates, target) if part for note in part.notes]
    if left_out := len(candidates) - len(new):
        notes.append(f"{left_out} of {counted(len(candidates), 'candidate')} left out: in the pool already")
    if target and (both := sorted(set(new.names) & set(target.names))):
        notes.append(f"{counted(len(both), 'candidate is', 'candidates are')} also in the target ({some(both)})")
    if target and (unmoved := _unmoved(pool, new, target)):
        notes.append(
            f"no candidate is nearer to {len(unmoved)} of {counted(len(target), 'target task')} than the pool: "
            f"{some(unmoved)}"
        )
    if size > len(new):
        notes.append(f"{counted(size, 'task')} asked for, available: {len(new)}")
    return notes


def _unmoved(pool: TaskVectors, new: TaskVectors, target: TaskVectors) -> list[str]:
    """Target tasks that all candidates together would not bring nearer: what is still to be written."""
    rise_T = largest_cosine(target.unit_ND, new.unit_ND) - largest_cosine(target.unit_ND, pool.unit_ND)
    return [target.names[place] for place in np.flatnonzero(rise_T <= NO_RISE)]


def _next(graph: SimilarityGraph, arm: Arm, given: Sequence[int], size: int, on_progress: OnProgress) -> list[int]:
    """The next tasks of an arm's order after those given."""
    on_progress(0, size)
    taken = -len(given)

    def on_take() -> None:
        nonlocal taken
        taken += 1
        if taken >= 0:
            on_progress(taken, size)

    options = arm.options.model_copy(update={"include": tuple(graph.names[place] for place in given)})
    total = len(given) + size
    return orders(replace(arm, options=options), graph, [total], 0, on_take)[total][len(given) :]


def _gains(graph: SimilarityGraph, arm: Arm, given: Sequence[int], added: Sequence[int]) -> list[float]:
    if arm.options.cosine == "centred":
        graph = graph.centred
    return list(arm.objective.gains(Additions.from_graph(graph, given, added, arm.parameters)))
