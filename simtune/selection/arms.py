"""From an arm of the sweep file to the tasks that it chooses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simtune.config import ArmSettings, OptionSettings, SelectionSettings
from simtune.config.problems import error_lines
from simtune.config.selection import ORACLE_MARK
from simtune.corpus.task_lists import read_task_list
from simtune.entry_points import failures_named
from simtune.errors import ConfigError, ExtensionError
from simtune.graph.blocks import MapBlocks, map_blocks_here
from simtune.graph.similarity import SimilarityGraph
from simtune.selection.objective import Objective
from simtune.selection.partial_subset import Options, PartialSubset
from simtune.selection.registry import STRATEGIES, strategy
from simtune.selection.strategies.listed_tasks import check_list
from simtune.selection.strategy import Strategy
from simtune.wording import counted, nearest


@dataclass(frozen=True)
class Arm:
    """An arm whose strategy, parameters and options have been checked.

    Attributes:
        label: what tables and figures call it; an oracle's is marked.
        name: of the strategy.
        strategy: chooses the tasks.
        parameters: every default filled in.
        options: what may be in a subset.
    """

    label: str
    name: str
    strategy: Strategy
    parameters: Mapping[str, Any]
    options: OptionSettings

    @property
    def objective(self) -> Objective:
        """The set function of its strategy.

        Raises:
            ConfigError: the strategy has no marginal gain.
        """
        if self.strategy.objective is None:
            raise ConfigError(f"strategy {self.name} has no marginal gain")
        return self.strategy.objective


def resolve_arm(settings: ArmSettings, selection: SelectionSettings) -> Arm:
    """Finds the strategy of an arm and checks its parameters and options.

    Raises:
        ConfigError: unknown strategy or parameter, a value out of range, contradicting options.
        CorpusError: the file of a list cannot be read.
    """
    found = strategy(settings.strategy)
    parameters = found.check(settings.strategy, settings.parameters)
    try:
        options = selection.options_of(settings)
    except ValidationError as error:
        where = f"strategy {settings.name}"
        lines = error_lines(error, OptionSettings, settings.options, lambda path: ": ".join([where, *map(str, path)]))
        raise ConfigError("\n".join(lines)) from None
    if found.names_tasks:
        if not parameters["file"]:
            raise ConfigError(
                f"strategy {settings.strategy}: file: missing; give list: FILE, with one task name per line"
            )
        parameters["names"] = read_task_list(Path(parameters["file"]))
    label = f"{settings.name}{ORACLE_MARK}" if found.oracle else settings.name
    return Arm(label=label, name=settings.strategy, strategy=found, parameters=parameters, options=options)


def named_arm(name: str, selection: SelectionSettings) -> ArmSettings:
    """The selection's arm of this name, otherwise the arm that the name itself describes.

    Raises:
        ConfigError: it is neither.
    """
    for settings in selection.strategies:
        if name in {settings.name, resolve_arm(settings, selection).label}:
            return settings
    try:
        return ArmSettings.model_validate(name)
    except ValidationError as error:
        raise ConfigError("\n".join(error_lines(error, ArmSettings, name, lambda path: f"--arm {name!r}"))) from None


def no_reason(name: str) -> str:
    """The reason why a pool does not have a task, where none is known."""
    return ""


def check_options(
    arm: Arm,
    pool: Collection[str],
    sizes: Sequence[int],
    why_absent: Callable[[str], str] = no_reason,
    own_options: Collection[str] | None = None,
) -> None:
    """Refuses options and lists that a pool cannot satisfy, judging by names and numbers alone.

    Args:
        arm: its options and parameters.
        pool: names of its tasks.
        sizes: of the subsets.
        why_absent: why the pool does not have a task of this name.
        own_options: the options that the arm sets itself, beside those of the selection; None outside a sweep.

    Raises:
        ConfigError: an option or a list names a task that the pool does not have, or more tasks than the smallest size.
    """
    if arm.strategy.names_tasks:
        check_list(arm.parameters, pool, why_absent)
    options = arm.options
    start = [] if options.start is None else [options.start]
    forced = {*options.include, *start}
    if sizes and len(forced) > min(sizes):
        raise ConfigError(
            f"strategy {arm.name}: include and start name {counted(len(forced), 'task')}, more than the smallest "
            f"size {min(sizes)}",
            field=_option_field("include" if options.include else "start", own_options),
        )
    for option, names in (("start", start), ("include", options.include), ("exclude", options.exclude)):
        for name in names:
            if name not in pool:
                why = f" ({reason})" if (reason := why_absent(name)) else ""
                raise ConfigError(
                    f"strategy {arm.name}: {option}: the pool has no task {name!r}{why}{nearest(name, pool)}",
                    field=_option_field(option, own_options),
                )


def _option_field(option: str, own_options: Collection[str] | None) -> str:
    """The field of the sweep file that sets an option of an arm; empty outside a sweep."""
    if own_options is None:
        return ""
    return "selection.strategies" if option in own_options else f"selection.{option}"


def choose_tasks(
    arm: Arm,
    graph: SimilarityGraph,
    sizes: Sequence[int],
    seed: int,
    on_add: Callable[[], None] = lambda: None,
    map_blocks: MapBlocks = map_blocks_here,
) -> dict[int, list[int]]:
    """The tasks that an arm chooses for each size, in order; fewer where the pool or the options allow no more.

    Args:
        arm: strategy, parameters and options.
        graph: the pool's, uncentred.
        sizes: of the subsets.
        seed: for strategies that draw.
        on_add: called for each task added, at most `num_choices` times.
        map_blocks: runs work that is quadratic in the pool.

    Raises:
        ConfigError: an option names a task that the pool does not have, or nothing can be chosen.
        ExtensionError: a strategy of an installed package failed.
    """
    if arm.options.cosine == "centred":
        graph = graph.centred
    if not arm.strategy.oracle:
        graph = graph.without_test_tasks
    check_options(arm, graph.index, sizes)
    wanted = {size: min(size, len(graph)) for size in sizes}
    options = _option_indices(arm, graph)
    runs = _sizes_to_run(arm, wanted.values())

    def choose(size: int) -> list[int]:
        subset = PartialSubset(
            graph, size, seed, parameters=arm.parameters, options=options, on_add=on_add, map_blocks=map_blocks
        )
        return _run_strategy(arm, subset)

    chosen = {size: choose(size) for size in sorted(runs, reverse=True)}
    if not all(chosen.values()):
        raise ConfigError(f"strategy {arm.name}: its options exclude every task of the pool")
    longest = max(runs, default=0)
    return {size: chosen[cut][:cut] if cut in chosen else chosen[longest][:cut] for size, cut in wanted.items()}


def num_choices(arm: Arm, sizes: Sequence[int], pool_size: int) -> int:
    """The number of tasks that are added for these sizes, if the options allow as many."""
    return sum(_sizes_to_run(arm, [min(size, pool_size) for size in sizes]))


def _sizes_to_run(arm: Arm, sizes: Iterable[int]) -> set[int]:
    """The sizes for which the strategy runs: the largest alone where smaller subsets are prefixes of it."""
    return {max(sizes, default=0)} if arm.strategy.nested else set(sizes)


def _run_strategy(arm: Arm, subset: PartialSubset) -> list[int]:
    if arm.name in STRATEGIES:
        arm.strategy.choose(subset)
        return subset.chosen
    with failures_named(f"strategy {arm.name}"):
        arm.strategy.choose(subset)
    if not subset.chosen and (num_open := int(subset.open_N.sum())):
        raise ExtensionError(f"strategy {arm.name}: chose none of {counted(num_open, 'task')} that may be chosen")
    return subset.chosen


def _option_indices(arm: Arm, graph: SimilarityGraph) -> Options:
    options = arm.options
    return Options(
        per_category_cap=options.per_category_cap,
        per_source_cap=options.per_source_cap,
        max_pair_similarity=options.max_pair_similarity,
        start=None if options.start is None else graph.index[options.start],
        include=tuple(graph.index[name] for name in options.include),
        exclude=tuple(graph.index[name] for name in options.exclude),
    )
