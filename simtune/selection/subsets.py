"""Subsets: for every arm, seed and size the chosen tasks in order, with what the set looks like."""

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
from simtune.errors import ConfigError
from simtune.graph.blocks import MapBlocks, map_blocks_here
from simtune.graph.similarity import SimilarityGraph
from simtune.graph.statistics import SetStatistics, pool_statistics, prefix_statistics
from simtune.selection.arms import Arm, check_options, not_known, num_takes, orders, resolve_arm
from simtune.selection.strategies.named_tasks import skipped_note
from simtune.wording import counted

FULL_ARM = "full"

_FEW_FIRST = 4
_Chosen = dict[int, tuple[list[int], SetStatistics]]


@dataclass(frozen=True)
class Subset:
    """The tasks of one arm at one size and seed.

    Attributes:
        arm: what tables call it; an oracle's says so.
        size: as asked for; the pool's size for arm `full`.
        tasks: names in the order of choice; fewer than `size` where the pool or the options give no more.
        quotas: tasks taken of each category, every category of the pool named.
        note: what the user should know, such as a capped size; else empty.
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
    """Every arm, ready to choose.

    Args:
        selection: its strategies are the arms.
        where: what messages call the field or the option that names them.

    Raises:
        ConfigError: a strategy, a parameter or an option is wrong; names it and its range.
    """
    try:
        arms = [resolve_arm(settings, selection) for settings in selection.strategies]
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if any(arm.label == FULL_ARM for arm in arms):
        raise ConfigError(f"{where}: the label {FULL_ARM!r} is the whole pool's; choose another")
    return arms


def check_named_tasks(
    arms: Sequence[Arm],
    selection: SelectionSettings,
    pool: Collection[str],
    why_absent: Callable[[str], str] = not_known,
) -> None:
    """Refuses options that a pool cannot meet, as far as names and numbers tell, before anything is computed.

    Raises:
        ConfigError: an option of an arm names a task that the pool does not have, or more tasks than a size.
    """
    sizes = [size for size in selection.sizes if isinstance(size, int)]
    for arm in arms if sizes else ():
        check_options(arm, pool, sizes, why_absent)


def arms_and_sizes(selection: SelectionSettings, pool_size: int) -> list[tuple[str, int]]:
    """Every (arm, size) of a selection, sizes ascending; `all` is one arm `full` for all strategies together."""
    sizes = sorted(size for size in selection.sizes if isinstance(size, int))
    pairs = [(arm.label, size) for arm in resolve_arms(selection) for size in sizes]
    return [*pairs, (FULL_ARM, pool_size)] if "all" in selection.sizes else pairs


def size_note(arm: str, size: int, pool_size: int) -> str:
    """The warning for a size that the pool cannot give."""
    if size <= pool_size:
        return ""
    return f"{arm}: size {size} capped to the pool's {counted(pool_size, 'task')}"


def short_note(arm: str, size: int, num_tasks: int) -> str:
    """The warning for an arm that gives fewer tasks than asked for."""
    return f"{arm}: {num_tasks} of {counted(size, 'task')}: its list or its options give no more"


def build_subsets(
    graph: SimilarityGraph,
    selection: SelectionSettings,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    map_blocks: MapBlocks = map_blocks_here,
    why_absent: Callable[[str], str] = not_known,
) -> list[Subset]:
    """All subsets of a selection, nested within an arm and seed where the strategy is; deterministic.

    Args:
        graph: the pool's, uncentred.
        selection: arms, sizes and seeds.
        on_progress: called with (tasks chosen, tasks to choose), a hundred times or so.
        map_blocks: runs what is quadratic in a pool beyond a dense graph; changes nothing.
        why_absent: why the pool does not have a task of this name.

    Raises:
        ConfigError: a strategy, a parameter or an option is wrong, or an option names a task the pool does not have.
    """
    sizes = sorted(size for size in selection.sizes if isinstance(size, int))
    arms = resolve_arms(selection) if sizes else []
    check_named_tasks(arms, selection, graph.index, why_absent)
    jobs = [
        (arm, seed)
        for arm in arms
        for seed in dict.fromkeys(_deciding_seed(arm, selection.seeds, seed) for seed in selection.seeds)
    ]
    made: dict[tuple[str, int], _Chosen] = {}
    num_wanted = sum(num_takes(arm, sizes, len(graph)) for arm, _ in jobs)
    on_progress(0, num_wanted)
    on_take = _counted(on_progress, num_wanted)
    with _beside(graph) as pool:
        waiting = {}
        # Sets that every size makes anew take longest, and so do their statistics: early, but after a few others, whose
        # statistics keep the threads busy meanwhile.
        by_takes = sorted(jobs, key=lambda job: num_takes(job[0], sizes, len(graph)))
        for arm, seed in by_takes[:_FEW_FIRST] + by_takes[_FEW_FIRST:][::-1]:
            chosen = orders(arm, graph, sizes, seed, on_take, map_blocks)
            waiting[arm.label, seed] = chosen, pool.submit(_statistics, graph, chosen, arm.strategy.nested)
        for key, (chosen, statistics) in waiting.items():
            found = statistics.result()
            made[key] = {size: (order, found[size]) for size, order in chosen.items()}
    skipped = {arm.label: skipped_note(arm.label, arm.parameters, graph.index, why_absent) for arm in arms}
    subsets = [
        _subset(
            graph,
            arm.label,
            seed,
            size,
            *made[arm.label, _deciding_seed(arm, selection.seeds, seed)][size],
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


def _deciding_seed(arm: Arm, seeds: Sequence[int], seed: int) -> int:
    """The seed whose choice this one shares: its own, or the first where the strategy does not draw."""
    return seed if arm.strategy.seeded else seeds[0]


def _statistics(graph: SimilarityGraph, chosen: dict[int, list[int]], nested: bool) -> dict[int, SetStatistics]:
    if nested:
        return prefix_statistics(graph, chosen[max(chosen)], list(chosen))
    return {size: prefix_statistics(graph, order, [size])[size] for size, order in chosen.items()}


@contextmanager
def _beside(graph: SimilarityGraph) -> Iterator[ThreadPoolExecutor]:
    """Threads for statistics beside the choosing of the next arm, which is many small steps.

    While the graph is small BLAS has one core, so that threads share them and sums are made in one order on any
    machine; beyond, BLAS has them all.
    """
    # Before the limit, which reaches only libraries that are loaded: the eigenvalues are scipy's.
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_limits

    num_threads = len(os.sched_getaffinity(0)) if graph.dense else 1
    if graph.dense:
        # What all need is computed once, and outside of the threads.
        _ = graph.blind.total_similarity_N
        _ = [(each.similarity_NN, each.test_similarity_TN) for each in (graph, graph.centred)]
    with threadpool_limits(1 if graph.dense else None, user_api="blas"), ThreadPoolExecutor(num_threads) as pool:
        yield pool


def _counted(on_progress: Callable[[int, int], None], total: int) -> Callable[[], None]:
    """Counts calls and passes on every hundredth part of the total."""
    taken = itertools.count(1)
    step = max(1, total // 100)

    def on_take() -> None:
        number = next(taken)
        if number % step == 0 or number == total:
            on_progress(number, total)

    return on_take


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
    taken = Counter([graph.categories[task] for task in chosen])
    return Subset(
        arm=arm,
        seed=seed,
        size=size,
        tasks=tuple(graph.names[task] for task in chosen),
        statistics=statistics,
        quotas={category: taken[category] for category in graph.category_names},
        note="; ".join(filter(None, (note, skipped))),
    )
