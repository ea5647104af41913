"""Both forms of the graph have the cosines of float64, within the documented error."""

import numpy as np
import pytest
from graph_forms import build_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from simtune.graph.similarity import SimilarityGraph


def unit(vector):
    vector = np.asarray(vector, dtype=float)
    return vector / (np.linalg.norm(vector) or 1.0)


def both_forms(vectors_ND, test_TD=None, **options):
    names = [f"task{number:04}" for number in range(len(vectors_ND))]
    return [
        build_graph(names, ["X"] * len(names), vectors_ND, test_TD, dense=dense, **options) for dense in (True, False)
    ]


@st.composite
def pools(draw, max_tasks=9):
    """Names, categories, vectors (some equal, some zero) and test vectors."""
    num_tasks = draw(st.integers(1, max_tasks))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    vectors_ND = generator.normal(size=(num_tasks, 5)).astype(np.float32)
    for task in range(num_tasks):
        vectors_ND[task] = vectors_ND[draw(st.integers(0, task))]
    if draw(st.booleans()):
        vectors_ND[draw(st.integers(0, num_tasks - 1))] = 0.0
    names = [f"task{number:03}" for number in generator.permutation(num_tasks)]
    categories = [draw(st.sampled_from("ABC")) for _ in names]
    return names, categories, vectors_ND, generator.normal(size=(draw(st.integers(1, 3)), 5))


@settings(max_examples=40, deadline=None)
@given(pools(), st.booleans())
def test_every_similarity_is_the_cosine_and_one_to_itself(pool, dense):
    names, _, vectors_ND, test_TD = pool
    graph = build_graph(*pool, dense=dense)
    of_name = dict(zip(names, map(unit, vectors_ND), strict=True))
    units = [of_name[name] for name in graph.names]
    expected = np.array([[1.0 if a is b else a @ b for b in units] for a in units])
    everyone = np.arange(len(graph))
    tolerance = graph.row_error + 1e-12
    np.testing.assert_allclose(graph.rows(everyone), expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose([graph.row(task) for task in everyone], expected, rtol=0, atol=tolerance)
    off = ~np.eye(len(graph), dtype=bool)
    np.testing.assert_allclose(graph.cosine(everyone, everyone)[off], expected[off], rtol=0, atol=1e-7)
    np.testing.assert_allclose(graph.total_similarity_N, expected.sum(axis=1) - 1.0, rtol=0, atol=1e-6)
    tests = np.array([[unit(test) @ vector for vector in units] for test in test_TD])
    np.testing.assert_allclose(graph.test_similarity_TN, tests, rtol=0, atol=tolerance)
    np.testing.assert_allclose(graph.mean_vector_D, np.mean(units, axis=0), rtol=0, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(pools(), st.data())
def test_the_order_of_the_input_changes_no_bit(pool, data):
    names, categories, vectors_ND, test_TD = pool
    order = data.draw(st.permutations(range(len(names))))
    graph = build_graph(*pool)
    shuffled = build_graph(
        [names[index] for index in order], [categories[index] for index in order], vectors_ND[order], test_TD
    )
    assert graph.names == shuffled.names == tuple(sorted(names))
    assert graph.categories == shuffled.categories
    np.testing.assert_array_equal(graph.similarity_NN, shuffled.similarity_NN)
    np.testing.assert_array_equal(graph.test_similarity_TN, shuffled.test_similarity_TN)


@pytest.mark.parametrize("dimensions", [2, 384, 1024])
def test_rows_of_the_large_form_stay_within_their_error(dimensions):
    generator = np.random.default_rng(dimensions)
    # All in a narrow cone, where float32 sums are at their worst.
    vectors_ND = (generator.normal(size=(300, dimensions)) * 0.05 + 1.0).astype(np.float32)
    dense, large = both_forms(vectors_ND)
    assert large.vectors_ND.dtype == np.float32
    assert 0 < large.row_error < 1e-5
    assert dense.row_error == 0
    everyone = np.arange(300)
    exact_NN = large.exact(everyone) @ large.exact(everyone).T
    assert np.abs(large.rows(everyone) - exact_NN).max() <= large.row_error
    np.testing.assert_allclose(large.cosine([5, 9], [7, 8]), exact_NN[np.ix_([5, 9], [7, 8])], rtol=0, atol=1e-14)
    np.testing.assert_allclose(large.rows(everyone), dense.similarity_NN, rtol=0, atol=large.row_error)
    np.testing.assert_allclose(large.total_similarity_N, dense.total_similarity_N, rtol=0, atol=1e-4)


def test_unit_rows_of_float32_are_the_same_vectors_in_both_forms():
    vectors_ND = np.random.default_rng(1).normal(size=(200, 64))
    vectors_ND = (vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)).astype(np.float32)
    dense, large = both_forms(vectors_ND)
    np.testing.assert_array_equal(large.vectors_ND, vectors_ND)
    np.testing.assert_array_equal(large.exact(np.arange(200)), dense.vectors_ND)


def test_a_large_graph_has_no_matrix_and_the_default_depends_on_the_size(monkeypatch):
    monkeypatch.setattr("simtune.graph.similarity.DENSE_TASKS", 3)
    names = ["a", "b", "c", "d"]
    assert SimilarityGraph.build(names[:3], "XXX", np.eye(3)).dense
    large = SimilarityGraph.build(names, "XXXX", np.eye(4))
    assert not large.dense
    for graph in (large, large.centred, large.without_test_tasks):
        with pytest.raises(ValueError, match="4 x 4 similarities is too large"):
            _ = graph.similarity_NN


@pytest.mark.parametrize("dense", [True, False])
def test_centred_cosines_are_those_of_vectors_without_the_mean(dense):
    generator = np.random.default_rng(3)
    vectors_ND, test_TD = generator.normal(size=(40, 8)) + 2.0, generator.normal(size=(5, 8)) + 1.0
    names = [f"task{number:04}" for number in range(40)]
    graph = build_graph(names, ["X"] * 40, vectors_ND, test_TD, dense=dense)
    units = np.array([unit(vector) for vector in vectors_ND])
    mean = units.mean(axis=0)
    shifted = np.array([unit(vector - mean) for vector in units])
    tests = np.array([unit(unit(vector) - mean) for vector in test_TD])
    expected = shifted @ shifted.T
    centred = graph.centred
    assert (centred.is_centred, centred.centred is centred) == (True, True)
    np.testing.assert_allclose(centred.rows(np.arange(40)), expected, rtol=0, atol=centred.row_error + 1e-12)
    np.testing.assert_allclose(centred.test_similarity_TN, tests @ shifted.T, rtol=0, atol=centred.row_error + 1e-12)


@pytest.mark.parametrize("dense", [True, False])
def test_equal_vectors_have_no_direction_once_centred(dense):
    graph = both_forms(np.tile(np.random.default_rng(0).normal(size=7), (5, 1)))[not dense]
    np.testing.assert_array_equal(graph.centred.vectors_ND, np.zeros((5, 7)))
    np.testing.assert_array_equal(graph.centred.rows(np.arange(5)), np.eye(5))


def test_equal_vectors_have_equal_rows_to_the_bit():
    # A matrix product alone rounds them by their place in it.
    vectors_ND = np.random.default_rng(0).normal(size=(101, 384)).astype(np.float32)
    vectors_ND[[50, 100]] = vectors_ND[1]
    similarity_NN = both_forms(vectors_ND)[0].similarity_NN
    np.testing.assert_array_equal(similarity_NN[1], similarity_NN[50])
    np.testing.assert_array_equal(similarity_NN[1], similarity_NN[100])
    np.testing.assert_array_equal(similarity_NN, similarity_NN.T)
    assert similarity_NN.max() == similarity_NN[1, 100] == 1.0


@pytest.mark.parametrize("dense", [True, False])
def test_a_zero_vector_has_similarity_0_to_all_others(dense):
    vectors_ND = np.array([[0.0, -0.0], [1, 0], [0, 0]])
    graph = build_graph("abc", "XXX", vectors_ND, np.array([[1.0, 0.0]]), dense=dense)
    np.testing.assert_array_equal(graph.rows(np.arange(3)), np.eye(3))
    np.testing.assert_array_equal(graph.test_similarity_TN, [[0, 1, 0]])
    np.testing.assert_array_equal(graph.total_similarity_N, np.zeros(3))


def test_a_graph_without_test_tasks_has_everything_else():
    vectors_ND = np.random.default_rng(0).normal(size=(6, 3))
    graph = build_graph("abcdef", "XXYYZZ", vectors_ND, vectors_ND[:2], sources=[("s",)] * 6)
    pool = graph.without_test_tasks
    assert pool.test_vectors_TD.shape == (0, 3)
    assert not graph.has_matrix
    assert (pool.names, pool.categories, pool.sources) == (graph.names, graph.categories, graph.sources)
    assert pool.similarity_NN is graph.similarity_NN
    assert graph.has_matrix
    assert not graph.centred.has_matrix
    assert pool.centred.test_vectors_TD.shape == (0, 3)


@pytest.mark.parametrize("dense", [True, False])
def test_no_tasks_and_one_task_are_graphs(dense):
    none = build_graph([], [], np.zeros((0, 3)), dense=dense)
    assert (len(none), none.total_similarity_N.shape, none.centred.vectors_ND.shape) == (0, (0,), (0, 3))
    one = build_graph(["a"], ["X"], np.ones((1, 3)), dense=dense)
    assert (one.row(0), one.index, one.sources) == ([1.0], {"a": 0}, ((),))
    assert one.total_similarity_N == pytest.approx([0.0], abs=1e-6)
    assert [(block.start, block.stop) for block in one.blocks()] == [(0, 1)]


def test_sources_and_categories_move_with_their_task():
    graph = build_graph("cab", ["C", "A", "B"], np.eye(3), sources=[["s", "t"], [], ["u"]])
    assert (graph.names, graph.categories, graph.sources) == (
        ("a", "b", "c"),
        ("A", "B", "C"),
        ((), ("u",), ("s", "t")),
    )
    np.testing.assert_array_equal(graph.vectors_ND, np.eye(3)[[1, 2, 0]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("where", "who"), [("pool", "task 'b'"), ("test", "number 1 of the target")])
def test_a_vector_that_is_not_finite_is_refused_by_name(bad, where, who):
    pool_ND, test_TD = np.ones((3, 3)), np.ones((2, 3))
    (pool_ND if where == "pool" else test_TD)[1, 2] = bad
    with pytest.raises(ValueError, match=f"{who} contains NaN or an infinity"):
        build_graph("abc", "XXX", pool_ND, test_TD)


def test_duplicate_names_and_other_dimensions_are_refused():
    with pytest.raises(ValueError, match="duplicate task name 'a'"):
        build_graph("aa", "XX", np.eye(2), np.eye(2))
    with pytest.raises(ValueError, match="2 dimensions, but the target's have 3"):
        build_graph("ab", "XX", np.eye(2), np.eye(3))


def test_blocks_cover_every_task_once(monkeypatch):
    monkeypatch.setattr("simtune.graph.similarity._BLOCK_BYTES", 8 * 10 * 3)
    graph = both_forms(np.random.default_rng(0).normal(size=(10, 4)))[1]
    for columns in (None, 7, 1000):
        assert [task for block in graph.blocks(columns) for task in range(10)[block]] == list(range(10))
    assert len(list(graph.blocks())) == 4
    np.testing.assert_allclose(graph.vectors_ND, both_forms(graph.vectors_ND)[0].vectors_ND, rtol=0, atol=1e-7)
