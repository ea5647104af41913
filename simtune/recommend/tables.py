"""Recommendations for a terminal and as a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simtune.recommend.nearest_tasks import Explanation
from simtune.recommend.order_additions import Recommendations
from simtune.recommend.reasons import CoverageGain, Recommendation
from simtune.report.results_csv import csv_text
from simtune.report.results_view import clean, one_line
from simtune.storage.output_path import begins_like, check_file, write_new_file
from simtune.storage.parquet_files import table_bytes
from simtune.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import RenderableType

    from simtune.tables import TextTable

_SUFFIXES = (".csv", ".parquet")
_DEFINITION_WIDTH = 76


def render_recommendations(found: Recommendations) -> list[RenderableType]:
    """A table of numbers for each objective, the reasons line by line, and notes; fits 160 columns."""
    from rich.text import Text

    parts: list[RenderableType] = []
    for unit, rows in groupby(found.rows, key=lambda row: row.unit):
        parts += [_numbers(found, unit, tuple(rows)), Text()]
    parts += [_reasons(found.rows)]
    if found.notes:
        parts += [Text(), *[Text(clean(f"note: {note}"), style="dim") for note in found.notes]]
    return parts


def _numbers(found: Recommendations, unit: str, rows: Sequence[Recommendation]) -> TextTable:
    title = (
        f"What to add to {clean(found.pool)} ({counted(found.num_pool, 'task')}), of "
        f"{counted(found.num_candidates, 'candidate')}"
    )
    table = _table(title if rows[0].rank == 1 else f"From rank {rows[0].rank}")
    table.add_number_columns("")
    table.add_columns("task", overflow="fold", max_width=52)
    table.add_columns("category", overflow="fold", max_width=20)
    table.add_number_columns(f"gain: {unit}", max_width=11)
    if found.num_target is not None:
        table.add_number_columns(f"coverage of {counted(found.num_target, 'target task')}", max_width=15)
    table.add_columns("nearest in the pool", overflow="fold", max_width=42)
    table.add_number_columns("cosine")
    for row in rows:
        coverage = () if row.coverage_before is None else (f"{row.coverage_before:.4f} → {row.coverage_after:.4f}",)
        cosine = f"{row.nearest_cosine:.2f}{'!' if row.near_duplicate else ' '}"
        cells = (row.task, row.category or "–", f"{row.gain:.4f}", *coverage, row.nearest, cosine)
        table.add_row(str(row.rank), *cells)
    if any(row.near_duplicate for row in rows):
        table.caption = "! near-duplicate of a task in the pool"
    return table


def _reasons(rows: Sequence[Recommendation]) -> TextTable:
    table = _table(None, show_header=False, box=None)
    table.add_number_columns("")
    table.add_columns("", overflow="fold", max_width=150)
    for row in rows:
        table.add_row(str(row.rank), row.reason)
    return table


def render_explanation(found: Explanation) -> list[RenderableType]:
    """A task's definition, its reasons if it is recommended, and its neighbours; fits 160 columns."""
    from rich.text import Text

    category = f", {clean(found.category)}" if found.category else ""
    shown: list[RenderableType] = [Text(f"{clean(found.task)} (in {', '.join(found.found_in)}{category})", "bold")]
    if found.definition:
        shown.append(Text(clean(" ".join(found.definition.split()))))
    if found.recommendation:
        shown.append(Text(clean(f"rank {found.recommendation.rank}: {found.recommendation.reason}")))
    for part, neighbours in found.neighbours.items():
        table = _table(f"nearest in the {part}" if part != "candidates" else "nearest among the candidates")
        table.add_number_columns("cosine")
        table.add_columns("task", overflow="fold", width=44)
        table.add_columns("category", overflow="fold", width=22)
        table.add_columns("definition", no_wrap=True, width=_DEFINITION_WIDTH)
        for other in neighbours:
            definition = one_line(other.definition, _DEFINITION_WIDTH)
            table.add_row(f"{other.cosine:.2f}", other.task, other.category or "–", definition)
        shown += [Text(), table]
    return shown


def write_recommendations(path: Path, found: Recommendations) -> None:
    """Writes the rows as `.csv` or `.parquet`; texts of a CSV are guarded against spreadsheet formulas.

    Raises:
        UserError: the suffix is another one, or the file cannot be written.
    """
    check_output(path)
    table = _rows_table(found.rows)
    if path.suffix == ".parquet":
        content = table_bytes(table)
    else:
        lines = [table.column_names, *[list(row.values()) for row in table.to_pylist()]]
        content = csv_text(lines).encode()
    write_new_file(path, content)


def check_output(path: Path) -> None:
    """Refuses a file that could not be written, before anything is computed.

    Raises:
        UserError: its suffix is neither `.csv` nor `.parquet`, or something else is in its place.
    """
    check_file(path, _SUFFIXES, _is_ranking)


def _rows_table(rows: Sequence[Recommendation]) -> pa.Table:
    import pyarrow as pa

    values = [asdict(row) | {"most_improved": "; ".join(map(_gain_text, row.most_improved))} for row in rows]
    return pa.Table.from_pylist(values, _schema())


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("rank", pa.int64()),
            ("task", pa.string()),
            ("category", pa.string()),
            ("objective", pa.string()),
            ("gain", pa.float64()),
            ("unit", pa.string()),
            ("coverage_before", pa.float64()),
            ("coverage_after", pa.float64()),
            ("coverage_gain", pa.float64()),
            ("num_improved", pa.int64()),
            ("most_improved", pa.string()),
            ("nearest", pa.string()),
            ("nearest_cosine", pa.float64()),
            ("near_duplicate", pa.bool_()),
            ("reason", pa.string()),
        ]
    )


def _is_ranking(path: Path) -> bool:
    names = _schema().names
    return begins_like(path, names, (",".join(names) + "\n").encode())


def _gain_text(gain: CoverageGain) -> str:
    return f"{gain.task} ({gain.before:.4f} -> {gain.after:.4f})"


def _table(title: str | None, **look: Any) -> TextTable:
    from simtune.tables import TextTable

    return TextTable(title=title, padding=(0, 1, 0, 0), **look)
