"""Work over blocks of rows, which the caller runs in this process or on a cluster, with the same result.

A block is a range of rows whose product with all columns stays small; no N x N array is ever held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

T = TypeVar("T")
Work = Callable[[Mapping[str, np.ndarray], int, int], T]
"""`work(arrays, begin, end)` for the rows from `begin` up to `end`; a module-level function, so that it pickles."""

_BLOCK_BYTES = 64 << 20


class MapBlocks(Protocol):
    """Runs a function on every block of rows, in this process or on a cluster."""

    def __call__(
        self, work: Work[T], arrays: Mapping[str, np.ndarray], starts: Sequence[tuple[int, int]]
    ) -> Iterator[T]:
        """Yields what `work` returned, in the order of the blocks, and raises what it raised.

        Args:
            work: a module-level function or a `functools.partial` of one; it must not change the arrays.
            arrays: what every block needs, by name.
            starts: first row and the row after the last of each block.
        """
        ...


def map_blocks_here(work: Work[T], arrays: Mapping[str, np.ndarray], starts: Sequence[tuple[int, int]]) -> Iterator[T]:
    """Runs the blocks one after the other in this process, each when its result is asked for."""
    for begin, end in starts:
        yield work(arrays, begin, end)


def block_ranges(num_rows: int, num_columns: int, max_bytes: int = _BLOCK_BYTES) -> list[tuple[int, int]]:
    """Ranges that cover all rows; a block of float32 [rows, `num_columns`] takes at most `max_bytes`, or is one row."""
    step = max(1, max_bytes // (4 * max(1, num_columns)))
    return [(begin, min(begin + step, num_rows)) for begin in range(0, num_rows, step)]
