"""Each task's nearest neighbours and all near-duplicates, exact as if every pair had been computed in float64.

Legend: N tasks, M tasks searched (the same ones, or others), D dimensions, K neighbours, P pairs, R rows of a block,
G groups of columns.

A block of rows is multiplied with all columns in float32, as a filter: every pair within the product's largest possible
error of the answer is computed again in float64, one pair at a time and always in the same order of summation. So
results depend neither on the size of blocks nor on BLAS nor on the number of threads. No N x N array is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from simtune.graph.blocks import MapBlocks, block_ranges, map_blocks_here
from simtune.graph.unit_vectors import unit_rows
from simtune.wording import counted

_PAIR_BYTES = 16 << 20
_GROUP = 16


@dataclass(frozen=True)
class Neighbours:
    """The most similar tasks of each task, the nearest first.

    Attributes:
        index_NK: rows of the tasks searched, int64; equally similar ones by row.
        similarity_NK: their cosine similarity, float64.
    """

    index_NK: np.ndarray
    similarity_NK: np.ndarray


@dataclass(frozen=True)
class SimilarPairs:
    """SimilarPairs of tasks, the most similar first, equally similar ones by their rows.

    Attributes:
        first_P: row in the first set, int64.
        second_P: row in the second set, int64; within one set always the larger of the two.
        similarity_P: cosine similarity, float64.
    """

    first_P: np.ndarray
    second_P: np.ndarray
    similarity_P: np.ndarray

    def __len__(self) -> int:
        return len(self.first_P)


def top_neighbours(
    vectors_ND: np.ndarray,
    k: int,
    other_MD: np.ndarray | None = None,
    map_blocks: MapBlocks = map_blocks_here,
) -> Neighbours:
    """The `k` most similar other tasks of each task, or all there are where they are fewer.

    Args:
        vectors_ND: [N, D] of any length; a zero vector has similarity 0 to everything.
        k: neighbours of each task, 0 or more.
        other_MD: where to search, [M, D]; by default among `vectors_ND`, a task itself left out.
        map_blocks: runs the blocks, here or on a cluster.

    Returns:
        The same for the same vectors, wherever the blocks run; ties go to the lower row.

    Raises:
        ValueError: a vector contains NaN or an infinity, widths differ, or `k` is negative.
    """
    if k < 0:
        raise ValueError(f"k must be 0 or more, not {k}")
    within = other_MD is None
    arrays, num_columns = _arrays(vectors_ND, other_MD)
    k = min(k, max(0, num_columns - within))
    index_NK = np.zeros((len(vectors_ND), k), dtype=np.int64)
    similarity_NK = np.zeros((len(vectors_ND), k))
    if k:
        ranges = block_ranges(len(vectors_ND), num_columns)
        results = map_blocks(partial(_block_neighbours, k=k, within=within), arrays, ranges)
        for (begin, end), (index_RK, similarity_RK) in zip(ranges, results, strict=True):
            index_NK[begin:end], similarity_NK[begin:end] = index_RK, similarity_RK
    return Neighbours(index_NK, similarity_NK)


def near_duplicates(
    vectors_ND: np.ndarray,
    threshold: float,
    other_MD: np.ndarray | None = None,
    map_blocks: MapBlocks = map_blocks_here,
) -> SimilarPairs:
    """All pairs with a similarity of at least `threshold`: of different tasks, or of one task of each set.

    Args:
        vectors_ND: [N, D] of any length; a zero vector has similarity 0 to everything.
        threshold: cosine similarity; a pair that meets it to the bit counts.
        other_MD: the second set, [M, D]; by default pairs lie within `vectors_ND`, each once.
        map_blocks: runs the blocks, here or on a cluster.

    Raises:
        ValueError: a vector contains NaN or an infinity, or widths differ.
    """
    arrays, num_columns = _arrays(vectors_ND, other_MD)
    ranges = block_ranges(len(vectors_ND), num_columns)
    work = partial(_block_pairs, threshold=float(threshold), within=other_MD is None)
    found = list(map_blocks(work, arrays, ranges))
    if not found:
        nothing = np.zeros(0, dtype=np.int64)
        return SimilarPairs(nothing, nothing, np.zeros(0))
    first_P, second_P, similarity_P = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order_P = np.lexsort((second_P, first_P, -similarity_P))
    return SimilarPairs(first_P[order_P], second_P[order_P], similarity_P[order_P])


def _arrays(vectors_ND: np.ndarray, other_MD: np.ndarray | None) -> tuple[dict[str, np.ndarray], int]:
    """What the blocks need, and the number of columns; a single set is stored once."""
    if other_MD is not None and vectors_ND.shape[1] != other_MD.shape[1]:
        raise ValueError(
            f"the vectors have {counted(vectors_ND.shape[1], 'dimension')}, but those to search have "
            f"{other_MD.shape[1]}"
        )
    unit_ND = unit_rows(vectors_ND)
    arrays = {"screen_ND": unit_ND.astype(np.float32), "unit_ND": unit_ND}
    if other_MD is None:
        return arrays, len(vectors_ND)
    unit_MD = unit_rows(other_MD)
    return arrays | {"screen_MD": unit_MD.astype(np.float32), "unit_MD": unit_MD}, len(other_MD)


def _margin(num_dimensions: int) -> float:
    """Twice the largest error of a float32 dot product of unit vectors, whatever its order of summation."""
    return float((num_dimensions + 8) * 2.0**-23)


def _block_neighbours(
    arrays: Mapping[str, np.ndarray], begin: int, end: int, k: int, within: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The neighbours of some rows, int64 and float64 [R, K]; `k` is at most the number of columns to choose from."""
    screen_RD = arrays["screen_ND"][begin:end]
    screen_RM = screen_RD @ arrays["screen_ND" if within else "screen_MD"].T
    if within:
        screen_RM[np.arange(end - begin), np.arange(begin, end)] = -np.inf
    least_R = _kth_largest(screen_RM, k) - 2 * _margin(screen_RD.shape[1])
    row_P, column_P = np.nonzero(screen_RM >= least_R[:, None])
    if within:
        # With every other task wanted the bound is below all numbers, not below the task itself.
        other_P = column_P != row_P + begin
        row_P, column_P = row_P[other_P], column_P[other_P]
    unit_MD = arrays["unit_ND" if within else "unit_MD"]
    similarity_P = _exact(arrays["unit_ND"], row_P + begin, unit_MD, column_P)
    order_P = np.lexsort((column_P, -similarity_P, row_P))
    first_R = np.searchsorted(row_P, np.arange(end - begin))
    kept_RK = order_P[first_R[:, None] + np.arange(k)]
    return column_P[kept_RK], similarity_P[kept_RK]


def _kth_largest(screen_RM: np.ndarray, k: int) -> np.ndarray:
    """A number of each row that at least `k` columns reach, close to the largest such number; float64 [R]."""
    num_rows, num_columns = screen_RM.shape
    num_groups = num_columns // _GROUP
    if num_groups >= 8 * k:
        # The maxima of groups stand for their columns: k groups reach it, so k columns do, for a tenth of the time.
        grouped_RG = screen_RM[:, : num_groups * _GROUP].reshape(num_rows, _GROUP, num_groups).max(axis=1)
    else:
        grouped_RG = screen_RM
    position = grouped_RG.shape[1] - k
    kth_R: np.ndarray = np.partition(grouped_RG, position, axis=1)[:, position].astype(np.float64)
    return kth_R


def _block_pairs(
    arrays: Mapping[str, np.ndarray], begin: int, end: int, threshold: float, within: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and similarities of the pairs that some rows are the first of."""
    screen_RD = arrays["screen_ND"][begin:end]
    # Within one set the rows before the block have been compared with it already.
    first_column = begin if within else 0
    screen_RM = screen_RD @ arrays["screen_ND" if within else "screen_MD"][first_column:].T
    row_P, column_P = np.nonzero(screen_RM >= threshold - _margin(screen_RD.shape[1]))
    row_P, column_P = row_P + begin, column_P + first_column
    if within:
        later_P = column_P > row_P
        row_P, column_P = row_P[later_P], column_P[later_P]
    similarity_P = _exact(arrays["unit_ND"], row_P, arrays["unit_ND" if within else "unit_MD"], column_P)
    kept_P = similarity_P >= threshold
    return row_P[kept_P], column_P[kept_P], similarity_P[kept_P]


def _exact(one_ND: np.ndarray, row_P: np.ndarray, two_MD: np.ndarray, column_P: np.ndarray) -> np.ndarray:
    """Similarities of pairs of unit rows, float64 [P], each by itself; exactly 1 for equal rows that are not zero."""
    similarity_P = np.empty(len(row_P))
    step = max(1, _PAIR_BYTES // (8 * max(1, one_ND.shape[1])))
    for begin in range(0, len(row_P), step):
        part = slice(begin, begin + step)
        one_PD, two_PD = one_ND[row_P[part]], two_MD[column_P[part]]
        found_P = np.clip((one_PD * two_PD).sum(axis=1), -1.0, 1.0)
        close_P = np.flatnonzero(found_P > 1 - 1e-9)
        found_P[close_P[(one_PD[close_P] == two_PD[close_P]).all(axis=1)]] = 1.0
        similarity_P[part] = found_P
    return similarity_P
