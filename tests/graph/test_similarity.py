from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtune.graph.similarity import SimilarityGraph, category_similarity, prefix_statistics


def unit(vector):
    vector = np.asarray(vector, dtype=float)
    return vector / (np.linalg.norm(vector) or 1.0)


@st.composite
def pools(draw, max_tasks=9):
    """Names, categories, vectors (some equal, some zero) and test vectors."""
    num_tasks = draw(st.integers(1, max_tasks))
    seed = draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)
    vectors_ND = generator.normal(size=(num_tasks, 5)).astype(np.float32)
    for task in range(num_tasks):
        vectors_ND[task] = vectors_ND[draw(st.integers(0, task))]
    if draw(st.booleans()):
        vectors_ND[draw(st.integers(0, num_tasks - 1))] = 0.0
    names = [f"task{number:03}" for number in generator.permutation(num_tasks)]
    categories = [draw(st.sampled_from("ABC")) for _ in names]
    return names, categories, vectors_ND, generator.normal(size=(draw(st.integers(1, 3)), 5))


@settings(max_examples=30, deadline=None)
@given(pools(), st.data())
def test_statistics_of_every_prefix_are_those_of_all_pairs(pool, data):
    names, categories, vectors_ND, test_TD = pool
    graph = SimilarityGraph.build(*pool)
    order = data.draw(st.permutations(range(len(names))))
    sizes = range(1, len(names) + 3)
    statistics = prefix_statistics(graph, order, sizes)
    of_name = dict(zip(names, zip(map(unit, vectors_ND), categories, strict=True), strict=True))
    for size in sizes:
        chosen = [of_name[graph.names[index]] for index in order[:size]]
        cosines = [float(first @ second) for (first, _), (second, _) in combinations(chosen, 2)]
        found = statistics[size]
        if cosines:
            assert found.mean_similarity == pytest.approx(np.mean(cosines), abs=1e-12)
            assert found.max_similarity == pytest.approx(max(cosines), abs=1e-12)
        else:
            assert found.mean_similarity is found.max_similarity is None
        assert found.num_categories == len({category for _, category in chosen})
        nearest = [max(float(unit(test) @ vector) for vector, _ in chosen) for test in test_TD]
        assert found.coverage == pytest.approx(np.mean(nearest), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(pools(), st.data())
def test_the_order_of_the_input_changes_no_bit(pool, data):
    names, categories, vectors_ND, test_TD = pool
    order = data.draw(st.permutations(range(len(names))))
    graph = SimilarityGraph.build(*pool)
    shuffled = SimilarityGraph.build(
        [names[index] for index in order], [categories[index] for index in order], vectors_ND[order], test_TD
    )
    assert graph.names == shuffled.names == tuple(sorted(names))
    assert graph.categories == shuffled.categories
    np.testing.assert_array_equal(graph.similarity_NN, shuffled.similarity_NN)
    np.testing.assert_array_equal(graph.test_similarity_TN, shuffled.test_similarity_TN)


@settings(max_examples=25, deadline=None)
@given(pools())
def test_category_similarity_is_the_cosine_of_the_mean_vectors(pool):
    names, categories, vectors_ND, test_TD = pool
    vectors_ND[~vectors_ND.any(axis=1)] = 1.0
    found, similarity_CC = category_similarity(SimilarityGraph.build(names, categories, vectors_ND, test_TD))
    assert found == tuple(sorted(set(categories)))
    members = [[unit(v) for v, other in zip(vectors_ND, categories, strict=True) if other == c] for c in found]
    means = [unit(np.mean(vectors, axis=0)) for vectors in members]
    np.testing.assert_allclose(similarity_CC, [[a @ b for b in means] for a in means], atol=1e-9)


def test_a_category_whose_vectors_cancel_is_like_nothing():
    vectors_ND = np.array([[0.1, 0.7], [-0.1, -0.7], [0.3, 0.2]])
    graph = SimilarityGraph.build("abc", "XXY", vectors_ND, vectors_ND[:1])
    np.testing.assert_allclose(category_similarity(graph)[1], [[0, 0], [0, 1]], atol=1e-9)


def test_equal_vectors_have_equal_rows_to_the_bit():
    # A matrix product alone rounds them by their place in it.
    vectors_ND = np.random.default_rng(0).normal(size=(101, 384)).astype(np.float32)
    vectors_ND[[50, 100]] = vectors_ND[1]
    names = [f"task{number:03}" for number in range(101)]
    similarity_NN = SimilarityGraph.build(names, names, vectors_ND, vectors_ND).similarity_NN
    np.testing.assert_array_equal(similarity_NN[1], similarity_NN[50])
    np.testing.assert_array_equal(similarity_NN[1], similarity_NN[100])
    np.testing.assert_array_equal(similarity_NN, similarity_NN.T)
    assert similarity_NN.max() == similarity_NN[1, 100] == 1.0


def test_a_zero_vector_is_like_nothing_but_itself():
    graph = SimilarityGraph.build("abc", "XXX", np.array([[0, 0], [1, 0], [0, 0]]), np.array([[1.0, 0.0]]))
    np.testing.assert_array_equal(graph.similarity_NN, np.eye(3))
    np.testing.assert_array_equal(graph.test_similarity_TN, [[0, 1, 0]])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["pool", "test"])
def test_a_vector_that_is_not_finite_is_refused(bad, where):
    pool_ND, test_TD = np.ones((2, 3)), np.ones((1, 3))
    (pool_ND if where == "pool" else test_TD)[0, 1] = bad
    with pytest.raises(ValueError, match="NaN or an infinity"):
        SimilarityGraph.build("ab", "XX", pool_ND, test_TD)


def test_a_name_that_stands_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        SimilarityGraph.build("aa", "XX", np.eye(2), np.eye(2))
