"""Subsets: for every arm, seed and size the chosen tasks in order, with what the set looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from simtune.config.settings import SelectionSettings
from simtune.graph.similarity import SetStatistics, SimilarityGraph, prefix_statistics
from simtune.selection.registry import strategy

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.table import Table

FULL_ARM = "full"


@dataclass(frozen=True)
class Subset:
    """The tasks of one arm at one size and seed.

    Attributes:
        size: as asked for; the pool's size for arm `full`.
        tasks: names in the order of choice; fewer than `size` where the pool is smaller.
        note: what the user should know, such as a capped size; else empty.
    """

    arm: str
    seed: int
    size: int
    tasks: tuple[str, ...]
    statistics: SetStatistics
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def arms_and_sizes(selection: SelectionSettings, pool_size: int) -> list[tuple[str, int]]:
    """Every (arm, size) of a selection, sizes ascending; `all` is one arm `full` for all strategies together."""
    sizes = sorted(size for size in selection.sizes if isinstance(size, int))
    pairs = [(name, size) for name in selection.strategies for size in sizes]
    return [*pairs, (FULL_ARM, pool_size)] if "all" in selection.sizes else pairs


def size_note(arm: str, size: int, pool_size: int) -> str:
    """The warning for a size that the pool cannot give."""
    if size <= pool_size:
        return ""
    return f"{arm}: size {size} capped to the pool's {pool_size} tasks"


def build_subsets(graph: SimilarityGraph, selection: SelectionSettings) -> list[Subset]:
    """All subsets of a selection, nested within an arm and seed; deterministic.

    Raises:
        ConfigError: a strategy is unknown.
    """
    pairs = arms_and_sizes(selection, len(graph))
    subsets: list[Subset] = []
    for arm in dict.fromkeys(arm for arm, _ in pairs):
        sizes = [size for other, size in pairs if other == arm]
        for seed in selection.seeds:
            longest = min(max(sizes), len(graph))
            order = list(range(len(graph))) if arm == FULL_ARM else strategy(arm)(graph, longest, seed)
            statistics = prefix_statistics(graph, order, sizes)
            subsets.extend(
                Subset(
                    arm,
                    seed,
                    size,
                    tuple(graph.names[index] for index in order[:size]),
                    statistics[size],
                    size_note(arm, size, len(graph)),
                )
                for size in sizes
            )
    return subsets


def subsets_table(subsets: Sequence[Subset]) -> pa.Table:
    """`subsets.parquet`: one row a chosen task, the set's statistics repeated on each."""
    import pyarrow as pa

    rows = [
        {
            "arm": subset.arm,
            "seed": subset.seed,
            "size": subset.size,
            "num_tasks": len(subset.tasks),
            "rank": rank,
            "task": task,
            "mean_similarity": subset.statistics.mean_similarity,
            "max_similarity": subset.statistics.max_similarity,
            "num_categories": subset.statistics.num_categories,
            "coverage": subset.statistics.coverage,
            "note": subset.note,
        }
        for subset in subsets
        for rank, task in enumerate(subset.tasks)
    ]
    schema = pa.schema(
        [
            ("arm", pa.string()),
            ("seed", pa.int64()),
            ("size", pa.int64()),
            ("num_tasks", pa.int64()),
            ("rank", pa.int64()),
            ("task", pa.string()),
            ("mean_similarity", pa.float64()),
            ("max_similarity", pa.float64()),
            ("num_categories", pa.int64()),
            ("coverage", pa.float64()),
            ("note", pa.string()),
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def statistics_table(subsets: Sequence[Subset]) -> Table:
    """What each set looks like, for a terminal."""
    from rich.table import Table

    table = Table(
        title="Subsets", caption="Cosine similarity of pairs; coverage: mean largest cosine of a test task to the set."
    )
    for name in ("arm", "seed", "tasks", "mean similarity", "largest pair", "categories", "coverage"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for subset in subsets:
        statistics = subset.statistics
        table.add_row(
            subset.arm,
            str(subset.seed),
            str(len(subset.tasks)),
            *(
                f"{value:.3f}" if value is not None else "-"
                for value in (statistics.mean_similarity, statistics.max_similarity)
            ),
            str(statistics.num_categories),
            f"{statistics.coverage:.3f}",
        )
    return table
