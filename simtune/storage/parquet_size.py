"""How much memory a parquet file needs once it is decoded, and the limit above which it is refused.

Thanks to compression and repeated values a file of a megabyte can stand for gigabytes. What is in proportion to the
file's own size is always read; anything else is refused before it is decoded.
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
"""Decoded bytes that any file may have: a million vectors of 384 numbers have 1.5 GB."""
MOST_TIMES_LARGER = 100
"""A file may also have this many times its own size."""

# Bytes of a decoded value by parquet's number of the physical type, from boolean to double.
_WIDTHS = {0: 1, 1: 4, 2: 8, 3: 12, 4: 4, 5: 8}
_OTHER_WIDTH = 8
_ROWS_AT_ONCE = 1 << 16


def decoded_bytes(file: BinaryIO, columns: Collection[str] | None = None) -> int:
    """Size of a file's columns in memory as its footer states it; in a nested column every inner value counts.

    Args:
        file: open for reading.
        columns: names of the top-level columns that are read; None for all.

    Raises:
        ValueError: the file has no valid footer.
    """
    return sum(
        max(chunk.num_bytes, chunk.num_values * _WIDTHS.get(chunk.physical_type, _OTHER_WIDTH))
        for chunk in column_chunks(file)
        if columns is None or chunk.name in columns
    )


def read_whole(data: BinaryIO, file_bytes: int) -> pa.Table:
    """Reads a parquet file as a table and verifies its page checksums.

    Args:
        data: the file, open for reading.
        file_bytes: its size.

    Raises:
        ValueError: the table is out of proportion to the file, or the file has no valid footer.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_decoded(decoded_bytes(data), file_bytes)
    data.seek(0)
    with pq.ParquetFile(data, page_checksum_verification=True) as file:
        batches, decoded = [], 0
        for batch in file.iter_batches(_ROWS_AT_ONCE):
            # A text that many rows share counts once in the footer, but in memory in each of them.
            decoded += batch.nbytes
            check_decoded(decoded, file_bytes)
            batches.append(batch)
        return pa.Table.from_batches(batches, schema=file.schema_arrow)


def check_decoded(num_bytes: int, file_bytes: int) -> None:
    """Refuses data that are out of proportion to their file, or larger than this machine's free memory.

    Args:
        num_bytes: needed in memory.
        file_bytes: the file's size.

    Raises:
        ValueError: states the size and the limit.
    """
    limit = max(ALWAYS_READ, MOST_TIMES_LARGER * file_bytes)
    if num_bytes > limit:
        raise ValueError(
            f"its {file_bytes / 2**20:,.1f} MiB unpack to {num_bytes / GIB:,.1f} GiB, more than the limit of "
            f"{limit / GIB:,.1f} GiB ({counted(MOST_TIMES_LARGER, 'time')} its size, and at least "
            f"{ALWAYS_READ // GIB} GiB)"
        )
    if num_bytes > ALWAYS_READ:
        import psutil

        available = psutil.virtual_memory().available
        if num_bytes > available:
            raise ValueError(
                f"it needs {num_bytes / GIB:,.1f} GiB of memory, but only {available / GIB:,.1f} GiB are available"
            )
