import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from simtune.graph import layout
from simtune.graph.layout import layout_2d

GROUPS = np.random.default_rng(0).normal(size=(3, 16))


def grouped(num_tasks):
    """Unit vectors around three directions, in turn."""
    vectors_ND = GROUPS[np.arange(num_tasks) % 3] + 0.2 * np.random.default_rng(1).normal(size=(num_tasks, 16))
    return vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)


@pytest.mark.parametrize("num_tasks", [0, 1, 2, 3, 4, 5, 12])
@pytest.mark.parametrize(
    "change",
    [lambda v: v, lambda v: 0 * v, lambda v: v[:1].repeat(len(v), axis=0), lambda v: v[:, :1], lambda v: v[:2]],
    ids=["different", "zero", "equal", "one dimension", "two"],
)
def test_small_and_degenerate_sets_have_finite_places(num_tasks, change):
    vectors_ND = change(grouped(num_tasks)).astype(np.float32)
    placed_N2 = layout_2d(vectors_ND)
    assert placed_N2.shape == (len(vectors_ND), 2)
    assert placed_N2.dtype == np.float64
    assert np.isfinite(placed_N2).all()
    if len(vectors_ND) and (vectors_ND == vectors_ND[0]).all():
        assert not placed_N2.any()


def test_similar_tasks_stand_together_and_threads_change_no_byte():
    vectors_ND = grouped(60)
    with threadpool_limits(limits=1):
        one_N2 = layout_2d(vectors_ND)
    np.testing.assert_array_equal(one_N2, layout_2d(vectors_ND))
    distance_NN = np.linalg.norm(one_N2[:, None] - one_N2, axis=2) + np.diag(np.full(60, np.inf))
    np.testing.assert_array_equal(distance_NN.argmin(axis=1) % 3, np.arange(60) % 3)


@pytest.mark.parametrize("num_tasks", [3, 10, 40])
def test_principal_components_keep_what_a_plane_can(monkeypatch, num_tasks):
    monkeypatch.setattr(layout, "_MAX_TSNE_TASKS", 3)
    vectors_ND = grouped(num_tasks)
    placed_N2 = layout_2d(vectors_ND)
    centred_ND = vectors_ND - vectors_ND.mean(axis=0)
    squares_D = np.linalg.eigvalsh(np.cov(centred_ND.T, bias=True))[::-1]
    np.testing.assert_allclose((placed_N2**2).mean(axis=0), squares_D[:2], atol=1e-9)
    assert abs((placed_N2[:, 0] * placed_N2[:, 1]).mean()) < 1e-9
    assert abs(placed_N2.mean(axis=0)).max() < 1e-9
    # A mirror image would be as good; which one it is must not depend on a library.
    axes_2D = np.linalg.lstsq(placed_N2, centred_ND, rcond=None)[0]
    assert (axes_2D[[0, 1], abs(axes_2D).argmax(axis=1)] > 0).all()
