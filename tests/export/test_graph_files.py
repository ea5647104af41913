"""The graph's files: tables against brute force, GraphML against the tables, bytes, and hostile names."""

import io
from xml.etree import ElementTree

import networkx as nx
import numpy as np
import pytest

from simtune.export.graph_files import GraphWithSubsets, HeldOutTask, write_graph_files
from simtune.graph.similarity import SimilarityGraph
from simtune.storage.parquet_files import read_table

EVIL = ["a\x00\x01b", "a\x00\x02b", "a\ufffd\ufffdb", "line\nbreak\r\t", "<&>\"']]>", "\uffff\ufffe-->", "ünï 🙂"]


def write(directory, names, test_names=("t1", "t2"), categories=None, sources=None, subsets=None, **options):
    """Writes a small graph; returns what was given and what was written."""
    generator = np.random.default_rng(0)
    vectors_AD = generator.normal(size=(len(names) + len(test_names), 8)).astype(np.float32)
    if len(names) > 3:
        vectors_AD[[3, -1]] = vectors_AD[[1, 0]]
    vectors_AD /= np.linalg.norm(vectors_AD, axis=1, keepdims=True)
    graph = SimilarityGraph.build(
        names,
        categories or [f"c{number % 3}" for number in range(len(names))],
        vectors_AD[: len(names)],
        vectors_AD[len(names) :],
        sources or [["x", "y"][: number % 3] for number in range(len(names))],
    )
    content = GraphWithSubsets(
        graph,
        tuple(HeldOutTask(name, "held out") for name in test_names),
        {"few": names[:2], "none": []} if subsets is None else subsets,
    )
    options = {"top_k": 3, "near_duplicate_threshold": 0.6} | options
    return content, write_graph_files(directory, content, **options)


def test_tables_are_those_of_all_pairs_and_graphml_agrees(tmp_path):
    calls = []
    names = [f"task{number:02}" for number in range(17)]
    content, files = write(tmp_path, names, on_progress=lambda done, total: calls.append((done, total)))
    tables = {p.stem: read_table(p).to_pylist() for p in files.paths.values() if p.suffix == ".parquet"}
    every = [*names, "t1", "t2"]
    unit_AD = np.concatenate([content.graph.vectors_ND, content.graph.test_vectors_TD]).astype(float)
    unit_AD /= np.linalg.norm(unit_AD, axis=1, keepdims=True)
    unit = dict(zip(every, unit_AD, strict=True))
    cosine = {(a, b): min(1.0, float(unit[a] @ unit[b])) for a in every for b in every}

    best = {
        a: sorted((b for b in names if b != a), key=lambda b: (-round(cosine[a, b], 9), names.index(b))) for a in every
    }
    assert [(r["task"], r["rank"], r["neighbour"]) for r in tables["neighbours"]] == [
        (a, rank, b) for a in names for rank, b in enumerate(best[a][:3], 1)
    ]
    edges = {(r["source"], r["target"]): r["similarity"] for r in tables["edges"]}
    assert len(edges) == len(tables["edges"]) == files.counts["edges"]
    assert set(edges) == {
        (a, b) for i, a in enumerate(names) for b in names[i:] if b in best[a][:3] or a in best[b][:3]
    }
    assert edges == {pair: pytest.approx(cosine[pair], abs=1e-12) for pair in edges}
    close = {(r["task_a"], r["task_b"]): (r["role_a"], r["role_b"]) for r in tables["near_duplicates"]}
    assert close == {
        (a, b): ("pool", "pool" if b in names else "test")
        for i, a in enumerate(names) for b in every[i + 1 :] if cosine[a, b] >= 0.6
    }  # fmt: skip
    assert {"pool", "test"} == {role for _, role in close.values()}
    found = [r["similarity"] for r in tables["near_duplicates"]]
    assert found == sorted(found, reverse=True)
    assert found == [pytest.approx(cosine[pair], abs=1e-12) for pair in close]

    for row in tables["nodes"]:
        task = row["task"]
        others = [cosine[task, b] for b in names if b != task]
        assert row["mean_similarity"] == pytest.approx(np.mean(others), abs=1e-12)
        assert (row["nearest"], row["nearest_similarity"]) == (best[task][0], pytest.approx(max(others), abs=1e-12))
        assert (row["subset:few"], row["subset:none"]) == (task in names[:2], False)
    assert [r["role"] for r in tables["nodes"]] == ["pool"] * 17 + ["test"] * 2
    assert [r["sources"] for r in tables["nodes"]] == [*map(list, content.graph.sources), None, None]

    graph = nx.read_graphml(files.paths["graph.graphml"])
    assert {tuple(sorted(e[:2], key=names.index)): e[2]["weight"] for e in graph.edges(data=True)} == edges
    assert list(graph) == every
    for row in tables["nodes"]:
        row["sources"] = "; ".join(row["sources"] or ())
        task = row.pop("task")
        assert graph.nodes[task] == {"label": task, **row}
        assert all(type(graph.nodes[task][key]) is type(value) for key, value in row.items())
    assert calls[-1] == (calls[-1][1],) * 2
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_the_same_inputs_give_the_same_bytes_of_every_file(tmp_path):
    names = [f"task{number}" for number in range(9)]
    _, first = write(tmp_path / "a", names)
    _, second = write(tmp_path / "b", names)
    assert set(first.paths) == {p.name for p in (tmp_path / "a").iterdir()} == {
        *("nodes.parquet", "edges.parquet", "neighbours.parquet", "near_duplicates.parquet", "graph.graphml"),
        *("map.svg", "map.png", "categories.svg", "categories.png"),
    }  # fmt: skip
    for name, path in first.paths.items():
        assert path.read_bytes() == second.paths[name].read_bytes(), name


@pytest.mark.filterwarnings("ignore:Glyph")
def test_hostile_names_break_neither_xml_nor_each_other(tmp_path):
    _, files = write(
        tmp_path, EVIL, categories=EVIL, sources=[EVIL] * 7, subsets=dict.fromkeys(EVIL, EVIL[:1])
    )  # fmt: skip
    for name in ("graph.graphml", "map.svg", "categories.svg"):
        ElementTree.fromstring(files.paths[name].read_bytes())
    graph = nx.read_graphml(io.BytesIO(files.paths["graph.graphml"].read_bytes()))
    nodes = read_table(files.paths["nodes.parquet"])
    # Tables hold names as they are, so that they join with the run's others.
    assert nodes["task"].to_pylist() == [*sorted(EVIL), "t1", "t2"]
    assert len(graph) == len(set(graph)) == 9
    assert graph.number_of_edges() == files.counts["edges"]
    assert [name for name in graph if name.startswith("a")] == [
        "a\ufffd\ufffdb",
        "a\ufffd\ufffdb (2)",
        "a\ufffd\ufffdb (3)",
    ]
    assert sum(key.startswith("subset:") for key in graph.nodes["t1"]) == 7
    assert graph.nodes["line\ufffdbreak\ufffd\ufffd"]["nearest"] == "a\ufffd\ufffdb (2)"


@pytest.mark.parametrize("num_tasks", [1, 2, 3])
@pytest.mark.parametrize("num_test", [0, 1])
def test_tiny_graphs_are_written(tmp_path, num_tasks, num_test):
    _, files = write(tmp_path, ["a", "b", "c"][:num_tasks], ["t"][:num_test])
    nodes = read_table(files.paths["nodes.parquet"]).to_pylist()
    assert len(nodes) == num_tasks + num_test == len(nx.read_graphml(files.paths["graph.graphml"]))
    assert files.counts["edges"] == num_tasks * (num_tasks - 1) // 2
    assert (nodes[0]["nearest"] is None) == (nodes[0]["mean_similarity"] is None) == (num_tasks == 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"test_names": ["t", "t"]}, "duplicate task name 't'"),
        ({"test_names": ["a", "t"]}, "duplicate task name 'a'"),
        ({"subsets": {"x": ["t1"]}}, "not in the pool: t1"),
    ],
)
def test_a_graph_that_contradicts_itself_is_refused(tmp_path, changes, reason):
    with pytest.raises(ValueError, match=reason):
        write(tmp_path / "out", ["a", "b", "c"], **changes)
    assert not (tmp_path / "out").exists()
