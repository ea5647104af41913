"""Subsets: for every arm, seed and size the chosen tasks in order, with statistics of the set."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from simtune.config import SelectionSettings
from simtune.errors import ConfigError, UserError
from simtune.graph.blocks import MapBlocks, map_blocks_here
from simtune.graph.similarity import SimilarityGraph
from simtune.graph.statistics import SetStatistics, pool_statistics, prefix_statistics
from simtune.selection.arms import Arm, check_options, choose_tasks, no_reason, num_choices, resolve_arm
from simtune.selection.strategies.listed_tasks import skipped_note
from simtune.wording import counted

FULL_ARM = "full"

_FEW_FIRST = 4
_Chosen = dict[int, tuple[list[int], SetStatistics]]
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Subset:
    """The tasks of one arm at one size and seed.

    Attributes:
        arm: what tables call it; an oracle's is marked.
        seed: of the arm's strategy.
        size: as requested; the pool's size for arm `full`.
        tasks: names in the order of choice; fewer than `size` where the pool or the options allow no more.
        statistics: of the set.
        quotas: number of tasks of each category, every category of the pool included.
        note: what the user should know, such as a capped size; otherwise empty.
    """

    arm: str
    seed: int
    size: int
    tasks: tuple[str, ...]
    statistics: SetStatistics
    quotas: dict[str, int]
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def resolve_arms(selection: SelectionSettings, where: str = "selection.strategies") -> list[Arm]:
    """Every arm of a selection, checked.

    Args:
        selection: its strategies are the arms.
        where: what messages call the field or the option that names them.

    Raises:
        ConfigError: a strategy, a parameter or an option is wrong; names it and its range.
    """
    try:
        arms = [resolve_arm(settings, selection) for settings in selection.strategies]
    except UserError as error:
        raise type(error)(str(error), field=where) from None
    if any(arm.label == FULL_ARM for arm in arms):
        raise ConfigError(f"the label {FULL_ARM!r} is reserved for the whole pool; choose another", field=where)
    return arms


def check_named_tasks(
    arms: Sequence[Arm],
    selection: SelectionSettings,
    pool: Collection[str],
    why_absent: Callable[[str], str] = no_reason,
) -> None:
    """Refuses options that a pool cannot satisfy, judging by names and numbers alone, before anything is computed.

    Raises:
        ConfigError: an option of an arm names a task that the pool does not have, or more tasks than a size.
    """
    sizes = [size for size in selection.sizes if isinstance(size, int)]
    for arm, settings in zip(arms, selection.strategies, strict=True) if sizes else ():
        check_options(arm, pool, sizes, why_absent, settings.options)


def arms_and_sizes(selection: SelectionSettings, pool_size: int) -> list[tuple[str, int]]:
    """Every (arm, size) of a selection, sizes ascending; `all` is one arm `full` for all strategies together."""
    sizes = sorted(size for size in selection.sizes if isinstance(size, int))
    pairs = [(arm.label, size) for arm in resolve_arms(selection) for size in sizes]
    return [*pairs, (FULL_ARM, pool_size)] if "all" in selection.sizes else pairs


def size_note(arm: str, size: int, pool_size: int) -> str:
    """The warning for a size larger than the pool."""
    if size <= pool_size:
        return ""
    return f"{arm}: size {size} capped to the pool's {counted(pool_size, 'task')}"


def short_note(arm: str, size: int, num_tasks: int) -> str:
    """The warning for an arm that gives fewer tasks than requested."""
    return f"{arm}: {num_tasks} of {counted(size, 'task')}: its list or its options allow no more"


def build_subsets(
    graph: SimilarityGraph,
    selection: SelectionSettings,
    on_progress: OnProgress = lambda done, total: None,
    map_blocks: MapBlocks = map_blocks_here,
    why_absent: Callable[[str], str] = no_reason,
) -> list[Subset]:
    """All subsets of a selection, nested within an arm and seed where the strategy is; deterministic.

    Args:
        graph: the pool's, uncentred.
        selection: arms, sizes and seeds.
        on_progress: called with (tasks chosen, tasks to choose), about a hundred times.
        map_blocks: runs what is quadratic in a pool beyond a dense graph; does not affect the result.
        why_absent: why the pool does not have a task of this name.

    Raises:
        ConfigError: a strategy, a parameter or an option is wrong, or an option names a task the pool does not have.
    """
    sizes = sorted(size for size in selection.sizes if isinstance(size, int))
    arms = resolve_arms(selection) if sizes else []
    check_named_tasks(arms, selection, graph.index, why_absent)
    chosen = _choose_all(arms, graph, selection, sizes, on_progress, map_blocks)
    skipped = {arm.label: skipped_note(arm.label, arm.parameters, graph.index, why_absent) for arm in arms}
    subsets = [
        _subset(
            graph,
            arm.label,
            seed,
            size,
            *chosen[arm.label, _deciding_seed(arm, selection.seeds, seed)][size],
            skipped=skipped[arm.label],
        )
        for arm in arms
        for seed in selection.seeds
        for size in sizes
    ]
    if "all" in selection.sizes:
        everything = list(range(len(graph)))
        whole = pool_statistics(graph)
        subsets.extend(_subset(graph, FULL_ARM, seed, len(graph), everything, whole) for seed in selection.seeds)
    return subsets


def _choose_all(
    arms: Sequence[Arm],
    graph: SimilarityGraph,
    selection: SelectionSettings,
    sizes: Sequence[int],
    on_progress: OnProgress,
    map_blocks: MapBlocks,
) -> dict[tuple[str, int], _Chosen]:
    """Tasks and statistics by size, for every arm and every seed that changes its choice."""
    jobs = [
        (arm, seed)
        for arm in arms
        for seed in dict.fromkeys(_deciding_seed(arm, selection.seeds, seed) for seed in selection.seeds)
    ]
    total = sum(num_choices(arm, sizes, len(graph)) for arm, _ in jobs)
    on_progress(0, total)
    on_add = _counted(on_progress, total)
    with _statistics_threads(graph) as threads:
        waiting = {}
        # Strategies that are not nested take longest, and so do their statistics. They start early, but after a few
        # others, whose statistics keep the threads busy meanwhile.
        by_cost = sorted(jobs, key=lambda job: num_choices(job[0], sizes, len(graph)))
        for arm, seed in by_cost[:_FEW_FIRST] + by_cost[_FEW_FIRST:][::-1]:
            tasks = choose_tasks(arm, graph, sizes, seed, on_add, map_blocks)
            waiting[arm.label, seed] = tasks, threads.submit(_statistics, graph, tasks, arm.strategy.nested)
        return {
            key: {size: (order, statistics.result()[size]) for size, order in tasks.items()}
            for key, (tasks, statistics) in waiting.items()
        }


def _deciding_seed(arm: Arm, seeds: Sequence[int], seed: int) -> int:
    """The seed whose choice this one shares: its own, or the first where the strategy does not draw."""
    return seed if arm.strategy.seeded else seeds[0]


def _statistics(graph: SimilarityGraph, chosen: dict[int, list[int]], nested: bool) -> dict[int, SetStatistics]:
    if nested:
        return prefix_statistics(graph, chosen[max(chosen)], list(chosen))
    return {size: prefix_statistics(graph, order, [size])[size] for size, order in chosen.items()}


@contextmanager
def _statistics_threads(graph: SimilarityGraph) -> Iterator[ThreadPoolExecutor]:
    """Threads that compute statistics while the next arm is being chosen, which is many small steps.

    For a dense graph BLAS uses one core, so that the threads share the cores and sums are made in one order on any
    machine; for a larger graph BLAS uses all cores.
    """
    # Loads scipy's BLAS, since the limit affects only libraries that are loaded.
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_limits

    num_threads = len(os.sched_getaffinity(0)) if graph.dense else 1
    if graph.dense:
        # What all of them need is computed once, before the threads start.
        _ = graph.without_test_tasks.total_similarity_N
        _ = [(each.similarity_NN, each.test_similarity_TN) for each in (graph, graph.centred)]
    with threadpool_limits(1 if graph.dense else None, user_api="blas"), ThreadPoolExecutor(num_threads) as pool:
        yield pool


def _counted(on_progress: OnProgress, total: int) -> Callable[[], None]:
    """Counts calls and reports every hundredth of the total."""
    calls = itertools.count(1)
    step = max(1, total // 100)

    def on_add() -> None:
        number = next(calls)
        if number % step == 0 or number == total:
            on_progress(number, total)

    return on_add


def _subset(
    graph: SimilarityGraph,
    arm: str,
    seed: int,
    size: int,
    chosen: Sequence[int],
    statistics: SetStatistics,
    skipped: str = "",
) -> Subset:
    note = size_note(arm, size, len(graph))
    if len(chosen) < min(size, len(graph)):
        note = short_note(arm, size, len(chosen))
    num_tasks = Counter([graph.categories[task] for task in chosen])
    return Subset(
        arm=arm,
        seed=seed,
        size=size,
        tasks=tuple(graph.names[task] for task in chosen),
        statistics=statistics,
        quotas={category: num_tasks[category] for category in graph.category_names},
        note="; ".join(filter(None, (note, skipped))),
    )
