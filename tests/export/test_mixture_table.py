from __future__ import annotations

import pyarrow as pa

from simtune.config import Sweep
from simtune.export.mixture_table import mixture_summary

SWEEP = Sweep.model_validate({"name": "s", "mixture": {"oversample": 5}})


def rows(grid: str, *examples: int) -> list[dict[str, object]]:
    return [
        {"grid": grid, "task": f"t{number}", "examples": many, "share": many / sum(examples), "passes": 1.5}
        for number, many in enumerate(examples)
    ]


def cells(table: pa.Table, name: str) -> list[str]:
    (column,) = [column for column in mixture_summary(table, SWEEP).columns if column.header == name]
    return [str(cell) for cell in column.cells]


def test_tasks_with_most_examples_come_first_and_a_grid_is_shown_where_there_is_one() -> None:
    one = pa.Table.from_pylist(rows("", 5, 3000, 5))
    assert cells(one, "task") == ["t1", "t0", "t2"]
    assert cells(one, "examples") == ["3,000", "5", "5"]
    assert cells(one, "share") == ["99.67 %", "0.17 %", "0.17 %"]
    shown = mixture_summary(one, SWEEP)
    assert shown.title == "mixture: oversample; 3,010 examples per epoch of 3 tasks"
    assert "grid" not in [column.header for column in shown.columns]
    two = pa.Table.from_pylist([*rows("b", 1, 2), *rows("a", 1, 1)])
    assert cells(two, "grid") == ["a", "a", "b", "b"]
    assert str(mixture_summary(two, SWEEP).title).endswith("at 2 grid points")


def test_of_many_tasks_the_table_shows_a_part() -> None:
    many = pa.Table.from_pylist(rows("", *range(1, 32)))
    assert len(cells(many, "task")) == 30
    assert str(mixture_summary(many, SWEEP).caption).startswith("and 1 more row, in the file. ")
