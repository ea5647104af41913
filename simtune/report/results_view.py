"""A run's rows in the order and the groups that every table, figure and sentence shares.

A *grid point* is one combination of swept settings; a *cell* is one arm at one size inside a grid point, with
one row per seed. Numbers of different grid points never meet, and rows that did not finish stay visible
beside those that did: nothing is averaged in silently.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from simtune.config.selection import ORACLE_MARK
from simtune.errors import RunError
from simtune.report.table_metadata import ArmType, MetricInfo, NumberColumn, ResultsMetadata, read_results_metadata

Row = dict[str, Any]

COLUMNS = (
    *("trial", "score", "suite", "arm", "size", "seed", "num_tasks", "num_examples", "num_source_tokens"),
    "num_target_tokens",
    *("num_steps", "final_loss", "mean_similarity", "max_similarity", "num_categories", "coverage", "status", "error"),
    "note",
)
"""Columns that results.parquet must have beside its metrics; a column with a dot in its name is a swept setting."""
SET_STATISTICS = (
    NumberColumn(column="mean_similarity", title="mean similarity", digits=3),
    NumberColumn(column="max_similarity", title="largest similarity", digits=3),
    NumberColumn(column="coverage", title="coverage", digits=3),
)
"""Statistics of a set of training tasks."""
FINAL_LOSS = NumberColumn(column="final_loss", title="final loss", digits=4)

# Control characters break XML and can drive a terminal; bidirectional overrides can make a name read as
# another.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """The text with control characters and bidirectional overrides made visible as U+FFFD."""
    return _UNSAFE.sub("\ufffd", text)


def one_line(text: str, limit: int = 200) -> str:
    """The cleaned text on one line, cut to `limit` characters; an oracle's mark stays."""
    line = " ".join(clean(text).split())
    if len(line) <= limit:
        return line
    mark = ORACLE_MARK if line.endswith(ORACLE_MARK) else ""
    return line[: max(0, limit - 1 - len(mark))] + "…" + mark


def natural_key(text: str) -> list[tuple[int, float, str]]:
    """A sort key that puts "t5-2" before "t5-10"."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(0, float(part), "") if i % 2 else (1, 0.0, part) for i, part in enumerate(parts) if part]


def range_over_seeds(values: Sequence[float], digits: int) -> str:
    """The lowest and the highest seed, such as "26.10–26.90"; empty with one seed."""
    return f"{min(values):.{digits}f}–{max(values):.{digits}f}" if len(values) > 1 else ""


def grid_columns(rows: pa.Table) -> list[str]:
    """The names of the swept settings, sorted; the evaluation suite is one of them if there are several suites."""
    several = "suite" in rows.column_names and len(set(rows["suite"].to_pylist())) > 1
    return ["suite"] * several + sorted(name for name in rows.column_names if "." in name)


def columns(rows: pa.Table) -> list[str]:
    """The order of columns in CSV, Markdown and the page: what varies first, then the table's own order."""
    front = ["trial", *grid_columns(rows), "arm", "size", "seed"]
    return [*front, *[name for name in rows.column_names if name not in front]]


def number_columns(rows: pa.Table) -> dict[str, NumberColumn]:
    """How the numbers of each column are printed, by column name; other columns are printed as they are."""
    known = (*read_results_metadata(rows).metrics, *SET_STATISTICS, FINAL_LOSS)
    return {found.column: found for found in known}


def _setting(value: object) -> str:
    return "" if value is None else str(value)


def sorted_rows(rows: pa.Table) -> list[Row]:
    """All rows in the order that every table prints: grid point, arm, size, seed.

    Raises:
        RunError: a column is missing, or the table is of another version.
    """
    metadata = read_results_metadata(rows)
    needed = (*COLUMNS, *(metric.column for metric in metadata.metrics))
    missing = [name for name in needed if name not in rows.column_names]
    if missing:
        raise RunError(
            f"results.parquet: no column {', '.join(missing)}; the table was written by another version. "
            "Move it aside and run `simtune run` again: finished trials are not recomputed"
        )
    grid = grid_columns(rows)
    positions = _arm_positions(metadata)

    def key(row: Row) -> tuple[object, ...]:
        settings = [natural_key(_setting(row[name])) for name in grid]
        size, seed = (-1 if row[name] is None else row[name] for name in ("size", "seed"))
        return settings, positions.get(row["arm"], len(positions)), row["arm"], size, seed, row["trial"]

    return sorted(rows.to_pylist(), key=key)


def _arm_positions(metadata: ResultsMetadata) -> dict[str, int]:
    """The position of each arm: strategies first, then the full pool, then baselines."""
    types = ("strategy", "full", "baseline")
    arms = sorted(metadata.arms, key=lambda arm: types.index(arm.type))
    return {arm.name: position for position, arm in enumerate(arms)}


@dataclass(frozen=True)
class Cell:
    """One arm at one size of one grid point: the rows of its seeds."""

    arm: str
    type: ArmType
    size: int | None
    rows: tuple[Row, ...]

    @cached_property
    def done(self) -> tuple[Row, ...]:
        """Finished rows; a trial that appears under two seeds is one measurement and is counted once."""
        finished = {row["trial"]: row for row in self.rows if row["status"] == "done"}
        return tuple(finished.values())

    @property
    def unfinished(self) -> tuple[Row, ...]:
        """Rows that failed or are missing."""
        return tuple(row for row in self.rows if row["status"] != "done")

    @property
    def num_tasks(self) -> int:
        """Tasks that were trained on; smaller than `size` where the pool is smaller."""
        counts = [row["num_tasks"] for row in self.done or self.rows if row["num_tasks"] is not None]
        return round(sum(counts) / len(counts)) if counts else self.size or 0

    def values(self, column: str) -> list[float]:
        """The finite numbers of a column, finished rows only, in seed order."""
        numbers = [row[column] for row in self.done]
        return [float(number) for number in numbers if number is not None and math.isfinite(number)]

    def mean(self, column: str) -> float | None:
        """The mean over finished seeds, or None where there is none."""
        numbers = self.values(column)
        return math.fsum(numbers) / len(numbers) if numbers else None


@dataclass(frozen=True)
class GridPoint:
    """One combination of swept settings, with its cells in the order of arms."""

    settings: tuple[tuple[str, str], ...]
    differs: tuple[str, ...]
    """The settings, as "name = value", that differ between grid points; empty where there is one only."""
    cells: tuple[Cell, ...]
    metadata: ResultsMetadata

    @property
    def title(self) -> str:
        """What differs from the other grid points, on one line."""
        return ", ".join(self.differs)

    @cached_property
    def metrics(self) -> tuple[MetricInfo, ...]:
        """The metrics that have a score here, the headline first; all of the run's where nothing has finished."""
        scored = tuple(m for m in self.metadata.metrics if any(cell.values(m.column) for cell in self.cells))
        return scored or self.metadata.metrics

    @property
    def headline(self) -> MetricInfo:
        """The metric that sentences and figures are about."""
        return self.metrics[0]

    @cached_property
    def strategies(self) -> tuple[Cell, ...]:
        """Cells of arms that choose tasks: neither the full pool nor a baseline."""
        return tuple(c for c in self.cells if c.type == "strategy")

    @cached_property
    def baselines(self) -> tuple[Cell, ...]:
        """Cells that trained on no tasks."""
        return tuple(c for c in self.cells if c.type == "baseline")

    @property
    def full(self) -> Cell | None:
        """The arm that trains on the whole pool."""
        return next((c for c in self.cells if c.type == "full"), None)

    @property
    def arms(self) -> list[str]:
        """Strategy arms in order."""
        return list(dict.fromkeys(c.arm for c in self.strategies))

    @property
    def sizes(self) -> list[int]:
        """Requested sizes of the strategy arms, ascending."""
        return sorted({c.size for c in self.strategies if c.size is not None})

    @property
    def unfinished(self) -> list[Row]:
        """Every row that failed or is missing."""
        return [row for cell in self.cells for row in cell.unfinished]

    def at(self, size: int) -> list[Cell]:
        """The strategy cells of one size, in arm order."""
        return [c for c in self.strategies if c.size == size]


def grid_points(rows: pa.Table) -> list[GridPoint]:
    """Groups rows by grid point, then by arm and size.

    A baseline without a value for a swept setting (copying the input needs no model) does not depend on that
    setting and is shown at every grid point that agrees with it otherwise.

    Raises:
        RunError: a column is missing, or the table is of another version.
    """
    ordered = sorted_rows(rows)
    metadata = read_results_metadata(rows)
    types = {arm.name: arm.type for arm in metadata.arms}
    grid = grid_columns(rows)

    def point(row: Row) -> tuple[str | None, ...]:
        shared = types.get(row["arm"]) == "baseline"
        return tuple(None if shared and row[name] is None else _setting(row[name]) for name in grid)

    found = list(dict.fromkeys(point(row) for row in ordered))
    concrete = [p for p in found if None not in p] or found[:1]
    varying = [i for i in range(len(grid)) if len({p[i] for p in concrete}) > 1]
    points = []
    for p in concrete:
        own = [row for row in ordered if all(a in (None, b) for a, b in zip(point(row), p, strict=True))]
        differs = tuple(f"{grid[i]} = {p[i] or '(none)'}" for i in varying)
        settings = tuple((name, value or "") for name, value in zip(grid, p, strict=True))
        points.append(GridPoint(settings, differs, _cells(own, metadata), metadata))
    return points


def _cells(rows: Iterable[Row], metadata: ResultsMetadata) -> tuple[Cell, ...]:
    """The cells of one grid point: by arm, then by size."""
    positions = _arm_positions(metadata)
    types = {arm.name: arm.type for arm in metadata.arms}
    groups: dict[tuple[str, int | None], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["arm"], row["size"]), []).append(row)
    cells = (Cell(arm, types.get(arm, "strategy"), size, tuple(own)) for (arm, size), own in groups.items())
    return tuple(sorted(cells, key=lambda cell: (positions.get(cell.arm, len(positions)), cell.arm, cell.size or 0)))
