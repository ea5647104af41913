"""`simtune graph`: the similarity graph of a sweep as files, with its subsets marked."""

from __future__ import annotations

from simtune.config import Sweep
from simtune.errors import UserError
from simtune.executors.base import Executor
from simtune.export.graph_files import GraphFiles, GraphWithSubsets, HeldOutTask, write_graph_files
from simtune.grid.grid_points import grid_points
from simtune.grid.stages import graph_of
from simtune.progress import Display
from simtune.selection.split_lists import folder_names
from simtune.storage.files import as_path, fingerprint
from simtune.sweep.train_one import embed_and_select

GRAPH = "graph"
_SEVERAL = "grid: the sweep has several graphs; choose one with --set grid={} and --set for its fields"


def write_sweep_graph(
    sweep: Sweep, executor: Executor, display: Display, top_k: int, near_duplicate_threshold: float
) -> GraphFiles:
    """Embeds and selects, then writes the graph of the sweep's tasks to `RUN/graph/`.

    Args:
        sweep: its grid must vary neither tasks nor embeddings.
        executor: encodes, and compares blocks of tasks where the pool is large.
        display: shows progress.
        top_k: neighbours of each task that become edges.
        near_duplicate_threshold: cosine similarity of pairs that are listed.

    Raises:
        UserError: the sweep is wrong, or its grid gives several graphs.
    """
    graphs = {
        fingerprint(
            [
                settings.corpus.model_dump(mode="json"),
                settings.evaluation.instances_per_task,
                settings.embedding.model_dump(mode="json"),
            ]
        )
        for settings in (point.sweep for point in grid_points(sweep))
    }
    if len(graphs) > 1:
        raise UserError(_SEVERAL)
    stages = embed_and_select(sweep, executor, display, with_subsets=True)
    # The leak guard may have removed different tasks at each grid point.
    pools = {tuple(task.name for task in prepared.tasks.pool) for prepared in stages.points}
    if len({id(embedded) for embedded in stages.embeddings}) > 1 or len(pools) > 1:
        raise UserError(_SEVERAL)
    prepared = stages.points[0]
    # The arm comes last, where its mark as an oracle is not cut off.
    subsets = {
        f"{subset.size}{f' seed {subset.seed}' if '-seed' in name else ''} {subset.arm}": subset.tasks
        for name, subset in folder_names(stages.subsets[0]).items()
    }
    content = GraphWithSubsets(
        graph=graph_of(prepared, stages.embeddings[0]),
        test_tasks=tuple(HeldOutTask(task.name, task.category, task.sources) for task in prepared.tasks.test),
        subsets=subsets,
    )
    directory = as_path(sweep.storage) / sweep.name / GRAPH
    with display.stage("draw the graph") as on_progress:
        return write_graph_files(directory, content, top_k, near_duplicate_threshold, executor.map_blocks, on_progress)
