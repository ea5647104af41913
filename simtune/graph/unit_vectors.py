"""Vectors of length 1, for the whole package: the cosine of two of them is their dot product.

A vector without a direction (zero, or all but rounding) becomes zero and has similarity 0 to everything.

Legend: N rows, M some of them, D dimensions.
"""

from __future__ import annotations

import numpy as np

from simtune.wording import counted

_BLOCK_BYTES = 1 << 26
# Squares of numbers beyond 2**400 or below 2**-400 leave float64.
_EXTREME_EXPONENT = 400


def unit_rows(vectors_ND: np.ndarray) -> np.ndarray:
    """Rows of length 1 in float64 [N, D]; a zero row stays zero. Numbers of any size are allowed.

    Raises:
        ValueError: a vector contains NaN or an infinity.
    """
    rows_ND: np.ndarray = np.array(vectors_ND, dtype=np.float64, order="C")
    bad = rows_not_finite(rows_ND)
    if len(bad):
        raise ValueError(f"vector {int(bad[0])} contains NaN or an infinity ({counted(len(bad), 'such vector')})")
    # A power of two brings extreme numbers back without rounding.
    exponent_N = np.frexp(np.abs(rows_ND).max(axis=1, initial=0.0))[1]
    extreme_N = np.abs(exponent_N) > _EXTREME_EXPONENT
    rows_ND[extreme_N] = np.ldexp(rows_ND[extreme_N], -exponent_N[extreme_N, None])
    return normalised(rows_ND)


def normalised(vectors_MD: np.ndarray) -> np.ndarray:
    """Finite rows of ordinary size in float64, divided by their length; zero rows stay zero."""
    # Summed pairwise: more accurate than a running sum, and the same for a row whatever rows are around it.
    lengths_M = np.sqrt((vectors_MD * vectors_MD).sum(axis=1))
    rows_MD: np.ndarray = vectors_MD / np.where(lengths_M > 0, lengths_M, 1.0)[:, None]
    return rows_MD


def directions(vectors_MD: np.ndarray, otherwise_MD: np.ndarray, shortest: float) -> np.ndarray:
    """Rows of length 1 in float64; where a vector is no longer than `shortest`, the row of `otherwise_MD` instead."""
    squares_M = np.einsum("md,md->m", vectors_MD, vectors_MD)
    return np.where(squares_M[:, None] > shortest**2, normalised(vectors_MD), otherwise_MD)


def unit_rows_in_order(vectors_ND: np.ndarray, order_N: np.ndarray, dtype: type) -> np.ndarray:
    """Finite rows in this order with length 1, normalised in blocks so that no second copy in float64 is made.

    Float32 rows whose length is 1 to rounding already are left as they are, so that normalising them again in float64
    gives the same vectors whichever precision they are stored in.
    """
    unit_ND: np.ndarray = np.empty(vectors_ND.shape, dtype=dtype)
    for block in _blocks(*vectors_ND.shape):
        given_MD = vectors_ND[order_N[block]]
        unit_MD = normalised(given_MD.astype(np.float64))
        if dtype == vectors_ND.dtype == np.float32:
            near_M = np.abs(unit_MD - given_MD).max(axis=1, initial=0.0) < 1e-6
            unit_MD = np.where(near_M[:, None], given_MD, unit_MD)
        unit_ND[block] = unit_MD
    return unit_ND


def centred_rows(vectors_ND: np.ndarray, mean_D: np.ndarray) -> np.ndarray:
    """Vectors minus the mean, with length 1, or 0 where nothing is left, in the vectors' own precision."""
    centred_ND = np.empty_like(vectors_ND)
    for block in _blocks(*vectors_ND.shape):
        shifted_MD = vectors_ND[block].astype(np.float64) - mean_D
        # Equal vectors leave nothing but rounding errors, which have no direction.
        centred_ND[block] = directions(shifted_MD, np.zeros_like(shifted_MD), 1e-10)
    return centred_ND


def rows_not_finite(vectors_ND: np.ndarray) -> np.ndarray:
    """Numbers of the rows that contain NaN or an infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(vectors_ND.sum(dtype=np.float64)):
            return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(~np.isfinite(vectors_ND).all(axis=1))


def _blocks(num_rows: int, num_columns: int) -> list[slice]:
    step = max(1, _BLOCK_BYTES // (8 * max(1, num_columns)))
    return [slice(begin, min(begin + step, num_rows)) for begin in range(0, num_rows, step)]
