"""Why a task is worth adding: what it brings nearer, what it is like, and a sentence that says so.

Cosines are uncentred, whatever the objective compared, so that rows of all objectives can be held side by side; a
coverage counts negative ones as zero, as greedy coverage does.

Legend: M tasks of some kind, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simtune.config.selection import ORACLE_MARK
from simtune.recommend.task_vectors import TaskVectors
from simtune.selection.arms import Arm
from simtune.selection.objective import largest_cosine
from simtune.wording import counted

NEAR_DUPLICATE = 0.95
"""Cosine from which two tasks are near-duplicates, as in `leakage.max_similarity`."""
MOST_HELPED = 3
"""Tasks of the target that a row names."""
NO_RISE = 1e-9
"""What is below is rounding; `near-target` stops at the same sum."""
# Words only, of the cosine as it is printed: no number depends on them.
_CLOSE, _ALIKE = 0.7, 0.4
# What is beyond differs between machines.
_DIGITS = 9


@dataclass(frozen=True)
class Rise:
    """A task that a new one brings nearer: its largest cosine to the set, before and after."""

    task: str
    before: float
    after: float


@dataclass(frozen=True)
class Recommendation:
    """One task to add, after those of the ranks before it.

    Attributes:
        objective: the arm that chose it.
        gain: what it adds to the objective.
        unit: of the gain.
        coverage_before: mean over the target of the largest cosine to the pool and the ranks before, negative ones
            counting as zero; None without a target.
        coverage_after: the same with this task.
        num_helped: tasks of the target that it brings nearer; None without a target.
        helped: those it helps most, largest rise first.
        nearest: the pool's task most like it.
        nearest_cosine: to that task.
        near_duplicate: whether that is `NEAR_DUPLICATE` or more.
        why: all of it in a sentence.
    """

    rank: int
    task: str
    category: str
    objective: str
    gain: float
    unit: str
    coverage_before: float | None
    coverage_after: float | None
    coverage_gain: float | None
    num_helped: int | None
    helped: tuple[Rise, ...]
    nearest: str
    nearest_cosine: float
    near_duplicate: bool
    why: str


def explained_rows(
    pool: TaskVectors,
    new: TaskVectors,
    target: TaskVectors | None,
    names: Sequence[str],
    by: Sequence[tuple[Arm, float]],
) -> tuple[Recommendation, ...]:
    """A row for each task added, in order, with everything that can be said about it.

    Args:
        pool: the set at the start.
        new: candidates that are not in it.
        target: tasks to cover, if there are any.
        names: the tasks added.
        by: of each the arm that chose it and its gain.
    """
    place_of = {name: place for place, name in enumerate(new.names)}
    covered = _Covered(target, pool) if target else None
    represents = any(arm.objective.represents_candidates for arm, _ in by)
    represented = _Covered(new, pool) if represents else None
    earlier: list[int] = []
    centred = " (centred cosines)"
    rows: list[Recommendation] = []
    for name, (arm, gain) in zip(names, by, strict=True):
        place = place_of[name]
        vector_D = new.unit_ND[place]
        like, cosine = _most_like(pool.names, pool.unit_ND @ vector_D)
        reasons = [_novelty(like, cosine)]
        if earlier:
            twin, twin_cosine = _most_like(range(len(earlier)), new.unit_ND[earlier] @ vector_D)
            if twin_cosine >= max(NEAR_DUPLICATE, cosine):
                reasons.append(f"a near-duplicate of rank {twin + 1} ({twin_cosine:.2f})")
        before = covered.mean if covered else None
        num_helped, helped = covered.add(vector_D) if covered else (None, ())
        after = covered.mean if covered else None
        if num_helped is not None:
            reasons.append(_help("raises the coverage of", num_helped, "target task", "most of", helped))
        if represented:
            num_like, likened = represented.add(vector_D, leave_out=name)
            if arm.objective.represents_candidates:
                reasons.append(_help("stands for", num_like, "other candidate", "best for", likened))
        earlier.append(place)
        rows.append(
            Recommendation(
                rank=len(rows) + 1,
                task=name,
                category=new.categories[place],
                objective=arm.label.removesuffix(ORACLE_MARK),
                gain=_rounded(gain),
                unit=arm.objective.unit_with(arm.parameters) + centred * (arm.options.cosine == "centred"),
                coverage_before=None if before is None else _rounded(before),
                coverage_after=None if after is None else _rounded(after),
                coverage_gain=None if before is None or after is None else _rounded(after - before),
                num_helped=num_helped,
                helped=helped,
                nearest=like,
                nearest_cosine=_rounded(cosine),
                near_duplicate=cosine >= NEAR_DUPLICATE,
                why="; ".join(reasons),
            )
        )
    return tuple(rows)


class _Covered:
    """How near each of some tasks is to a growing set: its largest cosine to it, negative ones counting as zero."""

    def __init__(self, tasks: TaskVectors, pool: TaskVectors) -> None:
        self._tasks = tasks
        self._nearest_M = largest_cosine(tasks.unit_ND, pool.unit_ND)

    @property
    def mean(self) -> float:
        return float(self._nearest_M.mean())

    def add(self, vector_D: np.ndarray, leave_out: str = "") -> tuple[int, tuple[Rise, ...]]:
        """Adds a task: how many rise, and those that rise most; ties by name, and one name may be left out."""
        before_M = self._nearest_M
        self._nearest_M = np.maximum(before_M, (self._tasks.unit_ND @ vector_D).clip(max=1.0))
        rise_M = self._nearest_M - before_M
        risen = [
            place
            for place in np.argsort(-np.round(rise_M, _DIGITS), kind="stable").tolist()
            if rise_M[place] > NO_RISE and self._tasks.names[place] != leave_out
        ]
        most = tuple(
            Rise(self._tasks.names[place], _rounded(before_M[place]), _rounded(self._nearest_M[place]))
            for place in risen[:MOST_HELPED]
        )
        return len(risen), most


def _most_like(names: Sequence[Any], cosine_M: np.ndarray) -> tuple[Any, float]:
    place = int(np.argmax(np.round(cosine_M, _DIGITS)))
    return names[place], float(cosine_M[place].clip(-1.0, 1.0))


def _novelty(like: str, cosine: float) -> str:
    if cosine >= NEAR_DUPLICATE:
        return f"a near-duplicate of {like} in the pool ({cosine:.2f})"
    if round(cosine, 2) >= _CLOSE:
        return f"close to {like} in the pool ({cosine:.2f})"
    if round(cosine, 2) >= _ALIKE:
        return f"somewhat like {like} in the pool ({cosine:.2f})"
    return f"nothing in the pool is like it (nearest {like}, {cosine:.2f})"


def _help(verb: str, number: int, noun: str, most: str, rises: Sequence[Rise]) -> str:
    if not rises:
        return f"{verb} no {noun}"
    best = rises[0]
    rise = f"{best.task} ({best.before:.2f} -> {best.after:.2f})"
    return f"{verb} {noun} {rise}" if number == 1 else f"{verb} {counted(number, noun)}, {most} {rise}"


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS)
