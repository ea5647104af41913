"""What several figures draw: trials with their numbers, tasks, chosen sets, and scores of test tasks.

A trial is named by its position among the rows of the report, in the order of its tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow.compute as pc

from simtune.report.results_view import Cell, GridPoint, Row, grid_points, natural_key, sorted_rows
from simtune.report.run_rows import RunRows


@dataclass(frozen=True)
class RunData:
    """A run's rows, arranged for figures."""

    run: RunRows

    @cached_property
    def points(self) -> list[GridPoint]:
        """The grid points, as in tables."""
        return grid_points(self.run.results)

    @cached_property
    def rows(self) -> list[Row]:
        """Every trial, in the order of tables."""
        return sorted_rows(self.run.results)

    @cached_property
    def _points_of(self) -> dict[tuple[Any, ...], int]:
        """The first grid point of each row; baselines may be in several."""
        found: dict[tuple[Any, ...], int] = {}
        for number, point in enumerate(self.points):
            for cell in point.cells:
                for row in cell.rows:
                    found.setdefault(row_key(row), number)
        return found

    def point_of(self, row: Row) -> int:
        """The position of a row's grid point."""
        return self._points_of.get(row_key(row), 0)

    @cached_property
    def arms(self) -> list[str]:
        """Every arm, in the order of tables: the domain of the scales of colours and shapes."""
        order = ("strategy", "full", "baseline")
        return sorted(self.arm_types, key=lambda name: order.index(self.arm_types[name]))

    @cached_property
    def arm_types(self) -> dict[str, str]:
        """What each arm is, by name."""
        infos = self.points[0].metadata.arms_by_name if self.points else {}
        return {name: info.type for name, info in infos.items()}

    @cached_property
    def costs(self) -> dict[tuple[str, str], Row]:
        """What each score took, by the ids of its trial and its own."""
        table = self.run.costs
        return {} if table is None else {(row["trial"], row["score"]): row for row in table.to_pylist()}

    @cached_property
    def tasks(self) -> list[Row]:
        """Pool and test tasks with category and number of instances, each name once, by name."""
        if self.run.tasks is None:
            return []
        found = {row["task"]: row for row in self.run.tasks.to_pylist() if row["role"] in ("pool", "test")}
        return [found[name] for name in sorted(found, key=natural_key)]

    @cached_property
    def task_numbers(self) -> dict[str, int]:
        """The position of each task in `tasks`."""
        return {row["task"]: number for number, row in enumerate(self.tasks)}

    @cached_property
    def sets(self) -> dict[tuple[str, int | None, int | None], dict[str, list[int]]]:
        """The chosen tasks by arm, size and seed, then by grid label; numbers of `tasks` in the order of choice."""
        ranked: dict[tuple[str, int | None, int | None], dict[str, list[tuple[int, int]]]] = {}
        if self.run.subsets is not None:
            for row in self.run.subsets.select(["grid", "arm", "size", "seed", "rank", "task"]).to_pylist():
                if row["task"] in self.task_numbers:
                    by_grid = ranked.setdefault((row["arm"], row["size"], row["seed"]), {})
                    by_grid.setdefault(row["grid"], []).append((row["rank"], self.task_numbers[row["task"]]))
        return {
            key: {grid: [task for _, task in sorted(chosen)] for grid, chosen in by_grid.items()}
            for key, by_grid in ranked.items()
        }

    def chosen(self, row: Row) -> list[int]:
        """The tasks that a trial was trained on; empty for baselines and where nothing is recorded."""
        settings = {f"{name}={value}" for name, value in row.items() if "." in name and value is not None}
        by_grid = self.sets.get((row["arm"], row["size"], row["seed"]), {})
        own = [grid for grid in by_grid if set(filter(None, grid.split(", "))) <= settings]
        return by_grid[max(own, key=len)] if own else []

    @cached_property
    def task_scores(self) -> dict[tuple[str, str], dict[str, tuple[str, str, float]]]:
        """Category, metric and headline score of each test task, by score (ids of trial and score) and task."""
        found: dict[tuple[str, str], dict[str, tuple[str, str, float]]] = {}
        for row in self._scores("task"):
            of_score = found.setdefault((row["trial"], row["score"]), {})
            of_score[row["name"]] = (row.get("category") or "", row["metric"], row["value"])
        return found

    @cached_property
    def task_means(self) -> dict[str, Any]:
        """Headline scores of every test task, means over seeds, by grid point, arm and size.

        `tasks` (name, category and metric of each) and `cells` (point, arm, size, and a score for each task or None).
        """
        found = {name: entry for scores in self.task_scores.values() for name, entry in scores.items()}
        names = sorted(found, key=natural_key)
        cells = []
        for number, point in enumerate(self.points):
            for cell in point.cells:
                if any((row["trial"], row["score"]) in self.task_scores for row in cell.done):
                    means = [mean_of(cell, self.task_scores, name) for name in names]
                    scores = [None if mean is None else round(mean, 4) for mean in means]
                    own = {"point": number, "arm": cell.arm, "size": cell.size, "type": cell.type}
                    cells.append({**own, "scores": scores})
        tasks = [{"task": n, "category": found[n][0].replace("_", " "), "metric": found[n][1]} for n in names]
        return {"tasks": tasks, "cells": cells}

    @cached_property
    def category_scores(self) -> dict[tuple[str, str], dict[str, tuple[str, float]]]:
        """Metric and headline score of each category, by score (ids of trial and score) and category."""
        found: dict[tuple[str, str], dict[str, tuple[str, float]]] = {}
        for row in self._scores("category"):
            found.setdefault((row["trial"], row["score"]), {})[row["name"]] = (row["metric"], row["value"])
        return found

    def _scores(self, level: str) -> list[dict[str, Any]]:
        table = self.run.scores
        if table is None:
            return []
        wanted = pc.field("is_headline") & (pc.field("level") == level) & pc.field("value").is_valid()
        names = [
            name for name in ("trial", "score", "name", "category", "metric", "value") if name in table.column_names
        ]
        rows: list[dict[str, Any]] = table.filter(wanted).select(names).to_pylist()
        return rows


def row_key(row: Row) -> tuple[Any, ...]:
    """What tells a row from every other."""
    settings = tuple((name, value) for name, value in row.items() if "." in name or name == "suite")
    return (row["trial"], row["score"], row["arm"], row["size"], row["seed"], *settings)


def mean_of(cell: Cell, scores: dict[tuple[str, str], Any], name: str) -> float | None:
    """The mean over a cell's finished seeds of what they scored in one task or category."""
    found = [scores.get((row["trial"], row["score"]), {}).get(name) for row in cell.done]
    values = [entry[-1] for entry in found if entry is not None and math.isfinite(entry[-1])]
    return math.fsum(values) / len(values) if values else None


def finite(value: object) -> float | None:
    """A number that can be drawn, or None."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def largest_size(point: GridPoint) -> int | None:
    """The largest size at which arms can differ; at the pool's own size they are all the same set."""
    differing = [size for size in point.sizes if len({row["trial"] for c in point.at(size) for row in c.done}) > 1]
    return max(differing or point.sizes, default=None)
