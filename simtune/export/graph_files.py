"""The graph of tasks as files: tables, GraphML for other programs, and two figures.

Legend: N tasks of the pool, T test tasks, A both, D dimensions, K neighbours, E edges, P pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simtune.export.graph_tables import (
    AllTasks,
    edges_table,
    near_duplicates_table,
    neighbours_table,
    nodes_table,
    unique_edges,
)
from simtune.export.graphml import graphml_bytes, xml_names
from simtune.graph.blocks import MapBlocks, T, Work, block_ranges, map_blocks_here
from simtune.graph.categories import category_similarity
from simtune.graph.layout import layout_2d
from simtune.graph.neighbours import Neighbours, SimilarPairs, near_duplicates, top_neighbours
from simtune.graph.similarity import SimilarityGraph
from simtune.graph.unit_vectors import unit_rows
from simtune.storage.files import AnyPath, write_bytes
from simtune.storage.parquet_files import table_bytes
from simtune.wording import counted

OnProgress = Callable[[int, int], None]

_STEPS_AFTER_BLOCKS = 4
"""Layout, tables, GraphML and figures."""


@dataclass(frozen=True)
class HeldOutTask:
    """A test task: its name, its category, and its data sets or None where they are unknown."""

    name: str
    category: str
    sources: tuple[str, ...] | None = None


@dataclass(frozen=True)
class GraphWithSubsets:
    """What is written.

    Attributes:
        graph: of the pool, with the vectors of the test tasks.
        test_tasks: one for each of the graph's test vectors, with different names.
        subsets: chosen tasks of each subset by its label.
    """

    graph: SimilarityGraph
    test_tasks: tuple[HeldOutTask, ...]
    subsets: Mapping[str, Sequence[str]]

    def check(self) -> None:
        """Refuses contradictions.

        Raises:
            ValueError: duplicate task names, a subset with a task that is not in the pool, or a number of test tasks
                that is not the number of their vectors.
        """
        counts = Counter([*self.graph.names, *(task.name for task in self.test_tasks)])
        for name, count in sorted(counts.items()):
            if count > 1:
                raise ValueError(f"duplicate task name {name!r} in the graph")
        if len(self.test_tasks) != len(self.graph.test_vectors_TD):
            num_tasks, num_vectors = len(self.test_tasks), len(self.graph.test_vectors_TD)
            raise ValueError(f"{counted(num_tasks, 'test task')} for {counted(num_vectors, 'vector')}")
        for label, chosen in self.subsets.items():
            if unknown := sorted(set(chosen) - set(self.graph.names)):
                raise ValueError(f"subset {label!r} has tasks that are not in the pool: {', '.join(unknown[:5])}")

    def all_tasks(self) -> AllTasks:
        """The pool's tasks and the test tasks together."""
        graph, test = self.graph, self.test_tasks
        return AllTasks(
            names=(*graph.names, *(task.name for task in test)),
            categories=(*graph.categories, *(task.category for task in test)),
            sources=(*graph.sources, *(task.sources for task in test)),
            unit_AD=np.concatenate([unit_rows(graph.vectors_ND), unit_rows(graph.test_vectors_TD)]),
            num_pool=len(graph),
        )


@dataclass(frozen=True)
class GraphFiles:
    """What was written.

    Attributes:
        paths: of each file, by its name.
        counts: rows of each table, by its name without `.parquet`.
    """

    paths: dict[str, AnyPath]
    counts: dict[str, int]


def write_graph_files(
    directory: AnyPath,
    content: GraphWithSubsets,
    top_k: int,
    near_duplicate_threshold: float,
    map_blocks: MapBlocks = map_blocks_here,
    on_progress: OnProgress = lambda done, total: None,
) -> GraphFiles:
    """Writes the graph's tables, `graph.graphml` and the figures `map` and `categories` as SVG and PNG.

    Args:
        directory: created where it is missing; files in it are replaced one by one, each atomically.
        content: the graph, and subsets to mark: a column `subset:<label>` in the nodes and a panel of the map each.
        top_k: neighbours of each task of the pool; an edge joins two where one is among the other's.
        near_duplicate_threshold: cosine similarity of pairs to list, in the pool and between pool and test tasks.
        map_blocks: runs the comparison of blocks of tasks; it has no effect on the bytes.
        on_progress: called with the number of steps done and of all steps.

    Returns:
        Where the files are and how many rows the tables have. The same input gives the same bytes.

    Raises:
        ValueError: the content contradicts itself (see `GraphWithSubsets.check`); nothing is written.
    """
    content.check()
    tasks = content.all_tasks()
    rows_by_label = {
        label: np.array([content.graph.index[name] for name in chosen], dtype=np.int64)
        for label, chosen in content.subsets.items()
    }
    passes = ((tasks.num_pool, len(n)) for n in (tasks.pool_ND, tasks.pool_ND, tasks.test_TD))
    progress = _Progress(map_blocks, on_progress, *passes)
    # At least one neighbour, because the nodes name the nearest task.
    found = top_neighbours(tasks.pool_ND, max(1, top_k), map_blocks=progress.map_blocks)
    progress.finish_pass()
    pairs = _all_near_duplicates(tasks, near_duplicate_threshold, progress)
    neighbours = Neighbours(found.index_NK[:, :top_k], found.similarity_NK[:, :top_k])
    edges = unique_edges(neighbours)
    position_A2 = layout_2d(tasks.unit_AD)
    progress.step()

    nearest = (found, top_neighbours(tasks.test_TD, 1, tasks.pool_ND))
    tables = {
        "nodes": nodes_table(tasks, position_A2, nearest, rows_by_label),
        "edges": edges_table(tasks, edges),
        "neighbours": neighbours_table(tasks, neighbours),
        "near_duplicates": near_duplicates_table(tasks, pairs),
    }
    files = {f"{name}.parquet": table_bytes(table) for name, table in tables.items()}
    progress.step()
    files["graph.graphml"] = graphml_bytes(tables["nodes"], edges)
    progress.step()
    files |= _figures(content.graph, tasks, position_A2, rows_by_label)
    for name, data in files.items():
        write_bytes(directory / name, data)
    progress.step()
    paths = {name: directory / name for name in files}
    return GraphFiles(paths, {name: len(table) for name, table in tables.items()})


class _Progress:
    """Counts blocks and steps; a pass that takes fewer blocks than planned, as of one task, counts in full."""

    def __init__(self, map_blocks: MapBlocks, on_progress: OnProgress, *passes: tuple[int, int]) -> None:
        self._map_blocks, self._on_progress = map_blocks, on_progress
        self._ends = np.cumsum([len(block_ranges(*rows_and_columns)) for rows_and_columns in passes]).tolist()
        self._total = self._ends[-1] + _STEPS_AFTER_BLOCKS
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


def _all_near_duplicates(tasks: AllTasks, threshold: float, progress: _Progress) -> SimilarPairs:
    """Pairs in the pool, and between the pool and the test tasks, as rows of all tasks."""
    within = near_duplicates(tasks.pool_ND, threshold, map_blocks=progress.map_blocks)
    progress.finish_pass()
    across = near_duplicates(tasks.pool_ND, threshold, tasks.test_TD, map_blocks=progress.map_blocks)
    progress.finish_pass()
    first_P = np.concatenate([within.first_P, across.first_P])
    second_P = np.concatenate([within.second_P, across.second_P + tasks.num_pool])
    similarity_P = np.concatenate([within.similarity_P, across.similarity_P])
    order_P = np.lexsort((second_P, first_P, -similarity_P))
    return SimilarPairs(first_P[order_P], second_P[order_P], similarity_P[order_P])


def _figures(
    graph: SimilarityGraph, tasks: AllTasks, position_A2: np.ndarray, subsets: Mapping[str, np.ndarray]
) -> dict[str, bytes]:
    """The figures' files by name, with all names as XML can hold them."""
    from simtune.report.category_matrix import figure_category_matrix
    from simtune.report.task_map import figure_task_map

    similarity = category_similarity(graph)
    safe = dict(zip(similarity.names, xml_names(similarity.names), strict=True))
    pool_categories = [safe[category] for category in graph.categories]
    positions = position_A2[: tasks.num_pool], position_A2[tasks.num_pool :]
    panels = list(zip(xml_names(subsets), subsets.values(), strict=True))
    plots = {
        "map": figure_task_map(positions[0], pool_categories, positions[1], panels),
        "categories": figure_category_matrix(
            list(safe.values()), similarity.mean_vector_CC, similarity.num_tasks_C.tolist()
        ),
    }
    files = {}
    for name, plot in plots.items():
        files[f"{name}.svg"], files[f"{name}.png"] = plot.svg, plot.png()
    return files
