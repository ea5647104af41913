from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtune.config import SelectionSettings
from simtune.errors import ConfigError
from simtune.graph.similarity import SimilarityGraph, category_similarity
from simtune.selection.registry import STRATEGIES, strategy
from simtune.selection.subsets import build_subsets, subsets_table


def brute_greedy(similarity, size, better):
    """Each next task has the best sum of similarities to the chosen ones, the first to the whole pool."""
    chosen = []
    while len(chosen) < size:
        rest = [task for task in range(len(similarity)) if task not in chosen]

        def total(task, others):
            return sum(similarity[task][other] for other in others if other != task)

        others = chosen or range(len(similarity))
        best = better(total(task, others) for task in rest)
        chosen.append(next(task for task in rest if total(task, others) == best))
    return chosen


def drawn_graph(num_tasks, seed, num_categories=4, num_equal=0):
    generator = np.random.default_rng(seed)
    vectors_ND = generator.normal(size=(num_tasks, 6)) + 0.5
    vectors_ND[num_tasks - num_equal :] = vectors_ND[0]
    names = [f"task{number:03}" for number in range(num_tasks)]
    categories = [f"c{number}" for number in generator.integers(0, num_categories, num_tasks)]
    return SimilarityGraph.build(names, categories, vectors_ND, generator.normal(size=(3, 6)))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9).flatmap(lambda n: st.lists(st.integers(-8, 8), min_size=n * n, max_size=n * n)))
def test_greedy_orders_are_those_of_brute_force_ties_by_name(numbers):
    # Eighths add up without rounding, so that ties are ties.
    size = int(len(numbers) ** 0.5)
    half_NN = np.tril(np.array(numbers).reshape(size, size), -1) / 8
    similarity_NN = half_NN + half_NN.T + np.eye(size)
    names = tuple(f"task{number}" for number in range(size))
    graph = SimilarityGraph(names, names, similarity_NN, np.ones((1, size)))
    assert STRATEGIES["different"](graph, size, 0) == brute_greedy(similarity_NN, size, min)
    assert STRATEGIES["similar"](graph, size, 0) == brute_greedy(similarity_NN, size, max)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("name", "better"), [("different-category", min), ("similar-category", max)])
def test_category_orders_are_rounds_over_the_categories(name, better, seed):
    graph = drawn_graph(num_tasks=13, seed=seed, num_categories=5)
    categories, similarity_CC = category_similarity(graph)
    queues = []
    for category in brute_greedy(similarity_CC, len(categories), better):
        members = [task for task in range(13) if graph.categories[task] == categories[category]]
        near = {task: np.mean([graph.similarity_NN[task, other] for other in members]) for task in members}
        queues.append(sorted(members, key=lambda task: (-round(near[task], 12), task)))
    expected = []
    while any(queues):
        expected += [queue.pop(0) for queue in queues if queue]
    assert STRATEGIES[name](graph, 13, 0) == expected


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("num_tasks", [1, 2, 17])
def test_every_order_is_a_permutation_nested_and_deterministic(name, num_tasks):
    graph = drawn_graph(num_tasks, seed=1)
    whole = STRATEGIES[name](graph, num_tasks, 5)
    assert sorted(whole) == list(range(num_tasks))
    for size in range(1, num_tasks + 1):
        assert STRATEGIES[name](graph, size, 5) == whole[:size]


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_order_of_the_input_changes_nothing(name):
    generator = np.random.default_rng(7)
    vectors_ND = generator.normal(size=(31, 24)).astype(np.float32)
    vectors_ND[20:] = vectors_ND[:11]  # exact duplicates, as real pools have
    names = np.array([f"task{number:03}" for number in range(31)])
    categories = np.array([f"c{number % 7}" for number in range(31)])
    orders = []
    for order in (np.arange(31), generator.permutation(31), generator.permutation(31)):
        graph = SimilarityGraph.build(list(names[order]), list(categories[order]), vectors_ND[order], vectors_ND[:2])
        orders.append([graph.names[index] for index in STRATEGIES[name](graph, 31, 3)])
    assert orders[0] == orders[1] == orders[2]


@pytest.mark.parametrize("name", ["different", "similar", "different-category", "similar-category"])
@pytest.mark.parametrize("seed", range(5))
def test_tasks_with_equal_vectors_come_in_the_order_of_their_names(name, seed):
    graph = drawn_graph(num_tasks=37, seed=seed, num_categories=1, num_equal=3)
    order = STRATEGIES[name](graph, 37, 0)
    places = [order.index(task) for task in (0, 34, 35, 36)]
    assert places == sorted(places)


def test_single_task_categories_are_filled_up_to_the_number_of_tasks():
    categories = ["big"] * 6 + ["one", "two", "three"]
    vectors_ND = np.random.default_rng(0).normal(size=(9, 4))
    graph = SimilarityGraph.build("abcdefghi", categories, vectors_ND, vectors_ND)
    for name in ("different-category", "similar-category"):
        chosen = [graph.categories[task] for task in STRATEGIES[name](graph, 7, 0)]
        assert sorted(chosen[:4]) == ["big", "one", "three", "two"]
        assert chosen[4:] == ["big"] * 3


def test_random_is_one_permutation_a_seed_whoever_joins_or_leaves():
    whole = drawn_graph(num_tasks=40, seed=0)
    part = SimilarityGraph(whole.names[::3], whole.categories[::3], np.eye(14), np.ones((1, 14)))

    def names(graph, seed):
        return [graph.names[task] for task in STRATEGIES["random"](graph, len(graph), seed)]

    assert names(part, 1) == [name for name in names(whole, 1) if name in part.names]
    assert len({tuple(names(whole, seed)) for seed in range(5)}) == 5
    # A task's first place is as likely as another's: 400 seeds, 14 tasks, chi-square below its 99.99 % point.
    counts = Counter(names(part, seed)[0] for seed in range(400))
    assert sum((counts[name] - 400 / 14) ** 2 / (400 / 14) for name in part.names) < 42


def test_subsets_are_prefixes_and_a_size_above_the_pool_says_so():
    graph = drawn_graph(num_tasks=5, seed=2)
    settings_ = SelectionSettings(strategies=("similar", "random"), sizes=(9, 5, 2, "all"), seeds=(0, 1))
    subsets = build_subsets(graph, settings_)
    assert [(subset.arm, subset.seed, subset.size, len(subset.tasks)) for subset in subsets] == [
        *((arm, seed, size, min(size, 5)) for arm in ("similar", "random") for seed in (0, 1) for size in (2, 5, 9)),
        *(("full", seed, 5, 5) for seed in (0, 1)),
    ]
    for small, exact, large in (subsets[k : k + 3] for k in range(0, 12, 3)):
        assert large.tasks == exact.tasks
        assert large.tasks[:2] == small.tasks
        assert large.statistics == exact.statistics
        assert large.note == f"{large.arm}: size 9 capped to the pool's 5 tasks"
        assert small.note == exact.note == ""
    assert subsets[-1].tasks == graph.names
    assert build_subsets(graph, settings_) == subsets
    table = subsets_table(subsets).to_pylist()
    assert [row["task"] for row in table] == [task for subset in subsets for task in subset.tasks]
    assert [row["rank"] for row in table[:2]] == [0, 1]


def test_one_task_is_a_subset_without_pairs():
    (subset,) = build_subsets(drawn_graph(1, 0), SelectionSettings(strategies=("different",), sizes=(1,), seeds=(0,)))
    assert subset.tasks == ("task000",)
    assert subset.statistics.mean_similarity is None
    assert subset.statistics.num_categories == 1


@pytest.mark.parametrize(
    ("name", "hint"),
    [("diferent", "did you mean 'different'?"), ("Similar", "'similar'"), ("full", "`all` in selection.sizes")],
)
def test_an_unknown_strategy_is_an_error_that_names_the_nearest(name, hint):
    with pytest.raises(ConfigError) as error:
        strategy(name)
    assert str(error.value).startswith(f"selection.strategies: unknown strategy {name!r}")
    assert hint in str(error.value)
    assert all(known in str(error.value) for known in STRATEGIES)
