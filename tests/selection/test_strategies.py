"""Every strategy chooses what an independent, slow and obvious version of it chooses."""

import itertools
import tracemalloc
from collections import Counter
from functools import partial

import numpy as np
import pytest
from arms import BOTH, IDS, VARIANTS, arm_of, build, choose, drawn, name_of
from hypothesis import given, settings
from hypothesis import strategies as st

from simtune.errors import ConfigError, UserError
from simtune.graph.blocks import block_ranges
from simtune.graph.similarity import SimilarityGraph
from simtune.selection import registry
from simtune.selection.arms import choose_tasks
from simtune.selection.registry import STRATEGIES
from simtune.selection.strategies import facility_location
from simtune.selection.strategy import Strategy

every_strategy = pytest.mark.parametrize(("strategy", "parameters"), VARIANTS, ids=IDS)


def test_every_strategy_is_tested():
    assert {name for name, _ in VARIANTS} == set(STRATEGIES)


# What greedy strategies choose.


def unit_rows(vectors_ND):
    lengths_N = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return vectors_ND / np.where(lengths_N > 0, lengths_N, 1.0)


def greedy(num_tasks, score, first=None):
    """Repeatedly the task with the highest score, ties to the earlier name; `first` scores the first choice."""
    chosen = []
    while len(chosen) < num_tasks:
        rest = [task for task in range(num_tasks) if task not in chosen]
        scores = [first(task) if first and not chosen else score(task, chosen) for task in rest]
        chosen.append(next(task for task, own in zip(rest, scores, strict=True) if own >= max(scores) - 1e-9))
    return chosen


class Brute:
    """Set functions evaluated from scratch on the matrix of similarities."""

    def __init__(self, vectors_ND, test_TD):
        units_ND = unit_rows(vectors_ND.astype(np.float64))
        self.num_tasks = len(units_ND)
        self.gram = units_ND @ units_ND.T
        self.similarity = [[1.0 if a == b else value for b, value in enumerate(row)] for a, row in enumerate(self.gram)]
        self.to_target = unit_rows(test_TD) @ units_ND.T
        self.total = [sum(row) - 1.0 for row in self.similarity]

    def facility_location(self, chosen):
        return sum(max([0.0, *(row[task] for task in chosen)]) for row in self.similarity)

    def graph_cut(self, chosen, weight):
        within = sum(self.similarity[a][b] for a in chosen for b in chosen)
        return sum(row[task] for row in self.similarity for task in chosen) - weight * within

    def order(self, strategy, parameters):
        if strategy in {"different", "min-sum", "similar", "max-sum"}:
            sign = -1 if strategy in {"different", "min-sum"} else 1
            return greedy(
                self.num_tasks,
                lambda task, chosen: sign * sum(self.similarity[task][other] for other in chosen),
                lambda task: sign * self.total[task],
            )
        if strategy == "max-min":
            return greedy(
                self.num_tasks,
                lambda task, chosen: -max(self.similarity[task][other] for other in chosen),
                lambda task: -self.total[task],
            )
        if strategy == "facility-location":
            return greedy(self.num_tasks, lambda task, chosen: self.facility_location([*chosen, task]))
        if strategy == "graph-cut":
            return greedy(self.num_tasks, lambda task, chosen: self.graph_cut([*chosen, task], parameters["lambda"]))
        if strategy == "log-det":

            def log_det(task, chosen):
                places = [*chosen, task]
                return np.linalg.slogdet(self.gram[np.ix_(places, places)] + parameters["ridge"] * np.eye(len(places)))[
                    1
                ]

            return greedy(self.num_tasks, log_det, lambda task: -self.total[task])
        raise AssertionError(strategy)


def mixed_pool(kind, seed):
    generator = np.random.default_rng(seed)
    test_TD = generator.normal(size=(3, 4))
    if kind == "one-hot":
        return np.eye(4)[generator.integers(0, 4, 9)], np.eye(4)[:3]
    vectors_ND = generator.normal(size=(9, 4)).astype(np.float32)
    if kind == "cone":
        return vectors_ND + 3, test_TD + 3
    if kind == "equal":
        vectors_ND[[2, 7]], vectors_ND[[4, 8]] = vectors_ND[0], -vectors_ND[1]
    if kind == "zero":
        vectors_ND[[1, 6]] = 0.0
    return vectors_ND, test_TD


KINDS = ["random", "cone", "equal", "zero", "one-hot"]
GREEDY = [
    *((name, {}) for name in ("different", "min-sum", "similar", "max-sum", "max-min", "facility-location")),
    *(("graph-cut", {"lambda": weight}) for weight in (0, 0.25, 0.5, 1, 5.0)),
    *(("log-det", {"ridge": ridge}) for ridge in (1e-6, 1e-3, 0.1, 10.0)),
]


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("strategy", "parameters"), GREEDY)
def test_greedy_is_brute_force_ties_to_the_earlier_name(strategy, parameters, kind, dense):
    for seed in range(6):
        vectors_ND, test_TD = mixed_pool(kind, seed)
        expected = Brute(vectors_ND, test_TD).order(strategy, parameters)
        assert choose(build(vectors_ND, dense=dense), strategy, 9, **parameters) == expected, seed


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_coverage_of_the_target_is_brute_force_then_by_mean(kind, dense):
    for seed in range(6):
        vectors_ND, test_TD = mixed_pool(kind, seed)
        brute, chosen = Brute(vectors_ND, test_TD), []

        def covered(tasks, similarity=brute.to_target):
            return sum(max([0.0, *row[tasks]]) for row in similarity)

        while True:
            rest = [task for task in range(9) if task not in chosen]
            gains = [covered([*chosen, task]) - covered(chosen) for task in rest]
            if not rest or max(gains) < 1e-8:
                break
            chosen.append(next(task for task, gain in zip(rest, gains, strict=True) if gain >= max(gains) - 1e-9))
        mean = brute.to_target.mean(axis=0).round(7)
        expected = chosen + sorted(rest, key=lambda task: (-mean[task], task))
        graph = build(vectors_ND, test_TD=test_TD, dense=dense)
        assert choose(graph, "near-target", 9, by="coverage") == expected, seed


def test_a_gain_that_is_out_of_date_does_not_count_as_a_tie():
    # Once a task of the first group is chosen the others add nothing, though their old gains nearly equal the best.
    vectors_ND = np.zeros((201, 3))
    vectors_ND[:100, 0] = vectors_ND[100:200, 1] = 1.0
    vectors_ND[200] = [0, 5e-9, 1]
    assert choose(build(vectors_ND), "facility-location", 2) == [0, 100]


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("spread", [0.01, 0.1])
def test_gains_in_a_narrow_cone_are_compared_beyond_float32(spread, dense):
    for seed in range(12, 17):
        vectors_ND = unit_rows((np.random.default_rng(seed).normal(size=(1500, 16)) * spread + 20).astype(np.float32))
        graph = build(vectors_ND, dense=dense, names=[f"{task:05}" for task in range(1500)])
        value_N = graph.exact(np.arange(1500)) @ graph.exact(np.arange(1500)).sum(axis=0)
        (chosen,) = choose(graph, "facility-location", 1)
        assert value_N[chosen] >= value_N.max() - 1e-6


@pytest.mark.parametrize("kept_tasks", [facility_location.KEPT_TASKS, 0])
@pytest.mark.parametrize(("num_groups", "spread"), [(60, 0.7), (3, 0.7), (3, 0.01), (1, 0.01)])
def test_updated_gains_equal_recomputed_ones(num_groups, spread, kept_tasks, monkeypatch):
    # In narrow groups the gains of later choices are as small as the rounding of the first ones.
    monkeypatch.setattr(facility_location, "KEPT_TASKS", kept_tasks)
    generator = np.random.default_rng(3)
    centres = np.eye(60)[np.arange(600) % num_groups]
    graph = build(unit_rows(centres + generator.normal(size=(600, 60)) * spread))
    covered_N, similarity_NN = np.zeros(600), graph.similarity_NN
    for task in choose(graph, "facility-location", 200):
        gain_N = np.maximum(similarity_NN - covered_N, 0.0).sum(axis=1)
        assert gain_N[task] >= gain_N.max() * (1 - 1e-9) - 1e-9
        covered_N = np.maximum(covered_N, similarity_NN[task])


@pytest.mark.parametrize("dense", [True, False])
def test_tasks_that_add_nothing_follow_by_name(dense):
    distinct_ND = np.random.default_rng(0).normal(size=(300, 16))
    order = choose(build(np.concatenate([distinct_ND] * 3), dense=dense), "facility-location", 900)
    assert sorted(order[:300]) == list(range(300))
    assert order[300:] == list(range(300, 900))


@pytest.mark.parametrize("seed", range(6))
def test_submodular_greedy_reaches_its_bound(seed):
    vectors_ND = np.random.default_rng(seed).uniform(size=(9, 5))
    brute, graph = Brute(vectors_ND, np.ones((1, 5))), build(vectors_ND)
    cases = [("facility-location", {}, brute.facility_location)]
    for weight in (0.1, 0.5):
        cases.append(("graph-cut", {"lambda": weight}, lambda chosen, w=weight: brute.graph_cut(chosen, w)))
    for strategy, parameters, value in cases:
        for size in (1, 2, 4):
            best = max(map(value, itertools.combinations(range(9), size)))
            assert value(choose(graph, strategy, size, **parameters)) >= (1 - 1 / np.e) * best - 1e-9


# Small and large pools.


@every_strategy
@pytest.mark.parametrize("seed", range(3))
def test_the_large_form_chooses_the_same_order(strategy, parameters, seed, monkeypatch):
    dense, large = (drawn(200, seed, form, dimensions=12, num_equal=15, num_zero=3) for form in (True, False))
    expected = choose(dense, strategy, 200, 3, **parameters)
    assert choose(large, strategy, 200, 3, **parameters) == expected
    if strategy == "facility-location":
        monkeypatch.setattr(facility_location, "KEPT_TASKS", 0)
        assert choose(large, strategy, 200, 3, **parameters) == expected
    capped = {"max_pair_similarity": 0.8, "cosine": "centred"}
    assert choose(large, strategy, 60, **parameters, **capped) == choose(dense, strategy, 60, **parameters, **capped)


@pytest.mark.parametrize("by", ["mean", "max", "coverage"])
def test_the_large_form_ranks_by_target_beyond_float32(by):
    generator = np.random.default_rng(0)
    vectors_ND = unit_rows(generator.normal(size=(3000, 384)) + 0.5).astype(np.float32)
    test_TD, names = generator.normal(size=(60, 384)) + 0.5, [f"{task:05}" for task in range(3000)]
    dense, large = (build(vectors_ND, test_TD=test_TD, dense=form, names=names) for form in (True, False))
    size = 100 if by == "coverage" else 3000
    assert choose(large, "near-target", size, by=by) == choose(dense, "near-target", size, by=by)


@pytest.mark.parametrize("strategy", ["facility-location", "graph-cut", "near-target"])
def test_the_large_form_ties_where_vectors_tie(strategy):
    vectors_ND = np.repeat(np.eye(5), [3, 1, 4, 2, 1], axis=0)[np.random.default_rng(1).permutation(11)]
    vectors_ND[[2, 6]] = 0.0
    dense, large = (build(vectors_ND, test_TD=np.ones((2, 5)), dense=form) for form in (True, False))
    assert choose(large, strategy, 11) == choose(dense, strategy, 11)


@every_strategy
def test_nothing_quadratic_is_held_beyond_a_dense_graph(strategy, parameters, monkeypatch):
    num_tasks = 2500
    monkeypatch.setattr(facility_location, "KEPT_TASKS", 0)
    monkeypatch.setattr("simtune.graph.similarity._BLOCK_BYTES", 1 << 20)
    monkeypatch.setattr(facility_location, "block_ranges", partial(block_ranges, max_bytes=1 << 20))
    monkeypatch.setattr(SimilarityGraph, "similarity_NN", property(lambda _: pytest.fail("asked for all pairs")))
    graph = drawn(num_tasks, 0, dense=False, dimensions=8)
    tracemalloc.start()
    try:
        choose(graph, strategy, 12, **parameters)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < num_tasks * num_tasks


# What holds for every strategy.


@st.composite
def pools(draw, max_tasks=12):
    num_tasks = draw(st.integers(1, max_tasks))
    num_equal = draw(st.integers(0, num_tasks))
    num_zero = draw(st.integers(0, num_tasks - num_equal))
    return drawn(num_tasks, draw(st.integers(0, 10**6)), num_equal=num_equal, num_zero=num_zero)


@every_strategy
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_size_has_that_many_different_tasks_nested_where_promised(strategy, parameters, data):
    graph = data.draw(pools())
    arm = arm_of(strategy, **parameters)
    seed = data.draw(st.integers(0, 3))
    sizes = range(1, len(graph) + 3)
    found = choose_tasks(arm, graph, sizes, seed)
    for size in sizes:
        assert len(set(found[size])) == len(found[size]) == min(size, len(graph))
        assert found[size] == choose_tasks(arm, graph, [size], seed)[size]
        if arm.strategy.nested:
            assert found[size] == found[sizes[-1]][:size]


@every_strategy
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_nested_strategies_stay_nested_with_options(strategy, parameters, data):
    graph = data.draw(pools())
    options = {
        "per_category_cap": data.draw(st.integers(1, 4)),
        "max_pair_similarity": data.draw(st.floats(0, 1)),
        "start": name_of(data.draw(st.integers(0, len(graph) - 1))),
        "cosine": data.draw(st.sampled_from(["centred", "uncentred"])),
    }
    arm = arm_of(strategy, **parameters, **options)
    whole = choose_tasks(arm, graph, [len(graph)], 0)[len(graph)]
    if arm.strategy.nested:
        for size in range(1, len(graph) + 1):
            assert choose_tasks(arm, graph, [size], 0)[size] == whole[:size]


@every_strategy
def test_the_order_of_the_input_changes_nothing(strategy, parameters):
    generator = np.random.default_rng(7)
    vectors_ND = generator.normal(size=(31, 24)).astype(np.float32)
    vectors_ND[20:] = vectors_ND[:11]
    names = np.array([name_of(task) for task in range(31)])
    categories = np.array([f"c{number % 7}" for number in range(31)])
    found = []
    for order in (np.arange(31), generator.permutation(31), generator.permutation(31)):
        graph = build(vectors_ND[order], list(categories[order]), None, vectors_ND[:2], names=list(names[order]))
        found.append([graph.names[task] for task in choose(graph, strategy, 20, 3, **parameters)])
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("strategy", "parameters"),
    [pair for pair in VARIANTS if pair[0] != "list" and not STRATEGIES[pair[0]].seeded],
)
def test_names_decide_nothing_where_nothing_ties(strategy, parameters):
    generator = np.random.default_rng(11)
    vectors_ND, test_TD = generator.normal(size=(30, 8)), generator.normal(size=(4, 8))
    categories = [f"c{number}" for number in generator.integers(0, 5, 30)]
    found = []
    # Two tasks that are nearest to each other, or alone in a cluster, stand for each other equally well.
    size = 4 if strategy in {"facility-location", "k-means"} else 18
    for names in (list(range(30)), list(generator.permutation(30)), list(range(30))[::-1]):
        graph = build(vectors_ND, categories, None, test_TD, names=[name_of(name) for name in names])
        found.append([names.index(task) for task in choose(graph, strategy, size, **parameters)])
    assert found[0] == found[1] == found[2]


@every_strategy
@pytest.mark.parametrize("dense", [True, False])
def test_pools_of_equal_or_zero_vectors_are_accepted(strategy, parameters, dense):
    for vectors_ND in (np.ones((5, 3)), np.zeros((5, 3)), np.ones((1, 3))):
        graph = build(vectors_ND, ["c0", "c1", "c0", "c2", "c0"][: len(vectors_ND)], None, np.eye(3), dense)
        found = choose(graph, strategy, 5, **parameters)
        assert sorted(found) == list(range(len(vectors_ND)))


# Orders by a score, by category, and by draw.


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_rankings_are_sorts(seed, dense):
    graph = drawn(40, seed, dense, num_equal=6)
    units_ND = graph.exact(np.arange(40))
    pool_NN, target_TN = units_ND @ units_ND.T, graph.test_vectors_TD @ units_ND.T

    def by(score_N):
        return sorted(range(40), key=lambda task: (round(float(score_N[task]), 6), task))

    assert choose(graph, "lowest-mean", 40) == by(pool_NN.sum(axis=1))
    assert choose(graph, "highest-mean", 40) == by(-pool_NN.sum(axis=1))
    assert choose(graph, "near-target", 40) == by(-target_TN.mean(axis=0))
    assert choose(graph, "near-target", 40, by="max") == by(-target_TN.max(axis=0))
    assert choose(graph, "far-from-target", 40) == by(target_TN.mean(axis=0))
    assert choose(graph, "far-from-target", 40, by="max") == by(target_TN.max(axis=0))


@pytest.mark.parametrize("oracle", [True, False])
def test_only_oracles_see_test_tasks_and_say_so(oracle, monkeypatch):
    seen = []

    def spy(subset):
        seen.append((len(subset.graph.test_vectors_TD), len(subset.graph.centred.test_vectors_TD)))
        subset.add_in_order(range(len(subset.graph)))

    monkeypatch.setattr(registry, "_installed", lambda: {"spy": Strategy(spy, oracle=oracle)})
    for cosine in ("uncentred", "centred"):
        choose(drawn(5), "spy", 2, cosine=cosine)
    assert seen == [(3, 3) if oracle else (0, 0)] * 2
    assert arm_of("spy", label="mine").label == ("mine (oracle)" if oracle else "mine")
    assert [name for name in STRATEGIES if arm_of(name).label.endswith("(oracle)")] == [
        "near-target",
        "far-from-target",
    ]


def test_an_oracle_without_test_tasks_says_what_to_do():
    with pytest.raises(UserError, match="--target"):
        choose(build(np.eye(3)), "near-target", 2)


@pytest.mark.parametrize("parameters", [*BOTH, {"min_category_tasks": 3}])
@pytest.mark.parametrize("strategy", ["different-category", "similar-category"])
def test_category_orders_are_rounds_over_the_categories(strategy, parameters):
    sign = -1 if strategy == "different-category" else 1
    for seed in range(15):
        graph = drawn(15, seed, num_categories=6)
        units_ND = graph.vectors_ND
        members = {
            name: [t for t in range(15) if graph.categories[t] == name] for name in sorted(set(graph.categories))
        }

        def alike(a, b, members=members, units_ND=units_ND):
            sums = units_ND[members[a]].mean(axis=0), units_ND[members[b]].mean(axis=0)
            if parameters.get("similarity") == "mean-pair":
                return sign * np.mean([units_ND[one] @ units_ND[other] for one in members[a] for other in members[b]])
            return sign * sums[0] @ sums[1] / np.linalg.norm(sums[0]) / np.linalg.norm(sums[1])

        expected = []
        fewest = parameters.get("min_category_tasks", 1)
        for large in (True, False):
            group = [name for name in members if (len(members[name]) >= fewest) == large]
            order = greedy(
                len(group),
                lambda c, chosen, g=group, f=alike: sum(f(g[c], g[other]) for other in chosen),
                lambda c, g=group, f=alike: sum(f(g[c], other) for other in g if other != g[c]),
            )
            queues = [
                sorted(
                    members[group[c]],
                    key=lambda t, own=members[group[c]]: (-round(sum(units_ND[own] @ units_ND[t]), 9), t),
                )
                for c in order
            ]
            expected += [task for turn in itertools.zip_longest(*queues) for task in turn if task is not None]
        assert choose(graph, strategy, 15, **parameters) == expected, seed


def test_single_task_categories_are_filled_up_to_the_number_of_tasks():
    graph = build(np.random.default_rng(0).normal(size=(9, 4)), ["big"] * 6 + ["one", "two", "three"])
    for strategy in ("different-category", "similar-category"):
        chosen = [graph.categories[task] for task in choose(graph, strategy, 7)]
        assert sorted(chosen[:4]) == ["big", "one", "three", "two"]
        assert chosen[4:] == ["big"] * 3
        last = [graph.categories[task] for task in choose(graph, strategy, 9, min_category_tasks=2)]
        assert last[:6] == ["big"] * 6


def test_random_is_one_permutation_a_seed_whoever_joins_or_leaves():
    whole = drawn(40)
    part = build(np.eye(14), names=whole.names[::3])

    def names(graph, seed):
        return [graph.names[task] for task in choose(graph, "random", len(graph), seed)]

    assert names(part, 1) == [name for name in names(whole, 1) if name in part.names]
    assert len({tuple(names(whole, seed)) for seed in range(5)}) == 5
    # Every task is equally likely to be first or last: 400 seeds, 14 tasks, the 99.99 % point of chi-square.
    for place in (0, -1):
        counts = Counter(names(part, seed)[place] for seed in range(400))
        assert sum((counts[name] - 400 / 14) ** 2 / (400 / 14) for name in part.names) < 42


@pytest.mark.parametrize("strategy", ["random-stratified", "category-balanced"])
def test_draws_by_category_differ_by_seed_and_spread_over_tasks(strategy):
    graph = drawn(30, num_categories=3)
    found = [tuple(choose(graph, strategy, 3, seed)) for seed in range(60)]
    assert len(set(found)) > 50
    assert {task for chosen in found for task in chosen} == set(range(30))


@pytest.mark.parametrize("seed", range(5))
def test_category_balanced_counts_are_level_until_a_category_ends(seed):
    graph = drawn(40, seed, num_categories=6)
    sizes, counts = Counter(graph.categories), Counter()
    for task in choose(graph, "category-balanced", 40, seed):
        counts[graph.categories[task]] += 1
        most = max(counts.values())
        assert all(counts[category] >= min(most - 1, sizes[category]) for category in sizes)


def stratified_counts(num_seeds=20):
    """Counts of each category after each choice, and the categories' sizes."""
    categories = ["a"] * 30 + ["b"] * 9 + ["c"] * 12 + ["d"] * 3 + ["e", "f", "g"]
    graph, sizes = build(np.ones((57, 2)), categories), Counter(categories)
    for seed in range(num_seeds):
        counts = Counter()
        for task in choose(graph, "random-stratified", 57, seed):
            counts[graph.categories[task]] += 1
            yield counts, sizes


def test_stratified_prefixes_have_every_categorys_share_within_one_task():
    for counts, sizes in stratified_counts():
        lowest = max((counts[category] - 1) / size for category, size in sizes.items())
        assert lowest <= min((counts[category] + 1) / size for category, size in sizes.items())


def test_a_category_of_one_task_is_in_a_third_of_the_stratified_thirds():
    graph = build(np.ones((30, 2)), ["many"] * 29 + ["one"])
    num_drawn = sum(29 in choose(graph, "random-stratified", 10, seed) for seed in range(300))
    assert 70 < num_drawn < 130


def test_k_means_takes_one_task_of_each_well_separated_cluster_nearest_to_its_centre():
    generator = np.random.default_rng(2)
    centres_KD = np.eye(7)[:6]
    cluster_N = generator.permutation(np.repeat(np.arange(6), [9, 3, 12, 5, 7, 4]))
    vectors_ND = unit_rows(centres_KD[cluster_N] + 0.05 * generator.normal(size=(40, 7)))
    chosen = choose(build(vectors_ND), "k-means", 6)
    assert [cluster_N[task] for task in chosen] == [2, 0, 4, 3, 5, 1]
    for task in chosen:
        members = np.flatnonzero(cluster_N == cluster_N[task])
        nearness = vectors_ND[members] @ vectors_ND[members].sum(axis=0)
        assert task == members[nearness.argmax()]


def test_k_means_with_more_clusters_than_different_vectors_takes_each_vector_first():
    vectors_ND = np.repeat(np.random.default_rng(0).normal(size=(4, 5)), [5, 1, 3, 2], axis=0)
    graph = build(vectors_ND)
    for size in (4, 6, 10, 11):
        chosen = choose(graph, "k-means", size)
        assert len(set(chosen)) == size
        assert len({tuple(vectors_ND[task]) for task in chosen}) == 4


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_pool_with_a_vector_that_is_not_finite_is_refused_by_name(bad):
    vectors_ND = np.ones((4, 3))
    vectors_ND[2, 1] = bad
    with pytest.raises(ValueError, match="task 'task0002' contains NaN or an infinity"):
        build(vectors_ND)


def test_a_list_keeps_its_order_and_names_what_the_pool_lacks(tmp_path):
    path = tmp_path / "l.txt"
    path.write_text("task0003\ntask001\ntask0001\n")
    expected = (
        r"l\.txt: the pool does not have 1 of its 3 tasks: task001 \(did you mean '.*'\?\); correct the list, or skip"
    )
    with pytest.raises(ConfigError, match=expected):
        choose(drawn(5), "list", 2, file=str(path))
    assert choose(drawn(5), "list", 5, file=str(path), missing="skip") == [3, 1]
    path.write_text("unknown\n")
    for missing in ("refuse", "skip"):
        with pytest.raises(ConfigError, match=r"does not have 1 of its 1 task: unknown; check that it is a list of"):
            choose(drawn(5), "list", 5, file=str(path), missing=missing)


# What apricot-select 0.6.1 chose (optimizer "naive") from the similarities of the pool below.
APRICOT = {
    "FacilityLocationSelection": [
        *(73, 40, 190, 23, 26, 34, 172, 185, 75, 124, 182, 19, 108, 176, 199, 87, 142, 163, 90, 32),
        *(65, 189, 177, 166, 157, 53, 51, 6, 27, 110, 173, 112, 134, 115, 9, 126, 60, 180, 104, 70),
    ],
    "GraphCutSelection": [
        *(73, 40, 32, 190, 23, 6, 59, 34, 93, 124, 81, 115, 37, 97, 36, 14, 45, 11, 3, 2),
        *(198, 111, 118, 75, 35, 113, 87, 102, 48, 183, 192, 41, 72, 196, 80, 146, 126, 19, 61, 133),
    ],
}


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize(
    ("theirs", "strategy", "parameters"),
    # Their alpha is the weight of the first term.
    [("FacilityLocationSelection", "facility-location", {}), ("GraphCutSelection", "graph-cut", {"lambda": 1 / 2})],
)
def test_apricot_chooses_the_same(theirs, strategy, parameters, dense):
    graph = build(unit_rows(np.random.default_rng(0).uniform(size=(200, 12))), dense=dense)
    assert choose(graph, strategy, 40, **parameters) == APRICOT[theirs]


@pytest.mark.parametrize(
    ("theirs", "settings"), [("FacilityLocationSelection", {}), ("GraphCutSelection", {"alpha": 2})]
)
def test_the_recorded_choices_of_apricot_are_what_it_chooses(theirs, settings):
    apricot = pytest.importorskip("apricot")
    similarity_NN = build(unit_rows(np.random.default_rng(0).uniform(size=(200, 12)))).similarity_NN
    selector = getattr(apricot, theirs)(40, metric="precomputed", optimizer="naive", **settings)
    # The gains of its tasks 60 and 125 are equal but for rounding, which differs from machine to machine.
    assert selector.fit(similarity_NN).ranking.tolist()[:36] == APRICOT[theirs][:36]
