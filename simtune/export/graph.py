"""`simtune graph`: the similarity graph of a sweep as files, with its subsets marked."""

from __future__ import annotations

from simtune.config import Sweep, expand_grid
from simtune.errors import UserError
from simtune.executors.base import Executor
from simtune.export.graph_files import GraphFiles, write_graph_files
from simtune.graph.categories import category_similarity
from simtune.progress import Display
from simtune.selection.split_lists import folder_names
from simtune.storage.files import as_path, fingerprint
from simtune.sweep.stages import graph_of
from simtune.sweep.train_one import embed_and_select

GRAPH = "graph"
_SEVERAL = "grid: the sweep has several graphs; choose one, with --set grid={} and --set for its fields"


def write_graph(
    sweep: Sweep, executor: Executor, display: Display, top_k: int, near_duplicate_threshold: float
) -> GraphFiles:
    """Embeds and selects, then writes the graph of the sweep's tasks to `RUN/graph/`.

    Args:
        sweep: of one grid point, as far as tasks and embeddings go.
        executor: encodes, and compares blocks of tasks where the pool is large.
        display: told of progress.
        top_k: neighbours of each task that become edges.
        near_duplicate_threshold: cosine similarity of pairs that are listed.

    Raises:
        UserError: the sweep is wrong, or has several graphs.
    """
    graphs = {
        fingerprint(
            [
                settings.corpus.model_dump(mode="json"),
                settings.evaluation.instances_per_task,
                settings.embedding.model_dump(mode="json"),
            ]
        )
        for settings in (point.sweep for point in expand_grid(sweep))
    }
    if len(graphs) > 1:
        raise UserError(_SEVERAL)
    stages = embed_and_select(sweep, executor, display, with_subsets=True)
    # Leaks may have left the grid points different pools.
    pools = {tuple(task.name for task in study.tasks.pool) for study in stages.studies}
    if len({id(embedded) for embedded in stages.embeddings}) > 1 or len(pools) > 1:
        raise UserError(_SEVERAL)
    study, embedded = stages.studies[0], stages.embeddings[0]
    graph = graph_of(study, embedded)
    test = study.tasks.test
    similarity = category_similarity(graph)
    # The arm last, where its mark as an oracle is not cut off.
    labels = {
        f"{subset.size}{f' seed {subset.seed}' if '-seed' in name else ''} {subset.arm}": subset
        for name, subset in folder_names(stages.subsets[0]).items()
    }
    with display.stage("draw the graph") as on_progress:
        return write_graph_files(
            as_path(sweep.storage) / sweep.name / GRAPH,
            graph.names,
            graph.categories,
            graph.sources,
            graph.vectors_ND,
            [task.name for task in test],
            [task.category for task in test],
            graph.test_vectors_TD,
            [(label, subset.tasks) for label, subset in labels.items()],
            top_k,
            near_duplicate_threshold,
            (similarity.names, similarity.mean_vector_CC),
            executor.map_blocks,
            on_progress,
            [task.sources for task in test],
        )
