"""What may be in a subset, whichever strategy chooses: every choice of every strategy is one the options allow."""

import numpy as np
import pytest
from arms import IDS, VARIANTS, arm_of, build, choose, drawn, name_of
from hypothesis import given, settings
from hypothesis import strategies as st

from simtune.config import SelectionSettings
from simtune.errors import ConfigError
from simtune.selection.arms import choose_tasks
from simtune.selection.partial_subset import Options, PartialSubset
from simtune.selection.subsets import build_subsets

every_strategy = pytest.mark.parametrize(("strategy", "parameters"), VARIANTS, ids=IDS)


def allowed(graph, chosen, task, options):
    """Whether a task may join those chosen so far, by counting."""
    if task in chosen or task in options.get("exclude", ()):
        return False
    together = [*chosen, task]
    cap = options.get("per_category_cap", len(graph))
    if sum(graph.categories[other] == graph.categories[task] for other in together) > cap:
        return False
    cap = options.get("per_source_cap", len(graph))
    if any(sum(source in graph.sources[other] for other in together) > cap for source in graph.sources[task]):
        return False
    near = graph.exact(chosen) @ graph.exact([task])[0] if chosen else []
    return all(similarity <= options.get("max_pair_similarity", 2.0) + 1e-9 for similarity in near)


def check(graph, chosen, size, options):
    forced = list(dict.fromkeys([*options.get("include", ()), *([options["start"]] if "start" in options else [])]))
    assert chosen[: len(forced)] == forced
    for place in range(len(forced), len(chosen)):
        assert allowed(graph, chosen[:place], chosen[place], options), (place, chosen)
    if len(chosen) < size:
        assert not any(allowed(graph, chosen, task, options) for task in range(len(graph)))


def named(options):
    """Options as a sweep file gives them."""
    tasks = {key: [name_of(task) for task in options[key]] for key in ("include", "exclude") if key in options}
    return options | tasks | ({"start": name_of(options["start"])} if "start" in options else {})


@st.composite
def some_options(draw, num_tasks):
    caps = {"per_category_cap": st.integers(1, 4), "per_source_cap": st.integers(1, 4)}
    options = {key: draw(values) for key, values in caps.items() if draw(st.booleans())}
    if draw(st.booleans()):
        options["max_pair_similarity"] = draw(st.integers(-500, 1000)) / 1000
    tasks = draw(st.permutations(range(num_tasks)))
    if draw(st.booleans()):
        options["include"] = tasks[: draw(st.integers(1, 4))]
    if draw(st.booleans()):
        options["exclude"] = tasks[4 : draw(st.integers(5, 10))]
    if draw(st.booleans()):
        options["start"] = draw(st.sampled_from([*tasks[:4], tasks[-1]]))
    return options


@every_strategy
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_choice_is_allowed_and_a_set_ends_only_when_none_is(strategy, parameters, data):
    dense = data.draw(st.booleans())
    graph = drawn(16, data.draw(st.integers(0, 10**6)), dense, num_equal=data.draw(st.integers(0, 8)), num_zero=1)
    options = data.draw(some_options(16))
    size = data.draw(st.integers(5, 16))
    check(graph, choose(graph, strategy, size, 1, **parameters, **named(options)), size, options)


@every_strategy
def test_each_option_alone_has_an_effect(strategy, parameters):
    graph = drawn(30, 3, num_equal=6)
    plain = choose(graph, strategy, 12, **parameters)
    for options in (
        {"per_category_cap": 1},
        {"per_source_cap": 1},
        {"max_pair_similarity": 0.3},
        {"start": plain[-1]},
        {"include": [plain[-1], plain[3]]},
        {"exclude": plain[:2]},
    ):
        chosen = choose(graph, strategy, 12, **parameters, **named(options))
        assert chosen != plain
        check(graph, chosen, 12, options)


@every_strategy
def test_caps_count_what_is_included_and_do_not_refuse_it(strategy, parameters):
    graph = build(
        np.random.default_rng(0).normal(size=(8, 4)),
        ["a"] * 5 + ["b"] * 3,
        [["s", "t"], ["s"], ["t"], ["t"], [], ["s"], [], ["t"]],
        np.eye(4),
    )
    include = {"include": [name_of(1), name_of(0)]}
    by_category = choose(graph, strategy, 8, per_category_cap=1, **parameters, **include)
    assert by_category[:2] == [1, 0]
    assert [graph.categories[task] for task in by_category[2:]] == ["b"]
    by_source = choose(graph, strategy, 8, per_source_cap=2, **parameters, **include)
    assert by_source[:2] == [1, 0]
    assert set(by_source[2:]) - {4, 6} in ({2}, {3}, {7})
    near = choose(graph, strategy, 8, max_pair_similarity=-0.99, **parameters, **include)
    assert near == [1, 0]


@pytest.mark.parametrize("dense", [True, False])
def test_tasks_exactly_as_similar_as_allowed_may_both_be_in(dense):
    vectors_ND = np.array([[1.0, 0], [0.6, 0.8], [0, 1], [-0.8, 0.6]])
    graph = build(vectors_ND, dense=dense)
    assert sorted(choose(graph, "random", 4, max_pair_similarity=0.8)) == [0, 1, 2, 3]
    for seed in range(5):
        assert {1, 2} - set(choose(graph, "random", 4, seed, max_pair_similarity=0.7999))
    duplicates = build(vectors_ND[[0, 0, 2]], dense=dense)
    assert len(choose(duplicates, "random", 3, max_pair_similarity=1.0)) == 3
    assert len(choose(duplicates, "random", 3, max_pair_similarity=0.99)) == 2


def test_a_float32_similarity_at_the_edge_of_its_error_is_confirmed():
    # Rounded to float32, this one is neither beyond the error nor within it.
    limit, similarity = -0.89993385, -0.8999298214912415
    graph = build(np.array([[1.0, 0], [similarity, np.sqrt(1 - similarity**2)]]), dense=False)
    subset = PartialSubset(graph, 2, options=Options(max_pair_similarity=limit))
    subset.add(0)
    assert not subset.open_N[1]


@every_strategy
@pytest.mark.parametrize("dense", [True, False])
def test_centred_cosine_is_that_of_vectors_without_the_mean(strategy, parameters, dense):
    generator = np.random.default_rng(4)
    vectors_ND, test_TD = generator.normal(size=(40, 6)) + 1.0, generator.normal(size=(4, 6)) + 1.0
    categories = [f"c{number}" for number in generator.integers(0, 4, 40)]
    units = [array / np.linalg.norm(array, axis=1, keepdims=True) for array in (vectors_ND, test_TD)]
    mean_D = units[0].mean(axis=0)
    expected = build(units[0] - mean_D, categories, None, units[1] - mean_D, dense)
    graph = build(vectors_ND, categories, None, test_TD, dense)
    centred = {"cosine": "centred", "max_pair_similarity": 0.9}
    assert choose(graph, strategy, 30, **parameters, **centred) == choose(
        expected, strategy, 30, **parameters, max_pair_similarity=0.9
    )


def test_an_arm_has_its_own_options_and_else_the_selections():
    shared = SelectionSettings(exclude=("task0000",), per_category_cap=2)
    graph = drawn(20, num_categories=3)
    assert arm_of("random", shared, per_category_cap=None).options.per_category_cap is None
    own = choose_tasks(arm_of("random", shared, per_category_cap=None), graph, [20], 0)[20]
    assert (len(own), 0 in own) == (19, False)
    assert len(choose_tasks(arm_of("random", shared), graph, [20], 0)[20]) == 6


@pytest.mark.parametrize(
    ("options", "size", "count", "note"),
    [
        ({"per_category_cap": 1}, 5, 3, "random: 3 of 5 tasks: its list or its options allow no more"),
        ({"exclude": ["task0000"]}, 10, 9, "random: 9 of 10 tasks: its list or its options allow no more"),
        ({"exclude": ["task0000"]}, 99, 9, "random: 9 of 99 tasks: its list or its options allow no more"),
        ({}, 99, 10, "random: size 99 capped to the pool's 10 tasks"),
        ({"per_category_cap": 1}, 3, 3, ""),
    ],
)
def test_a_set_that_is_smaller_than_asked_for_says_so(options, size, count, note):
    graph = build(np.random.default_rng(0).normal(size=(10, 3)), [f"c{task % 3}" for task in range(10)])
    selection = SelectionSettings(strategies=("random",), sizes=(size,), seeds=(0,), **options)
    (subset,) = build_subsets(graph, selection)
    assert (len(subset.tasks), subset.note) == (count, note)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"include": ["task000"]}, "include: the pool has no task 'task000'; did you mean 'task0000'"),
        ({"exclude": ["nobody"]}, r"exclude: the pool has no task 'nobody'$"),
        ({"start": "nobody"}, "start: the pool has no task 'nobody'"),
        ({"exclude": [name_of(task) for task in range(6)]}, "its options exclude every task of the pool"),
        ({"include": ["task0001", "task0002"], "start": "task0003"}, "name 3 tasks, more than the smallest size 2"),
        ({"exclude": ["task0005"]}, r"min-sum\(exclude=1 task\): has task0005 in include or start and also in exclude"),
    ],
)
def test_wrong_options_name_strategy_option_and_task(options, complaint):
    shared = SelectionSettings(include=("task0005",) if options == {"exclude": ["task0005"]} else ())
    graph = drawn(6)
    with pytest.raises(ConfigError, match=complaint) as caught:
        choose_tasks(arm_of("min-sum", shared, **options), graph, [2, 4], 0)
    assert str(caught.value).startswith("strategy min-sum")
    assert "\n" not in str(caught.value)


def test_a_strategy_that_takes_what_it_may_not_is_refused():
    subset = PartialSubset(drawn(5), 2, options=Options(exclude=(3,)))
    with pytest.raises(ValueError, match="added 'task0003', which is already chosen or ruled out"):
        subset.add(3)
    subset.add(0)
    with pytest.raises(ValueError, match="added 'task0000'"):
        subset.add(0)
    subset.add(1)
    with pytest.raises(ValueError, match="added more than the 2 tasks wanted"):
        subset.add(2)
