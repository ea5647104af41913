"""Why a task is worth adding: which target tasks it covers better, what it resembles, and a sentence about both.

Cosines are uncentred, whatever the objective compared, so that rows of all objectives are comparable; in a coverage
negative ones count as zero, as in greedy coverage.

Legend: M tasks of some kind, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from simtune.config.selection import ORACLE_MARK
from simtune.recommend.task_vectors import TaskVectors
from simtune.selection.arms import Arm
from simtune.selection.objective import largest_cosine
from simtune.wording import counted

NEAR_DUPLICATE = 0.95
"""Cosine from which two tasks are near-duplicates, as in `leakage.max_similarity`."""
MOST_IMPROVED = 3
"""Target tasks that a row names."""
MIN_GAIN = 1e-9
"""Smaller gains are rounding errors; `near-target` stops at the same sum."""
# They decide words, not numbers, and apply to the cosine as it is printed.
_CLOSE, _SIMILAR = 0.7, 0.4
# Further digits differ between machines.
_DIGITS = 9


@dataclass(frozen=True)
class CoverageGain:
    """A task that a new one covers better: its largest cosine to the set, before and after."""

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
        num_improved: target tasks that it covers better; None without a target.
        most_improved: those with the largest gain in cosine, largest first.
        nearest: the most similar task of the pool.
        nearest_cosine: cosine to that task.
        near_duplicate: whether that is `NEAR_DUPLICATE` or more.
        reason: all of this in a sentence.
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
    num_improved: int | None
    most_improved: tuple[CoverageGain, ...]
    nearest: str
    nearest_cosine: float
    near_duplicate: bool
    reason: str


@dataclass(frozen=True)
class AddedTask:
    """A task that was chosen.

    Attributes:
        arm: the arm that chose it.
        gain: what it adds to the arm's objective.
    """

    name: str
    arm: Arm
    gain: float


def recommendation_rows(
    pool: TaskVectors, new: TaskVectors, target: TaskVectors | None, added: Sequence[AddedTask]
) -> tuple[Recommendation, ...]:
    """A row for each added task, in order.

    Args:
        pool: the set at the start.
        new: candidates that are not in it.
        target: tasks to cover, if there are any.
        added: the tasks in the order of choice.
    """
    row_of = {name: row for row, name in enumerate(new.names)}
    target_coverage = _Coverage(target, pool) if target else None
    represents = any(task.arm.objective.represents_candidates for task in added)
    candidate_coverage = _Coverage(new, pool) if represents else None
    earlier: list[int] = []
    rows: list[Recommendation] = []
    for task in added:
        row = row_of[task.name]
        vector_D = new.unit_ND[row]
        nearest, cosine = _most_similar(pool.names, pool.unit_ND @ vector_D)
        reasons = [_novelty(nearest, cosine)]
        if earlier:
            rank, earlier_cosine = _most_similar(range(1, len(earlier) + 1), new.unit_ND[earlier] @ vector_D)
            if earlier_cosine >= max(NEAR_DUPLICATE, cosine):
                reasons.append(f"a near-duplicate of rank {rank} ({earlier_cosine:.2f})")
        before = target_coverage.mean if target_coverage else None
        num_improved, improved = target_coverage.add(vector_D) if target_coverage else (None, ())
        after = target_coverage.mean if target_coverage else None
        if num_improved is not None:
            reasons.append(_improvement("improves the coverage of", num_improved, "target task", improved))
        if candidate_coverage:
            num_similar, similar = candidate_coverage.add(vector_D, leave_out=task.name)
            if task.arm.objective.represents_candidates:
                reasons.append(_improvement("represents", num_similar, "other candidate", similar))
        earlier.append(row)
        rows.append(
            Recommendation(
                rank=len(earlier),
                task=task.name,
                category=new.categories[row],
                objective=task.arm.label.removesuffix(ORACLE_MARK),
                gain=_rounded(task.gain),
                unit=_unit(task.arm),
                coverage_before=None if before is None else _rounded(before),
                coverage_after=None if after is None else _rounded(after),
                coverage_gain=None if before is None or after is None else _rounded(after - before),
                num_improved=num_improved,
                most_improved=improved,
                nearest=nearest,
                nearest_cosine=_rounded(cosine),
                near_duplicate=cosine >= NEAR_DUPLICATE,
                reason="; ".join(reasons),
            )
        )
    return tuple(rows)


def _unit(arm: Arm) -> str:
    unit = arm.objective.unit_with(arm.parameters)
    return f"{unit} (centred cosines)" if arm.options.cosine == "centred" else unit


class _Coverage:
    """The largest cosine of each of some tasks to a growing set; negative ones count as zero."""

    def __init__(self, tasks: TaskVectors, pool: TaskVectors) -> None:
        self._tasks = tasks
        self._cosine_M = largest_cosine(tasks.unit_ND, pool.unit_ND)

    @property
    def mean(self) -> float:
        return float(self._cosine_M.mean())

    def add(self, vector_D: np.ndarray, leave_out: str = "") -> tuple[int, tuple[CoverageGain, ...]]:
        """Adds a task to the set.

        Args:
            vector_D: the task's unit vector.
            leave_out: name of a task that is not counted.

        Returns:
            The number of tasks that are covered better, and those that gain most; ties go to the earlier name.
        """
        before_M = self._cosine_M
        self._cosine_M = np.maximum(before_M, (self._tasks.unit_ND @ vector_D).clip(max=1.0))
        gain_M = self._cosine_M - before_M
        improved = [
            row
            for row in np.argsort(-np.round(gain_M, _DIGITS), kind="stable").tolist()
            if gain_M[row] > MIN_GAIN and self._tasks.names[row] != leave_out
        ]
        most = tuple(
            CoverageGain(self._tasks.names[row], _rounded(before_M[row]), _rounded(self._cosine_M[row]))
            for row in improved[:MOST_IMPROVED]
        )
        return len(improved), most


Label = TypeVar("Label")


def _most_similar(labels: Sequence[Label], cosine_M: np.ndarray) -> tuple[Label, float]:
    row = int(np.argmax(np.round(cosine_M, _DIGITS)))
    return labels[row], float(cosine_M[row].clip(-1.0, 1.0))


def _novelty(nearest: str, cosine: float) -> str:
    if cosine >= NEAR_DUPLICATE:
        return f"a near-duplicate of {nearest} in the pool ({cosine:.2f})"
    if round(cosine, 2) >= _CLOSE:
        return f"close to {nearest} in the pool ({cosine:.2f})"
    if round(cosine, 2) >= _SIMILAR:
        return f"somewhat similar to {nearest} in the pool ({cosine:.2f})"
    return f"similar to nothing in the pool (nearest: {nearest}, {cosine:.2f})"


def _improvement(verb: str, number: int, noun: str, gains: Sequence[CoverageGain]) -> str:
    if not gains:
        return f"{verb} no {noun}"
    largest = gains[0]
    gain = f"{largest.task} ({largest.before:.2f} -> {largest.after:.2f})"
    return f"{verb} {noun} {gain}" if number == 1 else f"{verb} {counted(number, noun)}, most of all {gain}"


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS)
