"""The scores of single test tasks, by arm and size: what every interval is made of.

A score in `results.parquet` is the mean over test instances. It equals the mean of the tasks' scores weighed by their
numbers of instances, and those are the weights used here.

Legend: S seeds, T test tasks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simtune.report.results_view import Cell, GridPoint
from simtune.report.statistics.records import ArmAtSize

_TOLERANCE = 1e-6


@dataclass(frozen=True)
class TaskScores:
    """One arm at one size: a score for each seed and test task."""

    of: ArmAtSize
    mean: float
    """The number of the results table."""
    seeds: tuple[int | None, ...]
    """Of the finished trials that differ, ascending."""
    depends_on_seed: bool
    """Whether another seed would give another result."""
    values_ST: np.ndarray
    """float64; not used where there is a `reason`."""
    reason: str = ""
    """Why there is no interval; empty where there can be one."""

    @property
    def num_seeds(self) -> int:
        """Finished trials that differ."""
        return len(self.seeds)

    @cached_property
    def mean_T(self) -> np.ndarray:
        """The mean over seeds of each test task."""
        return np.asarray(self.values_ST.mean(axis=0))


@dataclass(frozen=True)
class PointScores:
    """All finished arms of one grid point."""

    arms: tuple[TaskScores, ...]
    cells: tuple[Cell, ...]
    """Aligned with `arms`."""
    weights_T: np.ndarray
    """Share of each test task in the score; the sum is 1."""

    @property
    def num_test_tasks(self) -> int:
        """0 where no scores of single test tasks are there."""
        return len(self.weights_T)


def point_scores(point: GridPoint, scores: pa.Table | None) -> PointScores:
    """Reads the scores of a grid point's headline metric.

    Args:
        point: its cells.
        scores: rows of `scores.parquet`; None where there are none.
    """
    metric = point.headline
    cells = tuple(cell for cell in point.cells if cell.values(metric.column))
    by_score = _by_score(scores, metric.name, {row["score"] for cell in cells for row in cell.done})
    tasks = _commonest([tuple((name, count) for name, count, _ in rows) for rows in by_score.values()])
    counts_T = np.array([count for _, count in tasks], dtype=np.float64)
    weights_T = counts_T / counts_T.sum() if len(tasks) else counts_T
    arms = tuple(_of_cell(cell, metric.column, by_score, tasks, weights_T) for cell in cells)
    return PointScores(arms, cells, weights_T)


_TaskRows = list[tuple[str, int, float]]
"""(test task, its number of instances, its score), by name."""


def _by_score(scores: pa.Table | None, metric: str, wanted: set[str]) -> dict[str, _TaskRows]:
    """The rows of each test task, by the id of the score."""
    if scores is None:
        return {}
    of_wanted = pc.field("score").isin(pa.array(sorted(wanted), pa.string()))
    rows = scores.filter((pc.field("level") == "task") & (pc.field("metric") == metric) & of_wanted)
    found: dict[str, dict[str, tuple[int, float]]] = {}
    columns = [rows[name].to_pylist() for name in ("score", "name", "num_instances", "value")]
    for score, name, count, value in zip(*columns, strict=True):
        # Arms that share a trial have its rows twice.
        found.setdefault(score, {})[name] = (count or 0, math.nan if value is None else value)
    return {score: [(name, *of_task[name]) for name in sorted(of_task)] for score, of_task in found.items()}


def _commonest(lists: list[tuple[tuple[str, int], ...]]) -> tuple[tuple[str, int], ...]:
    """The test tasks that most scores have; of equally many the longest list, then the first one."""
    counts: dict[tuple[tuple[str, int], ...], int] = {}
    for tasks in lists:
        counts[tasks] = counts.get(tasks, 0) + 1
    return max(sorted(counts), key=lambda tasks: (counts[tasks], len(tasks)), default=())


def _of_cell(
    cell: Cell,
    column: str,
    by_score: dict[str, _TaskRows],
    tasks: tuple[tuple[str, int], ...],
    weights_T: np.ndarray,
) -> TaskScores:
    rows = [row for row in cell.done if row[column] is not None and math.isfinite(row[column])]
    rows.sort(key=lambda row: (-1 if row["seed"] is None else row["seed"], row["trial"]))
    mean = cell.mean(column)
    assert mean is not None  # noqa: S101 (only cells with a value are read)
    parts = [by_score.get(row["score"], []) for row in rows]
    reason = next(filter(None, (_problem(part, tasks) for part in parts)), "")
    values_ST = np.zeros((len(rows), len(tasks)))
    if not reason:
        values_ST = np.array([[value for _, _, value in part] for part in parts])
        if not np.allclose(values_ST @ weights_T, [row[column] for row in rows], rtol=0, atol=_TOLERANCE):
            reason = "the scores of its test tasks do not add up to its score"
    seeds = tuple(row["seed"] for row in rows)
    num_finished = sum(row["status"] == "done" for row in cell.rows)
    # A trial that several seeds share does not depend on them.
    fixed = all(seed is None for seed in seeds) or (len(rows) == 1 and num_finished > 1)
    of = ArmAtSize(arm=cell.arm, size=cell.size, num_tasks=cell.num_tasks)
    return TaskScores(of, mean, seeds, not fixed, values_ST, reason)


def _problem(rows: _TaskRows, tasks: tuple[tuple[str, int], ...]) -> str:
    if not rows:
        return "it has no scores of single test tasks"
    if tuple((name, count) for name, count, _ in rows) != tasks:
        return "it was scored on other test tasks than most arms"
    if sum(count for _, count in tasks) == 0:
        return "its test tasks have no instances"
    missing = [name for name, _, value in rows if not math.isfinite(value)]
    return f"test task {missing[0]} has no score" if missing else ""
