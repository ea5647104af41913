"""The graph of tasks as files: tables, GraphML for other programs, and two figures.

Legend: N tasks of the pool, T test tasks, A both, D dimensions, C categories, K neighbours, E edges, P pairs.

Tables hold names as they are, so that they join with the run's others. GraphML and figures are XML, which cannot hold
every name: there control characters become U+FFFD, and names that collide by that get a number.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from simtune.graph.blocks import MapBlocks, T, Work, block_ranges, map_blocks_here
from simtune.graph.layout import layout_2d
from simtune.graph.neighbours import Neighbours, Pairs, near_duplicates, top_neighbours, unit_rows
from simtune.report.results_view import clean
from simtune.storage.files import AnyPath, table_bytes, write_bytes

if TYPE_CHECKING:
    import pyarrow as pa

OnProgress = Callable[[int, int], None]

_NOT_XML = re.compile("[^ -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STEPS_AFTER = 4
"""Layout, tables, GraphML and figures, as steps of the progress beside the blocks."""


@dataclass(frozen=True)
class GraphFiles:
    """What was written.

    Attributes:
        paths: of each file, by its name.
        counts: rows of each table, by its name without `.parquet`.
    """

    paths: dict[str, AnyPath]
    counts: dict[str, int]


@dataclass(frozen=True)
class _Tasks:
    """All tasks, the pool's first."""

    names: tuple[str, ...]
    categories: tuple[str, ...]
    sources: tuple[tuple[str, ...] | None, ...]
    unit_AD: np.ndarray
    num_pool: int

    @property
    def roles(self) -> list[str]:
        return ["pool"] * self.num_pool + ["test"] * (len(self.names) - self.num_pool)


def write_graph_files(
    directory: AnyPath,
    names: Sequence[str],
    categories: Sequence[str],
    sources: Sequence[Sequence[str]],
    vectors_ND: np.ndarray,
    test_names: Sequence[str],
    test_categories: Sequence[str],
    test_vectors_TD: np.ndarray,
    subsets: Sequence[tuple[str, Sequence[str]]],
    top_k: int,
    near_duplicate_threshold: float,
    category_similarity: tuple[Sequence[str], np.ndarray],
    map_blocks: MapBlocks = map_blocks_here,
    on_progress: OnProgress = lambda done, total: None,
    test_sources: Sequence[Sequence[str] | None] | None = None,
    seed: int = 0,
) -> GraphFiles:
    """Writes the graph's tables, `graph.graphml` and the figures `map` and `categories` as SVG and PNG.

    Args:
        directory: made where it is missing; files in it are replaced one by one, each atomically.
        names: of the pool's tasks, different ones.
        categories: one a task of the pool.
        sources: data sets of each task of the pool.
        vectors_ND: [N, D] of any length; a zero vector is like nothing.
        test_names: of the test tasks, different from each other and from the pool's.
        test_categories: one a test task.
        test_vectors_TD: [T, D].
        subsets: label and chosen tasks of each; a column `subset:<label>` in the nodes and a panel of the map.
        top_k: neighbours of each task of the pool; an edge joins two where one is among the other's.
        near_duplicate_threshold: cosine similarity of pairs listed, within the pool and of the pool with the test
            tasks.
        category_similarity: names of categories and their similarities [C, C], for the figure.
        map_blocks: who compares blocks of tasks; it changes no byte.
        on_progress: called with steps done and steps in all.
        test_sources: data sets of each test task, none where unknown.
        seed: of the layout.

    Returns:
        Where the files are and how many rows the tables have. The same input gives the same bytes.

    Raises:
        ValueError: a name or label stands twice, a subset holds a task that is not of the pool, lengths differ, or a
            vector is not finite. Nothing is written then.
    """
    _check(names, test_names, subsets)
    tasks = _Tasks(
        names=(*names, *test_names),
        categories=(*categories, *test_categories),
        sources=(*(tuple(s) for s in sources), *_sources(test_sources, len(test_names))),
        unit_AD=np.concatenate([unit_rows(vectors_ND), unit_rows(test_vectors_TD)]),
        num_pool=len(names),
    )
    lengths = {len(tasks.names), len(tasks.categories), len(tasks.sources), len(tasks.unit_AD)}
    if len(lengths) > 1 or len(vectors_ND) != len(names) or len(categories) != len(names):
        raise ValueError("names, categories, sources and vectors differ in number")
    place = {name: row for row, name in enumerate(names)}
    chosen = {label: np.array([place[name] for name in picked], dtype=np.int64) for label, picked in subsets}

    progress = _Progress(map_blocks, on_progress, *((len(names), len(n)) for n in (names, names, test_names)))
    pool_ND, test_TD = tasks.unit_AD[: len(names)], tasks.unit_AD[len(names) :]
    # One neighbour at least: the nodes name the nearest.
    found = top_neighbours(pool_ND, max(1, top_k), map_blocks=progress.map_blocks)
    progress.finish_pass()
    pairs = _all_near_duplicates(pool_ND, test_TD, near_duplicate_threshold, progress)
    test_found = top_neighbours(test_TD, 1, pool_ND)
    kept = Neighbours(found.index_NK[:, :top_k], found.similarity_NK[:, :top_k])
    edges = _edges(kept)
    position_A2 = layout_2d(tasks.unit_AD, seed)
    progress.step()

    nodes = _nodes(tasks, position_A2, found, test_found, chosen)
    tables = {
        "nodes": nodes,
        "edges": _edge_table(tasks, edges),
        "neighbours": _neighbour_table(tasks, kept),
        "near_duplicates": _pair_table(tasks, pairs),
    }
    paths = {}

    def write(name: str, data: bytes) -> None:
        paths[name] = directory / name
        write_bytes(paths[name], data)

    for name, table in tables.items():
        write(f"{name}.parquet", table_bytes(table))
    progress.step()
    write("graph.graphml", _graphml(nodes, edges))
    progress.step()
    for name, data in _figures(tasks, position_A2, chosen, category_similarity):
        write(name, data)
    progress.step()
    return GraphFiles(paths, {name: len(table) for name, table in tables.items()})


def _check(names: Sequence[str], test_names: Sequence[str], subsets: Sequence[tuple[str, Sequence[str]]]) -> None:
    twice = sorted(name for name, count in Counter([*names, *test_names]).items() if count > 1)
    if twice:
        raise ValueError(f"task {twice[0]!r} stands twice in the graph")
    labels = Counter(label for label, _ in subsets)
    for label, picked in subsets:
        if labels[label] > 1:
            raise ValueError(f"two subsets have the label {label!r}")
        if strangers := sorted(set(picked) - set(names)):
            raise ValueError(f"subset {label!r} holds tasks that are not of the pool: {', '.join(strangers[:5])}")


def _sources(sources: Sequence[Sequence[str] | None] | None, count: int) -> Iterator[tuple[str, ...] | None]:
    for given in [None] * count if sources is None else sources:
        yield None if given is None else tuple(given)


class _Progress:
    """Counts blocks and steps; a pass that needs fewer blocks than planned, as of one task, counts as whole."""

    def __init__(self, map_blocks: MapBlocks, on_progress: OnProgress, *passes: tuple[int, int]) -> None:
        self._map_blocks, self._on_progress = map_blocks, on_progress
        self._ends = np.cumsum([len(block_ranges(*rows_and_columns)) for rows_and_columns in passes]).tolist()
        self._total = self._ends[-1] + _STEPS_AFTER
        self._done = 0
        on_progress(0, self._total)

    def map_blocks(
        self, work: Work[T], arrays: Mapping[str, np.ndarray], starts: Sequence[tuple[int, int]]
    ) -> Iterator[T]:
        for result in self._map_blocks(work, arrays, starts):
            self.step()
            yield result

    def finish_pass(self) -> None:
        self._done = self._ends.pop(0)

    def step(self) -> None:
        self._done += 1
        self._on_progress(self._done, self._total)


def _all_near_duplicates(pool_ND: np.ndarray, test_TD: np.ndarray, threshold: float, progress: _Progress) -> Pairs:
    """Pairs within the pool, and of the pool with the test tasks, whose rows follow the pool's."""
    within = near_duplicates(pool_ND, threshold, map_blocks=progress.map_blocks)
    progress.finish_pass()
    across = near_duplicates(pool_ND, threshold, test_TD, map_blocks=progress.map_blocks)
    progress.finish_pass()
    first_P = np.concatenate([within.first_P, across.first_P])
    second_P = np.concatenate([within.second_P, across.second_P + len(pool_ND)])
    similarity_P = np.concatenate([within.similarity_P, across.similarity_P])
    order_P = np.lexsort((second_P, first_P, -similarity_P))
    return Pairs(first_P[order_P], second_P[order_P], similarity_P[order_P])


def _edges(found: Neighbours) -> Pairs:
    """Each pair of neighbours once, the smaller row first, by rows."""
    num_tasks, k = found.index_NK.shape
    task_E, other_E = np.repeat(np.arange(num_tasks), k), found.index_NK.ravel()
    ends_E2 = np.stack([np.minimum(task_E, other_E), np.maximum(task_E, other_E)], axis=1)
    # A pair's similarity is the same to the bit from either end.
    once_E2, first = np.unique(ends_E2, axis=0, return_index=True)
    return Pairs(once_E2[:, 0], once_E2[:, 1], found.similarity_NK.ravel()[first])


def _nodes(
    tasks: _Tasks,
    position_A2: np.ndarray,
    found: Neighbours,
    test_found: Neighbours,
    chosen: Mapping[str, np.ndarray],
) -> pa.Table:
    import pyarrow as pa

    num_tasks, num_pool = len(tasks.names), tasks.num_pool
    columns: dict[str, Any] = {
        "task": pa.array(tasks.names, pa.string()),
        "role": pa.array(tasks.roles, pa.string()),
        "category": pa.array(tasks.categories, pa.string()),
        "sources": pa.array(tasks.sources, pa.list_(pa.string())),
        "x": position_A2[:, 0],
        "y": position_A2[:, 1],
        "mean_similarity": pa.array(_mean_similarity(tasks), pa.float64()),
        "nearest": pa.array(
            [tasks.names[row[0]] if len(row) else None for part in (found, test_found) for row in part.index_NK],
            pa.string(),
        ),
        "nearest_similarity": pa.array(
            [float(row[0]) if len(row) else None for part in (found, test_found) for row in part.similarity_NK],
            pa.float64(),
        ),
    }
    for label, rows in chosen.items():
        columns[f"subset:{label}"] = np.isin(np.arange(num_tasks), rows[rows < num_pool])
    return pa.table(columns)


def _mean_similarity(tasks: _Tasks) -> list[float | None]:
    """Of each task to the pool's others: a product with the sum of all vectors is the sum over all pairs."""
    pool_ND = tasks.unit_AD[: tasks.num_pool]
    # einsum sums in one order wherever it runs; a BLAS does not.
    total_A = np.einsum("ad,d->a", tasks.unit_AD, pool_ND.sum(axis=0))
    total_A[: tasks.num_pool] -= np.einsum("nd,nd->n", pool_ND, pool_ND)
    num_others = [tasks.num_pool - (role == "pool") for role in tasks.roles]
    return [
        total / count if count else None for total, count in zip(total_A.tolist(), num_others, strict=True)
    ]  # fmt: skip


def _edge_table(tasks: _Tasks, edges: Pairs) -> pa.Table:
    import pyarrow as pa

    return pa.table(
        {
            "source": _names(tasks, edges.first_P),
            "target": _names(tasks, edges.second_P),
            "similarity": edges.similarity_P,
        }
    )


def _neighbour_table(tasks: _Tasks, found: Neighbours) -> pa.Table:
    import pyarrow as pa

    num_tasks, k = found.index_NK.shape
    return pa.table(
        {
            "task": _names(tasks, np.repeat(np.arange(num_tasks), k)),
            "rank": np.tile(np.arange(1, k + 1, dtype=np.int64), num_tasks),
            "neighbour": _names(tasks, found.index_NK.ravel()),
            "similarity": found.similarity_NK.ravel(),
        }
    )


def _pair_table(tasks: _Tasks, pairs: Pairs) -> pa.Table:
    import pyarrow as pa

    role = np.array(tasks.roles, dtype=object)
    return pa.table(
        {
            "task_a": _names(tasks, pairs.first_P),
            "role_a": pa.array(role[pairs.first_P], pa.string()),
            "task_b": _names(tasks, pairs.second_P),
            "role_b": pa.array(role[pairs.second_P], pa.string()),
            "similarity": pairs.similarity_P,
        }
    )


def _names(tasks: _Tasks, rows: np.ndarray) -> pa.Array:
    import pyarrow as pa

    return pa.array([tasks.names[row] for row in rows.tolist()], pa.string())


def _graphml(nodes: pa.Table, edges: Pairs) -> bytes:
    """The graph with the nodes' columns as attributes; what is unknown is left out, lists are joined."""
    import networkx as nx

    rows = nodes.to_pylist()
    ids = _safe_names(row["task"] for row in rows)
    id_of = {row["task"]: safe for row, safe in zip(rows, ids, strict=True)}
    columns = dict(zip(nodes.column_names, _safe_names(nodes.column_names), strict=True))
    graph = nx.Graph()
    for row, node in zip(rows, ids, strict=True):
        del row["task"]
        row["sources"] = "; ".join(row["sources"] or ())
        if row["nearest"] is not None:
            row["nearest"] = id_of[row["nearest"]]
        attributes = {columns[key]: value for key, value in row.items() if value is not None}
        for key in ("role", "category", "sources"):
            attributes[key] = _safe(attributes[key])
        graph.add_node(node, label=node, **attributes)
    for first, second, similarity in zip(
        edges.first_P.tolist(), edges.second_P.tolist(), edges.similarity_P.tolist(), strict=True
    ):
        graph.add_edge(ids[first], ids[second], weight=similarity)
    sink = io.BytesIO()
    # Not `write_graphml`, whose bytes hang on whether lxml is installed.
    nx.write_graphml_xml(graph, sink)
    return sink.getvalue()


def _safe(name: str) -> str:
    """The name as XML can hold it on one line."""
    return _NOT_XML.sub("\ufffd", clean(name))


def _safe_names(names: Iterable[str]) -> list[str]:
    """Safe names, different where the names are: the second of two that collide gets " (2)", and so on."""
    taken: dict[str, int] = {}
    safe_names = []
    for name in names:
        base = safe = _safe(name)
        while safe in taken:
            taken[base] += 1
            safe = f"{base} ({taken[base]})"
        taken[safe] = 1
        safe_names.append(safe)
    return safe_names


def _figures(
    tasks: _Tasks,
    position_A2: np.ndarray,
    chosen: Mapping[str, np.ndarray],
    category_similarity: tuple[Sequence[str], np.ndarray],
) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the figures' files, with all names as XML can hold them."""
    from simtune.report.category_matrix import figure_category_matrix
    from simtune.report.task_map import figure_task_map

    categories, similarity_CC = category_similarity
    every = list(dict.fromkeys([*categories, *tasks.categories]))
    safe = dict(zip(every, _safe_names(every), strict=True))
    pool_categories = [safe[category] for category in tasks.categories[: tasks.num_pool]]
    num_tasks = Counter(pool_categories)
    subsets = list(zip(_safe_names(chosen), chosen.values(), strict=True))
    drawn = [safe[category] for category in categories]
    plots = {
        "map": figure_task_map(position_A2[: tasks.num_pool], pool_categories, position_A2[tasks.num_pool :], subsets),
        "categories": figure_category_matrix(drawn, similarity_CC, [num_tasks[category] for category in drawn]),
    }
    for name, plot in plots.items():
        yield f"{name}.svg", plot.svg()
        yield f"{name}.png", plot.png()
