import numpy as np
import pytest
from graph_forms import build_graph

from simtune.graph.categories import category_similarity


def cosine(a, b):
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return a @ b / lengths if lengths > 1e-9 else 0.0


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_both_similarities_are_those_of_brute_force(seed, dense):
    generator = np.random.default_rng(seed)
    categories = [f"c{number}" for number in generator.integers(0, 8, 17)]
    vectors_ND = generator.normal(size=(17, 4))
    vectors_ND[5], vectors_ND[9] = 0.0, vectors_ND[8]
    names = [f"task{number:02}" for number in range(17)]
    graph = build_graph(names, categories, vectors_ND, dense=dense)
    found = category_similarity(graph)
    assert found.names == tuple(sorted(set(categories)))
    members = {name: [task for task in range(17) if categories[task] == name] for name in found.names}
    assert found.num_tasks_C.tolist() == [len(members[name]) for name in found.names]
    units = [np.asarray(vector, dtype=float) for vector in graph.vectors_ND]
    for row, a in enumerate(found.names):
        for column, b in enumerate(found.names):
            pairs = [units[one] @ units[other] for one in members[a] for other in members[b] if one != other]
            mean_a, mean_b = (np.mean([units[task] for task in members[name]], axis=0) for name in (a, b))
            np.testing.assert_allclose(
                found.mean_pair_CC[row, column], np.mean(pairs) if pairs else np.nan, rtol=0, atol=1e-7
            )
            np.testing.assert_allclose(found.mean_vector_CC[row, column], cosine(mean_a, mean_b), rtol=0, atol=1e-7)


def test_the_table_has_each_pair_once_and_null_where_there_is_no_pair_of_tasks():
    graph = build_graph("abcd", ["X", "Y", "X", "Z"], np.array([[1, 0], [0, 2], [3, 3], [-1.0, 0]]))
    rows = category_similarity(graph).table().to_pylist()
    half = pytest.approx(np.sqrt(0.5), abs=1e-12)
    assert [(row["category_a"], row["category_b"]) for row in rows] == [
        *(("X", "X"), ("X", "Y"), ("X", "Z"), ("Y", "Y"), ("Y", "Z"), ("Z", "Z")),
    ]
    assert [row["mean_pair_similarity"] for row in rows] == [
        half,
        pytest.approx(np.sqrt(0.5) / 2),
        pytest.approx(-(1 + np.sqrt(0.5)) / 2),
        None,
        pytest.approx(0),
        None,
    ]
    assert [(row["num_tasks_a"], row["num_tasks_b"]) for row in rows[:2]] == [(2, 2), (2, 1)]
    assert rows[0]["mean_vector_similarity"] == pytest.approx(1)


def test_a_category_whose_vectors_cancel_has_similarity_zero():
    vectors_ND = np.array([[0.1, 0.7], [-0.1, -0.7], [0.3, 0.2]])
    found = category_similarity(build_graph("abc", "XXY", vectors_ND))
    np.testing.assert_allclose(found.mean_vector_CC, [[0, 0], [0, 1]], atol=1e-9)
    assert found.mean_pair_CC[0, 0] == pytest.approx(-1)
    assert np.isnan(found.mean_pair_CC[1, 1])


def test_every_task_has_a_category():
    found = category_similarity(build_graph([], [], np.zeros((0, 3))))
    assert (found.names, found.mean_pair_CC.shape, found.table().num_rows) == ((), (0, 0), 0)
