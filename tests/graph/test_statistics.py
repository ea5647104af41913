"""Statistics of sets are those of all pairs, in whatever order the pairs are visited."""

from itertools import combinations

import numpy as np
import pytest
from graph_forms import build_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from simtune.graph import pair_extremes, statistics
from simtune.graph.statistics import _effective_ranks, pool_statistics, prefix_statistics


def unit(vector):
    vector = np.asarray(vector, dtype=float)
    return vector / (np.linalg.norm(vector) or 1.0)


def brute(graph, tasks):
    """All fields, from float64 vectors and loops over pairs."""
    vectors, tests = ([np.asarray(v, dtype=float) for v in held] for held in (graph.vectors_ND, graph.test_vectors_TD))
    mean = np.mean(vectors, axis=0)
    rest = sorted(set(range(len(graph))) - set(tasks))

    def centred(vector):
        # Between equal vectors only rounding is left.
        return unit(vector - mean) if np.linalg.norm(vector - mean) > 1e-9 else 0 * mean

    def by_cosine(vectors, tests):
        own = [float(vectors[a] @ vectors[b]) for a, b in combinations(tasks, 2)]
        values = np.linalg.eigvalsh([[vectors[a] @ vectors[b] for b in tasks] for a in tasks])
        share = values[values > 1e-12] / values[values > 1e-12].sum()

        def coverage(others):
            return np.mean([max(other @ vectors[task] for task in tasks) for other in others]) if len(others) else None

        return {
            "mean_similarity": np.mean(own) if own else None,
            "min_similarity": min(own, default=None),
            "max_similarity": max(own, default=None),
            "p90_similarity": np.quantile(own, 0.9) if own else None,
            "effective_rank": np.exp(-np.sum(share * np.log(share))) if len(share) else 0.0,
            "coverage": coverage(tests),
            "coverage_rest": coverage([vectors[task] for task in rest]),
        }

    of_centred = by_cosine([*map(centred, vectors)], [*map(centred, tests)])
    return {
        **by_cosine(vectors, tests),
        **{f"{name}_centred": value for name, value in of_centred.items()},
        "num_categories": len({graph.categories[task] for task in tasks}),
        "num_sources": len({source for task in tasks for source in graph.sources[task]}),
    }


def drawn(num_tasks, seed, dense=True, dimensions=6, num_tests=4, num_equal=0):
    generator = np.random.default_rng(seed)
    vectors_ND = (generator.normal(size=(num_tasks, dimensions)) + 0.3).astype(np.float32)
    vectors_ND[num_tasks - num_equal :] = vectors_ND[0]
    return build_graph(
        [f"task{number:04}" for number in range(num_tasks)],
        [f"c{number}" for number in generator.integers(0, 5, num_tasks)],
        vectors_ND,
        generator.normal(size=(num_tests, dimensions)),
        [[f"s{number}" for number in generator.integers(0, 4, generator.integers(0, 3))] for _ in range(num_tasks)],
        dense=dense,
    )


def assert_same(found, expected, tolerance):
    assert vars(found).keys() == expected.keys()
    for field, value in expected.items():
        other = getattr(found, field)
        if value is None or isinstance(value, int):
            assert other == value, field
        else:
            assert other == pytest.approx(value, abs=tolerance), field


@pytest.mark.parametrize("blocks", ["at once", "by blocks"])
@pytest.mark.parametrize("dense", [True, False])
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_statistics_of_every_prefix_are_those_of_all_pairs(blocks, dense, data):
    num_tasks = data.draw(st.integers(1, 14))
    graph = drawn(num_tasks, data.draw(st.integers(0, 10**6)), dense, num_equal=data.draw(st.integers(0, num_tasks)))
    order = data.draw(st.permutations(range(num_tasks)))[: data.draw(st.integers(1, num_tasks))]
    sizes = data.draw(st.lists(st.integers(1, num_tasks + 2), min_size=1, max_size=5))
    with pytest.MonkeyPatch.context() as patch:
        if blocks == "by blocks":
            patch.setattr(pair_extremes, "_PAIRS_AT_ONCE", 3)
            patch.setattr(statistics, "_TASKS_AT_ONCE", 3)
        found = prefix_statistics(graph, order, sizes)
    assert found.keys() == set(sizes)
    for size in sizes:
        # Nine digits are kept; coverage_rest of a large graph is made of float32 rows.
        assert_same(found[size], brute(graph, order[:size]), 4e-6 if not dense else 1e-8)


@pytest.mark.parametrize("dense", [True, False])
def test_by_blocks_is_the_same_to_the_last_digit(dense, monkeypatch):
    graph = drawn(150, 3, dense, dimensions=40, num_equal=20)
    order = np.random.default_rng(0).permutation(150)
    sizes = [1, 2, 3, 70, 149, 150]
    at_once = prefix_statistics(graph, order, sizes)
    statistics._POOL_STATISTICS.clear()
    monkeypatch.setattr(pair_extremes, "_PAIRS_AT_ONCE", 2)
    monkeypatch.setattr(statistics, "_TASKS_AT_ONCE", 2)
    assert prefix_statistics(graph, order, sizes) == at_once


@pytest.mark.parametrize("num_tasks", [2, 3, 11, 12, 101])
def test_the_percentile_is_numpys(num_tasks):
    for seed in range(5):
        graph = drawn(num_tasks, seed, dimensions=3, num_equal=num_tasks // 3)
        own = graph.similarity_NN[np.tri(num_tasks, k=-1, dtype=bool)]
        assert pool_statistics(graph).p90_similarity == pytest.approx(np.quantile(own, 0.9), abs=1e-9)


def test_the_effective_rank_counts_directions():
    def rank(vectors):
        return pool_statistics(
            build_graph([f"{k:02}" for k in range(len(vectors))], "X" * len(vectors), np.array(vectors))
        ).effective_rank

    assert rank(np.eye(5)) == pytest.approx(5)
    assert rank(np.ones((5, 3))) == pytest.approx(1)
    assert rank(np.repeat(np.eye(3), 4, axis=0)) == pytest.approx(3)
    assert rank(np.zeros((2, 3))) == 0


def test_the_whole_pool_is_the_same_set_in_any_order():
    graph = drawn(30, 1)
    forth, back = (prefix_statistics(graph, order, [30])[30] for order in (range(30), range(29, -1, -1)))
    assert forth is back is pool_statistics(graph)
    assert forth.coverage_rest is None
    assert prefix_statistics(graph, range(10), [10, 11, 99])[99].coverage_rest is not None


@pytest.mark.parametrize("dense", [True, False])
def test_none_and_one_task_and_no_test_task(dense):
    graph = drawn(5, 0, dense, num_tests=0)
    assert prefix_statistics(graph, [], [1, 2]) == {}
    one = prefix_statistics(graph, [3], [1])[1]
    assert (one.mean_similarity, one.min_similarity, one.max_similarity, one.p90_similarity) == (None,) * 4
    assert (one.min_similarity_centred, one.max_similarity_centred, one.p90_similarity_centred) == (None,) * 3
    assert (one.mean_similarity_centred, one.coverage, one.num_categories) == (None, None, 1)
    assert one.effective_rank == pytest.approx(1)


def test_what_is_quadratic_is_left_out_of_sets_beyond_the_limit(monkeypatch):
    monkeypatch.setattr(pair_extremes, "MOST_TASKS_WITH_PAIRS", 20)
    monkeypatch.setattr(pair_extremes, "_PAIRS_AT_ONCE", 10)
    graph = drawn(40, 0, dense=False)
    found = prefix_statistics(graph, range(40), [10, 20, 21])
    assert None not in (found[10].p90_similarity, found[20].p90_similarity)
    assert (found[21].min_similarity, found[21].max_similarity, found[21].p90_similarity) == (None,) * 3
    assert found[21].mean_similarity == pytest.approx(brute(graph, range(21))["mean_similarity"], abs=1e-7)


def test_a_centred_graph_is_refused():
    with pytest.raises(ValueError, match="uncentred"):
        prefix_statistics(drawn(4, 0).centred, [0, 1], [2])


def test_vectors_of_any_width_need_no_square_of_it() -> None:
    # The square would take 1.2 TiB.
    vectors_KD = np.eye(3, 400_000)
    assert _effective_ranks(vectors_KD, [1, 2, 3]) == pytest.approx({1: 1.0, 2: 2.0, 3: 3.0})
    random = np.random.default_rng(0)
    narrow, sizes = random.standard_normal((9, 5)), [2, 4, 5, 6, 9]
    # Zeros change no direction, and decide which of the two products is taken.
    wide = np.hstack([narrow, np.zeros((9, 40))])
    assert _effective_ranks(narrow, sizes) == pytest.approx(_effective_ranks(wide, sizes))
