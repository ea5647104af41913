"""Choosing from embeddings in a file, outside a sweep: instance-level and very large pools too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from simtune import __version__
from simtune.config import SelectionSettings
from simtune.config.loading import validate
from simtune.corpus.task import name_flaw
from simtune.embedding.embedding_file import EmbeddingFile, read_embeddings
from simtune.errors import CorpusError, shown
from simtune.graph.blocks import MapBlocks, map_blocks_here
from simtune.graph.categories import category_similarity
from simtune.graph.similarity import SimilarityGraph
from simtune.progress import Display
from simtune.selection.arms import Arm
from simtune.selection.overlaps import overlaps_table
from simtune.selection.split_lists import SPLITS, split_lists, write_split_lists
from simtune.selection.subsets import Subset, build_subsets, resolve_arms
from simtune.selection.tables import quotas_table, subsets_table
from simtune.storage.output_path import check_folder, check_writable, refuse_other_results, unwritable_named
from simtune.storage.parquet_files import write_table
from simtune.storage.records import Record, Sha256, write_record
from simtune.wording import counted, some

RECORD = "select.json"
"""The file that records what the subsets beside it were chosen from, and how."""
_WRITTEN = ("subsets.parquet", "overlaps.parquet", "quotas.parquet", "categories.parquet", SPLITS)
# Tables of categories have a row for each pair of them.
_MOST_CATEGORIES = 1000


class SelectionRecord(Record):
    """Everything that decides the subsets: the content of `select.json`.

    Attributes:
        simtune: its version.
        embeddings: SHA-256 of the embeddings of the pool.
        target: SHA-256 of the embeddings of the target; None without a target.
        lists: the task names of each list, wherever its file is.
    """

    version: Literal[1] = 1
    simtune: str
    embeddings: Sha256
    target: Sha256 | None
    selection: dict[str, Any]
    lists: dict[str, tuple[str, ...]]


def selection_of(strategies: Sequence[str], sizes: Sequence[int | str], seeds: Sequence[int]) -> SelectionSettings:
    """Settings from a command line.

    Raises:
        ConfigError: one of them is wrong; names the option.
    """
    options = {"strategies": "--strategy", "sizes": "--sizes", "seeds": "--seeds"}
    settings = {"strategies": list(strategies), "sizes": list(sizes), "seeds": list(seeds)}
    sweep = {"name": "select", "selection": settings}
    return validate(sweep, lambda field: options.get(str(field[1]) if field[1:] else "", "selection")).selection


def select_from_file(
    embeddings: Path,
    selection: SelectionSettings,
    target: Path | None,
    output: Path | None,
    display: Display,
    map_blocks: MapBlocks = map_blocks_here,
) -> list[Subset]:
    """Chooses subsets of the tasks of a parquet file (columns `task`, `embedding`; optionally `category`, `source`).

    Args:
        embeddings: the pool.
        selection: arms, sizes and seeds.
        target: embeddings of tasks to cover, for coverage and for oracle strategies.
        output: folder for the same tables and lists that a sweep's `select` writes; None writes nothing.
        display: shows progress.
        map_blocks: runs work that is quadratic in a large pool.

    Raises:
        CorpusError: a file is wrong, or pool and target do not fit or share a task.
        ConfigError: a strategy, a parameter or an option is wrong.
        UserError: the output cannot be written, or contains the subsets of another selection.
    """
    arms = resolve_arms(selection, "--strategy")
    _check_arguments(embeddings, arms, target, output)
    with display.stage("read embeddings"):
        pool = read_embeddings(embeddings)
        wanted = read_embeddings(target) if target is not None else None
        if output is not None:
            _check_names(pool, *([wanted] if wanted else []))
            record = _record(pool, wanted, selection, arms)
            refuse_other_results(output, record, RECORD, _WRITTEN)
        warnings = _options_without_effect(arms, pool)
        graph = graph_of_files(pool, wanted)
        targets = frozenset(wanted.names) if wanted is not None else frozenset()
        # The graph has its own copy, and memory may not hold a million tasks twice.
        del pool
    display.note(f"  {counted(len(graph), 'task')}, {counted(graph.vectors_ND.shape[1], 'dimension')}")
    for warning in warnings:
        display.warn(warning)

    def why_absent(name: str) -> str:
        return f"a task of {target}" if name in targets else f"not in {embeddings}"

    with display.stage("choose subsets") as on_progress:
        subsets = build_subsets(graph, selection, on_progress, map_blocks, why_absent)
    for note in dict.fromkeys(subset.note for subset in subsets if subset.note):
        display.warn(note)
    if output is not None:
        with display.stage("write subsets"), unwritable_named(output):
            # First, because the next call would refuse files without it as those of another program.
            write_record(output / RECORD, record)
            _write(output, graph, subsets, wanted)
    return subsets


def _check_arguments(embeddings: Path, arms: Sequence[Arm], target: Path | None, output: Path | None) -> None:
    """Refuses what is wrong before the embeddings are read, which may take minutes."""
    if output is not None:
        check_folder(output)
        check_writable(output)
    if target is None and (oracles := [arm.label for arm in arms if arm.strategy.oracle]):
        raise CorpusError(f"{', '.join(oracles)}: needs the target tasks; give their embeddings with --target FILE")
    for file in (embeddings, *([target] if target is not None else [])):
        if not file.exists():
            raise CorpusError(f"{file}: no such file of embeddings")


def _record(
    pool: EmbeddingFile, target: EmbeddingFile | None, selection: SelectionSettings, arms: Sequence[Arm]
) -> SelectionRecord:
    return SelectionRecord(
        simtune=__version__,
        embeddings=pool.sha256(),
        target=None if target is None else target.sha256(),
        selection=selection.model_dump(mode="json"),
        lists={arm.label: tuple(arm.parameters["names"]) for arm in arms if "names" in arm.parameters},
    )


def graph_of_files(pool: EmbeddingFile, target: EmbeddingFile | None) -> SimilarityGraph:
    """The graph of a pool, with a target beside it.

    Raises:
        CorpusError: their vectors have different lengths, or they share a task.
    """
    if target is not None:
        both = sorted(set(pool.names) & set(target.names))
        if both:
            raise CorpusError(
                f"{target.path}: {counted(len(both), 'task is', 'tasks are')} in {pool.path} too ({some(both)})"
            )
        if pool.vectors_ND.shape[1] != target.vectors_ND.shape[1]:
            raise CorpusError(
                f"{target.path}: {counted(target.vectors_ND.shape[1], 'dimension')}, but {pool.path} has "
                f"{pool.vectors_ND.shape[1]}; embed both with one encoder"
            )
    return SimilarityGraph.build(
        pool.names, pool.categories, pool.vectors_ND, target.vectors_ND if target else None, pool.sources
    )


def _options_without_effect(arms: Sequence[Arm], pool: EmbeddingFile) -> list[str]:
    """Warnings about strategies and options that need a column which the file does not have."""
    by_category = [arm.label for arm in arms if arm.strategy.uses_categories or arm.options.per_category_cap]
    by_source = [arm.label for arm in arms if arm.options.per_source_cap]
    warnings = []
    if by_category and not any(pool.categories):
        warnings.append(
            f"{', '.join(by_category)}: {pool.path} has no column category, so all tasks count as one category"
        )
    if by_source and not any(pool.sources):
        warnings.append(f"{', '.join(by_source)}: {pool.path} has no column source, so per_source_cap has no effect")
    return warnings


def _check_names(*files: EmbeddingFile) -> None:
    """Refuses names that a split list cannot contain, before anything is chosen."""
    for file in files:
        for row, name in enumerate(file.names, start=1):
            if flaw := name_flaw(name):
                raise CorpusError(
                    f"{file.path}, row {row}: task {shown(name)} {flaw}, so a split list cannot contain it"
                )


def _write(output: Path, graph: SimilarityGraph, subsets: list[Subset], target: EmbeddingFile | None) -> None:
    write_table(output / "subsets.parquet", subsets_table(subsets))
    write_table(output / "overlaps.parquet", overlaps_table(subsets))
    if 1 < len(set(graph.categories)) <= _MOST_CATEGORIES:
        write_table(output / "quotas.parquet", quotas_table(subsets))
        write_table(output / "categories.parquet", category_similarity(graph).table())
    write_split_lists(output, split_lists(subsets, target.names if target else ()))
