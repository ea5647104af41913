"""The mixture of a sweep as a file and as a table: how many examples of each task an epoch has. Nothing is trained."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from simtune.config import Sweep
from simtune.grid.grid_points import PointTasks
from simtune.grid.leak_guard import find_text_leaks, guard_leaks
from simtune.grid.mixtures import mixture_of, no_example_note
from simtune.grid.stages import read_tasks
from simtune.progress import Display
from simtune.storage.files import AnyPath, as_path, json_text
from simtune.storage.output_path import begins_like, check_file, write_new_file
from simtune.storage.parquet_files import table_bytes, write_table
from simtune.storage.preflight import check_storage

if TYPE_CHECKING:
    import pyarrow as pa


def mixture_table(points: Iterable[PointTasks]) -> pa.Table:
    """One row a pool task and grid point, for a training on the whole pool.

    Columns: grid, task, category, instances (drawn), used, examples (an epoch), share (of an epoch), passes (through
    the used instances in an epoch).
    """
    import pyarrow as pa

    rows = []
    for point in points:
        categories = {task.name: task.category for task in point.tasks.pool}
        shares = mixture_of(point.tasks.pool, point.sweep)
        total = sum(share.num_examples for share in shares.values())
        rows += [
            {
                "grid": point.point.label,
                "task": name,
                "category": categories[name],
                "instances": share.num_instances,
                "used": share.num_used,
                "examples": share.num_examples,
                "share": share.num_examples / total,
                "passes": share.num_examples / share.num_used,
            }
            for name, share in shares.items()
        ]
    return pa.Table.from_pylist(rows, _schema())


def _schema() -> pa.Schema:
    import pyarrow as pa

    columns = {"grid": pa.string(), "task": pa.string(), "category": pa.string()}
    columns |= dict.fromkeys(("instances", "used", "examples"), pa.int64())
    columns |= dict.fromkeys(("share", "passes"), pa.float64())
    return pa.schema(list(columns.items()))


def _no_example_notes(table: pa.Table) -> Iterable[str]:
    examples: dict[str, list[int]] = {}
    for row in table.to_pylist():
        examples.setdefault(row["grid"], []).append(row["examples"])
    return filter(None, (no_example_note(numbers.count(0), len(numbers)) for numbers in examples.values()))


def write_mixture(sweep: Sweep, output: Path | None, display: Display) -> tuple[pa.Table, AnyPath]:
    """Writes the mixture of a sweep to a file and trains nothing.

    Args:
        sweep: what is to be trained.
        output: a new parquet or JSON file, by the end of its name, or one with the same mixture; None writes
            `RUN/mixture.parquet`.
        display: shows progress.

    Returns:
        The table (see `mixture_table`) and the file's path.

    Raises:
        UserError: the sweep is wrong, or the file cannot be written or has other content.
    """
    if output is not None:
        check_file(output, (".parquet", ".json"), _is_mixture)
    points = read_tasks(sweep, display)
    if output is None:
        check_storage(as_path(sweep.storage))
    table = mixture_table(guard_leaks(points, find_text_leaks(points, display), display))
    for note in dict.fromkeys(_no_example_notes(table)):
        display.warn(note)
    if output is None:
        path = as_path(sweep.storage) / sweep.name / "mixture.parquet"
        write_table(path, table)
        return table, path
    write_new_file(output, table_bytes(table) if output.suffix == ".parquet" else json_text(table.to_pylist()))
    return table, output


def _is_mixture(path: Path) -> bool:
    names = _schema().names
    return begins_like(path, names, json_text([dict.fromkeys(names[:1], "")]).partition(b'""')[0])
