"""How much memory a parquet file needs once it is decoded, from its footer alone, and when that is refused.

Compression and repeated values make a file of a megabyte stand for gigabytes. What a file's own size justifies is
always read; what is out of proportion to it is refused before anything is decoded.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, BinaryIO

from simtune.storage.parquet_footer import column_chunks
from simtune.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

GIB = 1 << 30

ALWAYS_READ = 2 * GIB
"""Bytes, decoded, that any file may have: a million vectors of 384 numbers are 1.5 GB."""
MOST_TIMES_LARGER = 100
"""A larger file may have this many times its own bytes."""

# Bytes of a decoded value by parquet's number of the physical type, from boolean to double.
_WIDTHS = {0: 1, 1: 4, 2: 8, 3: 12, 4: 4, 5: 8}
_OTHER_WIDTH = 8
_ROWS_AT_ONCE = 1 << 16


def decoded_bytes(file: BinaryIO, columns: Collection[str] | None = None) -> int:
    """Bytes of a file's columns in memory, as its footer tells; a nested column's values count one by one.

    Args:
        file: open for reading.
        columns: names of the top-level columns that are read; None counts all.

    Raises:
        ValueError: it has no sound footer.
    """
    return sum(
        max(chunk.num_bytes, chunk.num_values * _WIDTHS.get(chunk.kind, _OTHER_WIDTH))
        for chunk in column_chunks(file)
        if columns is None or chunk.name in columns
    )


def read_whole(data: BinaryIO, file_bytes: int) -> pa.Table:
    """All of a parquet file as a table, refused when it is out of proportion; its page checksums are verified.

    Raises:
        ValueError: it is; or it has no sound footer.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_decoded(decoded_bytes(data), file_bytes)
    data.seek(0)
    with pq.ParquetFile(data, page_checksum_verification=True) as file:
        batches, decoded = [], 0
        for batch in file.iter_batches(_ROWS_AT_ONCE):
            # A text in many rows counts in each of them, and in the footer once.
            decoded += batch.nbytes
            check_decoded(decoded, file_bytes)
            batches.append(batch)
        return pa.Table.from_batches(batches, schema=file.schema_arrow)


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
