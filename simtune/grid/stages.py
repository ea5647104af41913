"""The stages before training: tasks, embeddings, graph, subsets, and their files in the run directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from simtune.config import Sweep
from simtune.embedding.embed import TaskEmbeddings, embed_tasks
from simtune.embedding.encoder import ResolvedEncoder, resolve_encoder
from simtune.executors.base import Executor
from simtune.graph.categories import category_similarity
from simtune.graph.similarity import SimilarityGraph
from simtune.grid.grid_points import SUBSETS_FOLLOW, TASKS_FOLLOW, PointTasks, grid_label, open_tasks
from simtune.progress import Display
from simtune.selection.overlaps import overlaps_table
from simtune.selection.split_lists import SplitList, split_lists, write_split_lists
from simtune.selection.subsets import Subset, build_subsets
from simtune.selection.tables import quotas_table, subsets_table
from simtune.storage.files import AnyPath, cache_folder, fingerprint
from simtune.storage.parquet_files import write_table
from simtune.wording import counted, some

FoundEncoders = Mapping[tuple[str, str | None], ResolvedEncoder]
"""The encoders of a sweep by name and revision."""


def read_tasks(sweep: Sweep, display: Display, trains: bool = False) -> list[PointTasks]:
    """Reads and checks the tasks and reports what was dropped; see `open_tasks`."""
    with display.stage("read tasks") as on_progress:
        tasks_by_point = open_tasks(sweep, on_progress, trains)
    tasks = tasks_by_point[0].tasks
    num_splits = len({prepared.split for prepared in tasks_by_point})
    first = f"{counted(num_splits, 'split')}, of the first: " if num_splits > 1 else ""
    display.note(
        f"  {first}{counted(len(tasks.pool), 'task')} in the pool, {len(tasks.test)} held out, "
        f"{len(tasks.dropped)} dropped"
    )
    for side in ("train", "test"):
        if absent := _dropped_at(tasks_by_point, f"{side} task not on disk"):
            display.warn(f"{counted(len(absent), f'{side} task')} not on disk: {some(absent)} (tasks.parquet)")
    unreadable = _dropped_at(tasks_by_point, "unreadable")
    if unreadable:
        display.warn(
            f"{counted(len(unreadable), 'unreadable task file was', 'unreadable task files were')} left out: "
            f"{some(unreadable)} (tasks.parquet)"
        )
    for suite in {name: tasks for prepared in tasks_by_point for name, tasks in prepared.suites.items()}.values():
        if suite.without_choices:
            display.note(
                f"  suite {suite.suite.name!r} ranks {counted(len(suite.tasks), 'test task')}; "
                f"{counted(len(suite.without_choices), 'task')} without answer choices "
                f"(max_choices: {suite.suite.max_choices}) left out: {some(suite.without_choices)}"
            )
    problems = dict.fromkeys(problem for prepared in tasks_by_point for problem in prepared.tasks.problems)
    remarks = [str(problem) for problem in problems if problem.severity == "warning"]
    if remarks:
        display.warn(
            f"{counted(len(remarks), 'remark')} on task files, first: {remarks[0]} (`simtune data check` has them all)"
        )
    return tasks_by_point


def _dropped_at(tasks_by_point: Sequence[PointTasks], reason_group: str) -> list[str]:
    """The tasks that any grid point dropped for a reason of this group."""
    dropped = (record for prepared in tasks_by_point for record in prepared.tasks.dropped)
    return list(dict.fromkeys(record.task for record in dropped if record.reason_group == reason_group))


def find_encoders(points: Sequence[PointTasks], display: Display) -> FoundEncoders:
    """Finds every encoder that the settings name, so that a wrong name is reported before anything is written.

    Returns:
        The encoders by name and revision. All their files have been read.

    Raises:
        ModelError: an encoder is nowhere.
    """
    with display.stage("check encoder"):
        wanted = dict.fromkeys((point.sweep.embedding.encoder, point.sweep.embedding.revision) for point in points)
        return {(name, revision): resolve_encoder(name, revision) for name, revision in wanted}


def embed_points(
    tasks_by_point: Sequence[PointTasks], encoders: FoundEncoders, executor: Executor, display: Display
) -> list[TaskEmbeddings]:
    """Embeddings of the pool and the test tasks at each grid point, each distinct text once.

    The leak guard comes after it, so tasks that it will take out of the pool are embedded too: vectors do not depend on
    the policy.
    """
    cache = cache_folder(tasks_by_point[0].sweep.storage) / "embeddings"
    made: dict[str, TaskEmbeddings] = {}
    result = []
    for prepared in tasks_by_point:
        key = _embedding_key(prepared)
        if key not in made:
            with display.stage("embed tasks") as on_progress:
                tasks, embedding = (*prepared.tasks.pool, *prepared.scored), prepared.sweep.embedding
                encoder = encoders[embedding.encoder, embedding.revision]
                made[key] = embed_tasks(tasks, embedding, cache, executor.encode_texts, on_progress, encoder)
            _note_embeddings(made[key], display)
        result.append(made[key])
    return result


def graph_of(prepared: PointTasks, embedded: TaskEmbeddings) -> SimilarityGraph:
    """The similarity graph of a grid point's pool, with its test tasks beside it."""
    pool, test = prepared.tasks.pool, prepared.tasks.test
    return SimilarityGraph.build(
        [task.name for task in pool],
        [task.category for task in pool],
        embedded.rows_of([task.name for task in pool]),
        embedded.rows_of([task.name for task in test]),
        [task.sources for task in pool],
    )


def select_subsets(
    tasks_by_point: Sequence[PointTasks], embeddings: Sequence[TaskEmbeddings], display: Display
) -> list[list[Subset]]:
    """The subsets at each grid point."""
    made: dict[str, list[Subset]] = {}
    with display.stage("choose subsets") as on_progress:
        for prepared, embedded in zip(tasks_by_point, embeddings, strict=True):
            key = _embedding_key(prepared)
            if key not in made:
                made[key] = build_subsets(
                    graph_of(prepared, embedded),
                    prepared.sweep.selection,
                    on_progress,
                    why_absent=prepared.tasks.why_absent,
                )
    for note in dict.fromkeys(subset.note for subsets in made.values() for subset in subsets if subset.note):
        display.warn(note)
    return [made[_embedding_key(prepared)] for prepared in tasks_by_point]


def write_stage_tables(
    run_directory: AnyPath,
    tasks_by_point: Sequence[PointTasks],
    embeddings: Sequence[TaskEmbeddings],
    subsets: Sequence[Sequence[Subset]] = (),
) -> None:
    """Writes what the stages have made: tasks, embeddings and, where there are subsets, those with all about them.

    Column `grid` says which swept values rows belong to; split lists of a grid point are in a folder of its name.
    """
    tables: dict[str, dict[str, pa.Table]] = {}
    # Tasks that leak by their embedding may be out of the pool, and which do is the encoder's to say.
    by_encoder = any(leak.evidence == "embedding" for prepared in tasks_by_point for leak in prepared.leaks)
    lists: dict[str, SplitList] = {}
    for index, prepared in enumerate(tasks_by_point):
        label = grid_label(prepared.point.values, SUBSETS_FOLLOW if by_encoder else TASKS_FOLLOW)
        tables.setdefault("tasks", {}).setdefault(label, prepared.tasks.table())
        label = grid_label(prepared.point.values, SUBSETS_FOLLOW)
        if label in tables.setdefault("embeddings", {}):
            continue
        tables["embeddings"][label] = embeddings[index].table()
        if subsets:
            made = {
                "subsets": subsets_table(subsets[index]),
                "quotas": quotas_table(subsets[index]),
                "overlaps": overlaps_table(subsets[index]),
                "categories": category_similarity(graph_of(prepared, embeddings[index])).table(),
            }
            for name, table in made.items():
                tables.setdefault(name, {})[label] = table
            lists |= split_lists(subsets[index], [task.name for task in prepared.tasks.test], label)
    if subsets:
        write_split_lists(run_directory, lists)
    for name, by_label in tables.items():
        parts = [
            table.add_column(0, "grid", pa.array([label] * len(table), pa.string()))
            for label, table in by_label.items()
        ]
        write_table(run_directory / f"{name}.parquet", pa.concat_tables(parts).combine_chunks())


def corpus_key(prepared: PointTasks) -> str:
    """Which tasks with which instances a grid point has."""
    # The names too: what leaks may be out of the pool.
    names = [task.name for task in prepared.tasks.pool]
    return fingerprint(
        [prepared.sweep.corpus.model_dump(mode="json"), prepared.sweep.evaluation.instances_per_task, names]
    )


def _embedding_key(prepared: PointTasks) -> str:
    scored = [task.name for task in prepared.scored]
    return fingerprint([corpus_key(prepared), prepared.sweep.embedding.model_dump(mode="json"), scored])


def _note_embeddings(embedded: TaskEmbeddings, display: Display) -> None:
    cached = (
        f"{embedded.num_computed} encoded now, the rest from the cache"
        if embedded.num_computed
        else "all from the cache"
    )
    display.note(f"  {counted(len(embedded.names), 'task')}, {cached}; {embedded.cuts}")
    if embedded.num_damaged:
        display.warn(
            f"{counted(embedded.num_damaged, 'damaged entry', 'damaged entries')} of the embedding cache set aside "
            "and encoded again"
        )
