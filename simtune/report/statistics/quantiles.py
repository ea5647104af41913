"""Student's and the normal distribution, from `scipy.special`: `scipy.stats` takes most of a second to import."""

from __future__ import annotations

import numpy as np
from scipy import special


def student_quantile(share: float | np.ndarray, freedom: float) -> np.ndarray:
    """The value that Student's t stays below with probability `share`."""
    return np.asarray(special.stdtrit(freedom, share))


def student_tail(value: float | np.ndarray, freedom: float) -> np.ndarray:
    """The probability of at least this value."""
    return np.asarray(special.stdtr(freedom, -np.asarray(value)))


def normal_quantile(share: float) -> float:
    """The value that a standard normal variable stays below with probability `share`."""
    return float(special.ndtri(share))
