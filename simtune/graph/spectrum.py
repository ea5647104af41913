"""Eigenvalues without the interpreter's lock.

numpy (2.3, 2.4) releases the lock in `eigvalsh` only above 500 rows, and scipy (1.17) never does. Here a matrix has as
many rows as tasks or as an embedding has dimensions (384 of the default encoder), whichever is fewer. Statistics in a
thread would then stop the choosing beside them: all strategies on a pool take longer with `numpy.linalg.eigvalsh`
(`benchmarks/selection.py --part pool`), and as long with this call if it keeps the lock. scipy publishes LAPACK's C
functions for compiled callers (`scipy.linalg.cython_lapack`), and a foreign function call releases the lock.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np

_SYEVD_ARGUMENTS = 11


def eigenvalues(symmetric_NN: np.ndarray) -> np.ndarray:
    """Eigenvalues of a symmetric matrix, float64 [N], ascending; those of `numpy.linalg.eigvalsh` up to rounding.

    Raises:
        numpy.linalg.LinAlgError: they were not found, for example because the matrix contains NaN.
    """
    matrix_NN = np.array(symmetric_NN, dtype=np.float64, order="F")
    size = len(matrix_NN)
    if not size:
        return np.empty(0)
    values_N, work, integer_work = np.empty(size), np.empty(max(1, 64 * size)), np.empty(1, dtype=np.intc)
    numbers = [ctypes.c_int(value) for value in (size, len(work), len(integer_work), 0)]
    order, work_size, integer_size, failed = map(ctypes.byref, numbers)
    _syevd()(
        ctypes.c_char_p(b"N"),
        ctypes.c_char_p(b"L"),
        order,
        matrix_NN.ctypes,
        order,
        values_N.ctypes,
        work.ctypes,
        work_size,
        integer_work.ctypes,
        integer_size,
        failed,
    )
    if numbers[-1].value:
        raise np.linalg.LinAlgError("the eigenvalue computation did not converge")
    return values_N


@cache
def _syevd() -> Callable[..., None]:
    from scipy.linalg import cython_lapack

    capsule = cython_lapack.__pyx_capi__["dsyevd"]
    name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))(capsule)
    address = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )(capsule, name)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * _SYEVD_ARGUMENTS)(address)
