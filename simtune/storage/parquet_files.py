"""Tables as parquet files with a checksum, and the check that a table has the expected columns."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from simtune.errors import RunError
from simtune.storage.checksummed import check_parquet, checksummed_parquet
from simtune.storage.file_types import read_file
from simtune.storage.files import AnyPath, write_bytes
from simtune.storage.parquet_size import read_whole

if TYPE_CHECKING:
    import pyarrow as pa


def table_bytes(table: pa.Table) -> bytes:
    """A table as a parquet file with its checksum. Equal tables give equal bytes."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, store_schema=True)
    return checksummed_parquet(sink.getvalue())


def write_table(path: AnyPath, table: pa.Table) -> None:
    """Writes or replaces a parquet file with its checksum atomically."""
    write_bytes(path, table_bytes(table))


def read_table(path: AnyPath) -> pa.Table:
    """Reads a parquet file that `write_table` wrote.

    Raises:
        RunError: the file is missing, damaged, or not a regular file.
    """
    import pyarrow as pa

    try:
        data = read_file(path)
    except FileNotFoundError:
        raise RunError(f"{path}: no such file") from None
    check_parquet(data, str(path))
    try:
        table = read_whole(pa.BufferReader(data), len(data))
        # Finds offsets beyond the column, and text that is not UTF-8.
        table.validate(full=True)
        return table
    # ValueError: the name of a column is not text.
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        raise RunError(f"{path}: damaged parquet file ({error}); move it aside and run again") from error


def check_schema(table: pa.Table, schema: pa.Schema, path: AnyPath) -> None:
    """Checks that a table has the columns of a schema; it may have further ones.

    Integers of any width are accepted for an integer, integers for a floating-point number, and text with long offsets
    for text. A column without any value may have the type `null`.

    Args:
        table: as it was read.
        schema: of the expected columns; only those that are `nullable` may lack values.
        path: of the file, for messages.

    Raises:
        RunError: a column is missing or duplicate, has another type, or lacks values.
    """
    import pyarrow as pa

    for field in schema:
        if table.column_names.count(field.name) != 1:
            problem = "duplicate column" if field.name in table.column_names else "no column"
            raise RunError(f"{path}: {problem} {field.name!r}; move the file aside and run again")
        found = table.schema.field(field.name).type
        if not (_accepts(field.type, found) or pa.types.is_null(found)):
            raise RunError(
                f"{path}, column {field.name}: has type {found}, expected {field.type}; move the file aside and run "
                "again"
            )
        if not field.nullable and table[field.name].null_count:
            raise RunError(f"{path}, column {field.name}: some rows have no value; move the file aside and run again")


def _accepts(expected: pa.DataType, found: pa.DataType) -> bool:
    """Whether values of a type can be used where another is expected."""
    import pyarrow.types as types

    if types.is_string(expected):
        return bool(types.is_string(found) or types.is_large_string(found))
    if types.is_integer(expected):
        return bool(types.is_integer(found))
    if types.is_floating(expected):
        return bool(types.is_floating(found) or types.is_integer(found))
    return bool(found.equals(expected))
