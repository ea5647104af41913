"""Which tables have the columns that are expected of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from simtune.errors import RunError
from simtune.storage.parquet_files import check_schema

SCHEMA = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("score", pa.float64()),
        pa.field("vector", pa.list_(pa.float32())),
    ]
)
PATH = Path("run/table.parquet")


def table(**columns: pa.Array) -> pa.Table:
    fitting = {
        "task": pa.array(["a", "b"]),
        "size": pa.array([1, None]),
        "score": pa.array([0.5, None]),
        "vector": pa.array([[1.0], [2.0]], pa.list_(pa.float32())),
    }
    return pa.table(fitting | columns)


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"more": pa.array([1, 2])},
        {"task": pa.array(["a", "b"], pa.large_string())},
        {"size": pa.array([1, 2], pa.uint8())},
        {"score": pa.array([1, 2], pa.int32())},
        {"score": pa.array([1.0, 2.0], pa.float32())},
        {"score": pa.nulls(2)},
    ],
)
def test_a_table_with_values_of_the_expected_types_is_accepted(columns: dict[str, pa.Array]) -> None:
    check_schema(table(**columns), SCHEMA, PATH)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"task": pa.array([1, 2])}, "column task: has type int64, expected string"),
        ({"task": pa.array(["a", None])}, "column task: some rows have no value"),
        ({"task": pa.nulls(2)}, "column task: some rows have no value"),
        ({"size": pa.array([1.0, 2.0])}, "column size: has type double, expected int64"),
        ({"size": pa.array(["1", "2"])}, "column size: has type string, expected int64"),
        ({"score": pa.array(["1", "2"])}, "column score: has type string, expected double"),
        ({"score": pa.array([True, False])}, "column score: has type bool, expected double"),
        ({"vector": pa.array([1.0, 2.0])}, r"column vector: has type double, expected list<item: float>"),
    ],
)
def test_a_column_of_another_type_is_named(columns: dict[str, pa.Array], problem: str) -> None:
    with pytest.raises(RunError, match=rf"^run/table\.parquet, {problem}; move the file aside and run again$"):
        check_schema(table(**columns), SCHEMA, PATH)


def test_a_missing_and_a_duplicate_column_are_named() -> None:
    with pytest.raises(RunError, match=r"^run/table\.parquet: no column 'size'; move the file aside"):
        check_schema(table().drop_columns("size"), SCHEMA, PATH)
    with pytest.raises(RunError, match=r"^run/table\.parquet: duplicate column 'size'; move the file aside"):
        check_schema(table().append_column("size", pa.array([1, 2])), SCHEMA, PATH)
