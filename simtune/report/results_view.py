"""A run's rows in the order and the groups that every table, figure and sentence shares.

A *grid point* is one combination of swept settings; a *cell* is one arm at one size inside a grid point, with
one row per seed. Numbers of different grid points never meet, and rows that did not finish stay visible
beside those that did: nothing is averaged in silently.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from simtune.config.selection import ORACLE_MARK
from simtune.errors import RunError

Row = dict[str, Any]

STRATEGIES = ("different", "similar", "random", "different-category", "similar-category")
FULL = "full"
BASELINES = ("untuned", "copy-input", "copy-demonstration")
COLUMNS = (
    *("trial", "arm", "size", "seed", "num_tasks", "num_examples", "num_source_tokens", "num_target_tokens"),
    *("num_steps", "final_loss", "rouge_l", "exact_match", "mean_similarity", "max_similarity"),
    *("num_categories", "coverage", "status", "error", "note"),
)
"""Columns that results.parquet must have; a further column with a dot in its name is a swept setting."""
SCHEMA_KEY, TABLES_SCHEMA = b"simtune.schema", 2
"""Version of the tables, in their parquet metadata."""

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


def is_baseline(row: Row) -> bool:
    """Whether a row is a reference that trained on no tasks."""
    return row["arm"] in BASELINES or (row["size"] is None and row["arm"] != FULL)


def arm_key(row: Row) -> tuple[int, int, str]:
    """The fixed order of arms: the study's own, other strategies by name, the full pool, baselines."""
    arm = row["arm"]
    if arm in STRATEGIES:
        return 0, STRATEGIES.index(arm), arm
    if arm == FULL:
        return 2, 0, arm
    if is_baseline(row):
        return 3, BASELINES.index(arm) if arm in BASELINES else len(BASELINES), arm
    return 1, 0, arm


def grid_columns(rows: pa.Table) -> list[str]:
    """The names of the swept settings, sorted."""
    return sorted(name for name in rows.column_names if "." in name)


def _row_key(row: Row, grid: list[str]) -> tuple[Any, ...]:
    def number(value: int | None) -> int:
        return -1 if value is None else value

    points = [natural_key(_setting(row[name])) for name in grid]
    return points, arm_key(row), number(row["size"]), number(row["seed"]), row["trial"]


def _setting(value: Any) -> str:
    return "" if value is None else str(value)


def sorted_rows(rows: pa.Table) -> list[Row]:
    """All rows in the one order that tables print: grid point, arm, size, seed.

    Raises:
        RunError: a column of the contract is missing, so the table is not one of this version's.
    """
    missing = [name for name in COLUMNS if name not in rows.column_names]
    if missing:
        raise RunError(
            f"results.parquet: no column {', '.join(missing)}; the table was written by another version. "
            "Move it aside and run `simtune run` again: finished trials are not computed twice"
        )
    written = (rows.schema.metadata or {}).get(SCHEMA_KEY, b"").decode(errors="replace")
    if written != str(TABLES_SCHEMA):
        raise RunError(
            f"results.parquet: schema {written[:20]!r}, this simtune reads {TABLES_SCHEMA}. Use the version that wrote "
            "it (manifest.json has it), or move it aside and run `simtune run` again"
        )
    grid = grid_columns(rows)
    return sorted(rows.to_pylist(), key=lambda row: _row_key(row, grid))


@dataclass(frozen=True)
class Cell:
    """One arm at one size of one grid point: the rows of its seeds."""

    arm: str
    size: int | None
    rows: tuple[Row, ...]

    @cached_property
    def done(self) -> tuple[Row, ...]:
        """Finished rows; a trial that stands under two seeds is one measurement and is counted once."""
        finished = {row["trial"]: row for row in self.rows if row["status"] == "done"}
        return tuple(finished.values())

    @property
    def lost(self) -> tuple[Row, ...]:
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
    """One combination of swept settings, with its cells in the fixed order."""

    settings: tuple[tuple[str, str], ...]
    differs: tuple[str, ...]
    """The settings, as "name = value", that differ between grid points; empty where there is one only."""
    cells: tuple[Cell, ...]

    @property
    def title(self) -> str:
        """What differs from the other grid points, on one line."""
        return ", ".join(self.differs)

    @cached_property
    def strategies(self) -> tuple[Cell, ...]:
        """Cells of arms that choose tasks: neither the full pool nor a baseline."""
        return tuple(c for c in self.cells if c.arm != FULL and not is_baseline(c.rows[0]))

    @cached_property
    def baselines(self) -> tuple[Cell, ...]:
        """Cells that trained on no tasks."""
        return tuple(c for c in self.cells if is_baseline(c.rows[0]))

    @property
    def full(self) -> Cell | None:
        """The arm that trains on the whole pool."""
        return next((c for c in self.cells if c.arm == FULL), None)

    @property
    def arms(self) -> list[str]:
        """Strategy arms in the fixed order."""
        return list(dict.fromkeys(c.arm for c in self.strategies))

    @property
    def sizes(self) -> list[int]:
        """Requested sizes of the strategy arms, ascending."""
        return sorted({c.size for c in self.strategies if c.size is not None})

    def at(self, size: int) -> list[Cell]:
        """The strategy cells of one size, in arm order."""
        return [c for c in self.strategies if c.size == size]

    def lost(self) -> list[Row]:
        """Every row that failed or is missing."""
        return [row for cell in self.cells for row in cell.lost]


def best(cells: Iterable[Cell], column: str = "rouge_l") -> list[Cell]:
    """The cells with the highest mean; several where they tie, none where fewer than two have a number."""
    means = [(cell, mean) for cell in cells if (mean := cell.mean(column)) is not None]
    if len(means) < 2:
        return []
    top = max(mean for _, mean in means)
    return [cell for cell, mean in means if math.isclose(mean, top, abs_tol=1e-9)]


def grid_points(rows: pa.Table) -> list[GridPoint]:
    """Groups rows by grid point, then by arm and size.

    A baseline without a value for a swept setting (copying the input needs no model) does not depend on that
    setting and is shown at every grid point that agrees with it otherwise.
    """
    ordered = sorted_rows(rows)
    grid = grid_columns(rows)

    def point(row: Row) -> tuple[str | None, ...]:
        shared = is_baseline(row)
        return tuple(None if shared and row[name] is None else _setting(row[name]) for name in grid)

    found = list(dict.fromkeys(point(row) for row in ordered))
    concrete = [p for p in found if None not in p] or found[:1]
    varying = [i for i in range(len(grid)) if len({p[i] for p in concrete}) > 1]
    points = []
    for p in concrete:
        groups: dict[tuple[str, int | None], list[Row]] = {}
        for row in ordered:
            if all(own in (None, value) for own, value in zip(point(row), p, strict=True)):
                groups.setdefault((row["arm"], row["size"]), []).append(row)
        cells = tuple(Cell(arm, size, tuple(group)) for (arm, size), group in groups.items())
        # Shared baselines have no grid point of their own and would stand first.
        cells = tuple(sorted(cells, key=lambda cell: (arm_key(cell.rows[0]), cell.size or 0)))
        differs = tuple(f"{grid[i]} = {p[i] or '(none)'}" for i in varying)
        settings = tuple((name, value or "") for name, value in zip(grid, p, strict=True))
        points.append(GridPoint(settings, differs, cells))
    return points
