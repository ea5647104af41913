"""How much memory a parquet file needs once it is decoded, from its footer alone, and when that is refused.

Compression and repeated values make a file of a megabyte stand for gigabytes. What a file's own size justifies is
always read; what is out of proportion to it is refused before anything is decoded.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from simtune.wording import counted

if TYPE_CHECKING:
    import pyarrow.parquet as pq

GIB = 1 << 30

ALWAYS_READ = 2 * GIB
"""Bytes, decoded, that any file may have: a million vectors of 384 numbers are 1.5 GB."""
MOST_TIMES_LARGER = 100
"""A larger file may have this many times its own bytes."""

# Bytes of a decoded value by parquet's physical type; a text's own bytes come on top.
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_OTHER_WIDTH = 8


def decoded_bytes(metadata: pq.FileMetaData, columns: Collection[str] | None = None) -> int:
    """Bytes of a file's columns in memory, as its footer tells; a nested column's values count one by one.

    Args:
        metadata: the footer.
        columns: names of the top-level columns that are read; None reads all.
    """
    total = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for index in range(row_group.num_columns):
            column = row_group.column(index)
            if columns is None or column.path_in_schema.partition(".")[0] in columns:
                width = _WIDTHS.get(column.physical_type, _OTHER_WIDTH)
                total += max(column.total_uncompressed_size, column.num_values * width)
    return total


def check_decoded(num_bytes: int, file_bytes: int) -> None:
    """Refuses what is out of proportion to a file, or more than this machine has memory for.

    Args:
        num_bytes: needed in memory.
        file_bytes: the file's size.

    Raises:
        ValueError: it is; says how much, and the limit.
    """
    most = max(ALWAYS_READ, MOST_TIMES_LARGER * file_bytes)
    if num_bytes > most:
        raise ValueError(
            f"its {file_bytes / 2**20:,.1f} MiB unpack to {num_bytes / GIB:,.1f} GiB, more than {most / GIB:,.1f} GiB "
            f"({counted(MOST_TIMES_LARGER, 'time')} its size, and at least {ALWAYS_READ // GIB} GiB, is the limit)"
        )
    if num_bytes > ALWAYS_READ:
        import psutil

        available = psutil.virtual_memory().available
        if num_bytes > available:
            raise ValueError(
                f"it needs {num_bytes / GIB:,.1f} GiB of memory, and {available / GIB:,.1f} GiB are available"
            )
