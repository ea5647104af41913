import sys
import threading
from itertools import count

import numpy as np
import pytest

from simtune.graph.spectrum import eigenvalues


@pytest.mark.parametrize("size", [0, 1, 2, 7, 60])
def test_eigenvalues_are_numpys(size):
    half = np.random.default_rng(size).normal(size=(size, size))
    matrix = half + half.T
    before = matrix.copy()
    np.testing.assert_allclose(eigenvalues(matrix), np.linalg.eigvalsh(matrix), atol=1e-12)
    np.testing.assert_array_equal(matrix, before)


def test_a_matrix_without_eigenvalues_is_an_error():
    with pytest.raises(np.linalg.LinAlgError):
        eigenvalues(np.full((5, 5), np.nan))


def test_another_thread_runs_meanwhile():
    half = np.random.default_rng(0).normal(size=(384, 384))
    matrix = half @ half.T
    counter, ended = count(), threading.Event()

    def counting():
        while not ended.wait(0.0001):
            next(counter)

    before = sys.getswitchinterval()
    thread = threading.Thread(target=counting)
    # Longer than the test: a thread gets the lock only where another one releases it.
    sys.setswitchinterval(60)
    try:
        thread.start()

        def num_counted():
            first = next(counter)
            eigenvalues(matrix)
            return next(counter) - first - 1

        assert any(num_counted() for _ in range(100))
    finally:
        ended.set()
        sys.setswitchinterval(before)
        thread.join()
