"""One subset of a run, found by what a user calls it: arm, size, seed and, with a grid, its point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simtune.config import Sweep, load_sweep
from simtune.errors import RunError, UserError
from simtune.grid.grid_points import SUBSETS_FOLLOW, grid_label, grid_points
from simtune.storage.file_types import has_file
from simtune.storage.files import AnyPath
from simtune.storage.parquet_files import check_schema, read_table
from simtune.sweep.run_files import check_unchanged
from simtune.wording import nearest

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = ("grid", "arm", "seed", "size", "rank", "task")


@dataclass(frozen=True)
class ChosenSubset:
    """A subset from `subsets.parquet`.

    Attributes:
        size: as asked for.
        grid: the swept values that decide the subset or its text; empty without a grid.
        tasks: names in order of choice.
        sweep: the settings of its grid point.
    """

    arm: str
    size: int
    seed: int
    grid: str
    tasks: tuple[str, ...]
    sweep: Sweep


def find_subset(
    run_directory: AnyPath, arm: str, size: int | None, seed: int | None, grid: str | None = None
) -> ChosenSubset:
    """Finds the one subset that the arguments name; None takes the only size, the first seed, the only grid point.

    Raises:
        RunError: not a run directory with subsets.
        UserError: there is no such subset, or there are several; with what there is.
    """
    settings, path = run_directory / "sweep.yaml", run_directory / "subsets.parquet"
    _check_files(run_directory, settings, path)
    rows = _read_rows(path)
    points = _points(load_sweep(settings), list(dict.fromkeys(row["grid"] for row in rows)))
    if not points:
        raise RunError(f"{path}: does not belong to the sweep in {settings}; `simtune select SWEEP` writes both again")
    if grid is not None:
        named = {label: point for label, point in points.items() if grid in (label, point[0])}
        if not named:
            there = "; ".join(filter(None, points))
            what = f"there are: {there}" if there else "its run has no grid that decides a subset, so leave --grid out"
            raise UserError(f"--grid: {grid!r} is not a grid point of {path}; {what}")
        points = named
    rows = [row for row in rows if row["grid"] in {name for name, _ in points.values()}]

    arms = _distinct(rows, "arm")
    if arm not in arms:
        raise UserError(
            f"--arm: {arm!r} has no subset in {path}{nearest(arm, arms) or '.'} Arms there: {', '.join(arms)}"
        )
    rows = [row for row in rows if row["arm"] == arm]
    sizes = _distinct(rows, "size")
    if size is None and len(sizes) > 1:
        raise UserError(f"--size: missing; arm {arm!r} has several in {path}; sizes there: {_listed(sizes)}")
    size = sizes[0] if size is None else size
    if size not in sizes:
        raise UserError(f"--size: arm {arm!r} has no subset of size {size} in {path}; sizes there: {_listed(sizes)}")
    rows = [row for row in rows if row["size"] == size]
    seeds = _distinct(rows, "seed")
    seed = seeds[0] if seed is None else seed
    if seed not in seeds:
        raise UserError(f"--seed: arm {arm!r} has no subset of seed {seed} in {path}; seeds there: {_listed(seeds)}")
    rows = [row for row in rows if row["seed"] == seed]

    left = set(_distinct(rows, "grid"))
    points = {label: point for label, point in points.items() if point[0] in left}
    if len(points) > 1:
        raise UserError(
            f"--grid: missing; {path} has such a subset at several grid points, choose one of: {'; '.join(points)}"
        )
    ((label, (_, sweep)),) = points.items()
    tasks = tuple(row["task"] for row in sorted(rows, key=lambda row: row["rank"]))
    return ChosenSubset(arm, size, seed, label, tasks, sweep)


def _schema() -> pa.Schema:
    import pyarrow as pa

    texts, integers = ("grid", "arm", "task"), ("seed", "size", "rank")
    return pa.schema(
        [pa.field(name, pa.string(), nullable=False) for name in texts]
        + [pa.field(name, pa.int64(), nullable=False) for name in integers]
    )


def _check_files(run_directory: AnyPath, *files: AnyPath) -> None:
    for file in files:
        if not has_file(file):
            raise RunError(
                f"{file}: no such file, so there is no subset here. Give a run directory such as runs/quickstart, "
                "or choose subsets with `simtune select SWEEP`"
            )
        check_unchanged(run_directory, file.name)


def _read_rows(path: AnyPath) -> list[dict[str, Any]]:
    table = read_table(path)
    if not set(_COLUMNS) <= set(table.column_names):
        raise RunError(f"{path}: not a table of subsets; `simtune select SWEEP` writes it again")
    check_schema(table, _schema(), path)
    rows: list[dict[str, Any]] = table.select(list(_COLUMNS)).to_pylist()
    return rows


def _points(sweep: Sweep, names: Sequence[str]) -> dict[str, tuple[str, Sweep]]:
    """Grid points that differ in tasks or text, by their values: what column `grid` calls each, and its settings.

    `names` are the column's. The encoding decides the text of a subset, and not which tasks it has.
    """
    points: dict[str, tuple[str, Sweep]] = {}
    for point in grid_points(sweep):
        name = grid_label(point.values, SUBSETS_FOLLOW)
        if name in names:
            points.setdefault(grid_label(point.values, (*SUBSETS_FOLLOW, "encoding.")), (name, point.sweep))
    return points


def _distinct(rows: Sequence[dict[str, Any]], column: str) -> list[Any]:
    return list(dict.fromkeys(row[column] for row in rows))


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
