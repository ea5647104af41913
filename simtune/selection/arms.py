"""From an arm of the sweep file to orders of tasks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simtune.config import ArmSettings, OptionSettings, SelectionSettings
from simtune.config.problems import described
from simtune.config.selection import ORACLE_MARK
from simtune.corpus.source import read_task_list
from simtune.errors import ConfigError, SimtuneError
from simtune.graph.blocks import MapBlocks, map_blocks_here
from simtune.graph.similarity import SimilarityGraph
from simtune.selection.draft import Draft, Options
from simtune.selection.objective import Objective
from simtune.selection.registry import STRATEGIES, strategy
from simtune.selection.strategies.named_tasks import check_list
from simtune.selection.strategy import Strategy
from simtune.wording import counted, nearest


@dataclass(frozen=True)
class Arm:
    """An arm ready to choose.

    Attributes:
        label: what tables and figures call it; an oracle's says so.
        parameters: every default filled in.
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
            raise ConfigError(f"strategy {self.name} has no gain a task")
        return self.strategy.objective


def resolve_arm(settings: ArmSettings, selection: SelectionSettings) -> Arm:
    """Finds the strategy and checks what it is given.

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
        lines = described(error, OptionSettings, settings.options, lambda path: ": ".join([where, *map(str, path)]))
        raise ConfigError("\n".join(lines)) from None
    if found.names_tasks:
        if not parameters["file"]:
            raise ConfigError(
                f"strategy {settings.strategy}: file: missing; give list: FILE, with one task name a line"
            )
        parameters["names"] = read_task_list(Path(parameters["file"]))
    label = f"{settings.name}{ORACLE_MARK}" if found.oracle else settings.name
    return Arm(label, settings.strategy, found, parameters, options)


def named_arm(name: str, selection: SelectionSettings) -> ArmSettings:
    """The selection's arm of this name, or else the arm that the name itself describes.

    Raises:
        ConfigError: it is neither.
    """
    for settings in selection.strategies:
        if name in {settings.name, resolve_arm(settings, selection).label}:
            return settings
    try:
        return ArmSettings.model_validate(name)
    except ValidationError as error:
        raise ConfigError("\n".join(described(error, ArmSettings, name, lambda path: f"--arm {name!r}"))) from None


def not_known(name: str) -> str:
    """Why a pool does not have a task, where nobody knows."""
    return ""


def check_options(
    arm: Arm, pool: Collection[str], sizes: Sequence[int], why_absent: Callable[[str], str] = not_known
) -> None:
    """Refuses options and lists that a pool cannot meet, as far as names and numbers tell.

    Args:
        arm: with its options and parameters.
        pool: names of its tasks.
        sizes: of the subsets.
        why_absent: why the pool does not have a task of this name.

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
            f"size {min(sizes)}"
        )
    for option, names in (("start", start), ("include", options.include), ("exclude", options.exclude)):
        for name in names:
            if name not in pool:
                why = f" ({reason})" if (reason := why_absent(name)) else ""
                raise ConfigError(
                    f"strategy {arm.name}: {option}: the pool has no task {name!r}{why}{nearest(name, pool)}"
                )


def orders(
    arm: Arm,
    graph: SimilarityGraph,
    sizes: Sequence[int],
    seed: int,
    on_take: Callable[[], None] = lambda: None,
    map_blocks: MapBlocks = map_blocks_here,
) -> dict[int, list[int]]:
    """The chosen tasks of an arm for each size, in the order of choice; fewer where the pool or the options end.

    `on_take` is called for each task taken, `num_takes` times at most.

    Raises:
        ConfigError: an option names a task that the pool does not have, or nothing can be chosen.
        SimtuneError: a strategy of an installed package failed.
    """
    if arm.options.cosine == "centred":
        graph = graph.centred
    if not arm.strategy.oracle:
        graph = graph.blind
    check_options(arm, graph.index, sizes)
    wanted = {size: min(size, len(graph)) for size in sizes}
    options = _places(arm, graph)
    asked = _asked(arm, wanted.values())
    chosen = {
        size: _choose(arm, Draft(graph, size, seed, arm.parameters, options, on_take, map_blocks))
        for size in sorted(asked, reverse=True)
    }
    if not all(chosen.values()):
        raise ConfigError(f"strategy {arm.name}: its options leave no task of the pool")
    longest = max(asked, default=0)
    return {size: chosen[cut][:cut] if cut in chosen else chosen[longest][:cut] for size, cut in wanted.items()}


def num_takes(arm: Arm, sizes: Sequence[int], pool_size: int) -> int:
    """Tasks that will be taken for these sizes, if the options give as many."""
    return sum(_asked(arm, [min(size, pool_size) for size in sizes]))


def _asked(arm: Arm, sizes: Iterable[int]) -> set[int]:
    return {max(sizes, default=0)} if arm.strategy.nested else set(sizes)


def _choose(arm: Arm, draft: Draft) -> list[int]:
    try:
        arm.strategy.choose(draft)
    except SimtuneError:
        raise
    except Exception as error:
        if arm.name in STRATEGIES:
            raise
        raise SimtuneError(f"strategy {arm.name} failed: {type(error).__name__}: {error}") from error
    return draft.chosen


def _places(arm: Arm, graph: SimilarityGraph) -> Options:
    options = arm.options
    return Options(
        per_category_cap=options.per_category_cap,
        per_source_cap=options.per_source_cap,
        max_pair_similarity=options.max_pair_similarity,
        start=None if options.start is None else graph.index[options.start],
        include=tuple(graph.index[name] for name in options.include),
        exclude=tuple(graph.index[name] for name in options.exclude),
    )
