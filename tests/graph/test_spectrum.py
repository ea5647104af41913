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
