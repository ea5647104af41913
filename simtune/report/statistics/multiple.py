"""Corrections for many comparisons: some of a hundred differences look real by chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979): the chance of even one false finding stays below the level."""
    order = np.argsort(p_values, kind="stable")
    number = len(p_values)
    sorted_p = np.asarray(p_values, dtype=np.float64)[order]
    adjusted = np.minimum(1.0, np.maximum.accumulate(sorted_p * (number - np.arange(number))))
    return _unsorted(adjusted, order)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's correction (1995): the expected share of false findings stays below the level."""
    order = np.argsort(p_values, kind="stable")
    number = len(p_values)
    sorted_p = np.asarray(p_values, dtype=np.float64)[order]
    scaled = sorted_p * number / np.arange(1, number + 1)
    adjusted = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return _unsorted(adjusted, order)


def _unsorted(values: np.ndarray, order: np.ndarray) -> list[float]:
    found = np.empty(len(values))
    found[order] = values
    return [float(value) for value in found]
