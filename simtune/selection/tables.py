"""Subsets and strategies as tables: for the files of a run, for a terminal, and for the documentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from simtune.graph.statistics import SetStatistics
from simtune.selection import registry
from simtune.selection.overlaps import overlaps_table
from simtune.selection.registry import all_strategies
from simtune.selection.subsets import Subset
from simtune.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from simtune.tables import TextTable


def subsets_table(subsets: Sequence[Subset]) -> pa.Table:
    """`subsets.parquet`: one row for each chosen task, with the set's statistics repeated in each."""
    import pyarrow as pa

    statistics = [
        (field.name, pa.int64() if "int" in str(field.type) else pa.float64()) for field in fields(SetStatistics)
    ]
    schema = pa.schema(
        [
            ("arm", pa.string()),
            ("seed", pa.int64()),
            ("size", pa.int64()),
            ("num_tasks", pa.int64()),
            ("rank", pa.int64()),
            ("task", pa.string()),
            *statistics,
            ("note", pa.string()),
        ]
    )
    lengths = [len(subset.tasks) for subset in subsets]
    repeated = _repeated(lengths)
    columns = {
        "arm": repeated([subset.arm for subset in subsets], pa.string()),
        "seed": repeated([subset.seed for subset in subsets], pa.int64()),
        "size": repeated([subset.size for subset in subsets], pa.int64()),
        "num_tasks": repeated(lengths, pa.int64()),
        "rank": pa.array([rank for length in lengths for rank in range(length)], pa.int64()),
        "task": pa.array([task for subset in subsets for task in subset.tasks], pa.string()),
        **{
            name: repeated([getattr(subset.statistics, name) for subset in subsets], column_type)
            for name, column_type in statistics
        },
        "note": repeated([subset.note for subset in subsets], pa.string()),
    }
    return pa.table(columns, schema=schema)


def quotas_table(subsets: Sequence[Subset]) -> pa.Table:
    """`quotas.parquet`: number of tasks of each category in each subset, including zeros."""
    import pyarrow as pa

    repeated = _repeated([len(subset.quotas) for subset in subsets])
    columns = {
        "arm": repeated([subset.arm for subset in subsets], pa.string()),
        "seed": repeated([subset.seed for subset in subsets], pa.int64()),
        "size": repeated([subset.size for subset in subsets], pa.int64()),
        "category": pa.array([category for subset in subsets for category in subset.quotas], pa.string()),
        "num_tasks": pa.array([taken for subset in subsets for taken in subset.quotas.values()], pa.int64()),
    }
    return pa.table(columns)


def _repeated(lengths: Sequence[int]) -> Callable[[Sequence[object], pa.DataType], pa.Array]:
    """A function that makes a column of values, each repeated as often as its length says."""
    import pyarrow as pa

    rows = pa.array([index for index, length in enumerate(lengths) for _ in range(length)], pa.int64())
    return lambda values, column_type: pa.array(values, column_type).take(rows)


def statistics_table(subsets: Sequence[Subset]) -> TextTable:
    """Statistics of each set, for a terminal; seeds that chose the same tasks share a line."""
    from simtune.tables import TextTable

    shown: dict[tuple[str, frozenset[str]], list[Subset]] = {}
    for subset in subsets:
        shown.setdefault((subset.arm, frozenset(subset.tasks)), []).append(subset)
    rows = [
        {
            "arm": same[0].arm,
            "seed": _seeds(same),
            "tasks": str(len(same[0].tasks)),
            "mean": _decimals(same[0].statistics.mean_similarity),
            "min": _decimals(same[0].statistics.min_similarity),
            "max": _decimals(same[0].statistics.max_similarity),
            "p90": _decimals(same[0].statistics.p90_similarity),
            "centred": _decimals(same[0].statistics.mean_similarity_centred),
            "rank": f"{same[0].statistics.effective_rank:.1f}",
            "categories": str(same[0].statistics.num_categories or "-"),
            "sources": str(same[0].statistics.num_sources or "-"),
            "coverage": _decimals(same[0].statistics.coverage),
            "of rest": _decimals(same[0].statistics.coverage_rest),
        }
        for same in shown.values()
    ]
    # Columns without any value are left out.
    names = [name for name in (rows[0] if rows else {}) if any(row[name] != "-" for row in rows)]
    caption = "Cosine of pairs: mean, smallest, largest, 90th percentile, mean after centring; effective rank."
    if "coverage" in names or "of rest" in names:
        caption += " Coverage: mean largest cosine to the set of a test task, and of a pool task that is not chosen."
    table = TextTable(title="Subsets", caption=caption)
    for name in names:
        table.add_columns(name, justify="left" if name == "arm" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[name] for name in names))
    return table


def _seeds(same: Sequence[Subset]) -> str:
    seeds = list(dict.fromkeys(subset.seed for subset in same))
    return ",".join(map(str, seeds)) if len(seeds) <= 3 else counted(len(seeds), "seed")


def strategies_table() -> TextTable:
    """Every strategy with its parameters, for a terminal."""
    from simtune.tables import TextTable

    table = TextTable(title="Strategies")
    for name in ("name", "chooses", "parameters", "remarks"):
        table.add_columns(name)
    for name, found in all_strategies().items():
        remarks = {"one set per seed": found.seeded, "not nested": not found.nested, "oracle": found.oracle}
        table.add_row(
            name,
            found.summary,
            "\n".join(
                f"{key}: {parameter.range}, {parameter.default!r} by default; {parameter.help}"
                for key, parameter in found.parameters.items()
            ),
            ", ".join(remark for remark, holds in remarks.items() if holds),
        )
    return table


def strategies_markdown() -> str:
    """The table of built-in strategies for the documentation."""
    lines = ["| name | chooses | known for |", "|---|---|---|"]
    for name, found in registry.STRATEGIES.items():
        defaults = ", ".join(f"{key}={parameter.default}" for key, parameter in found.parameters.items())
        marks = [mark for mark, holds in (("**oracle**", found.oracle), ("not nested", not found.nested)) if holds]
        chooses = found.summary.removesuffix(".")
        known_for = "; ".join(filter(None, (*marks, found.known_for)))
        lines.append(
            f"| `{name}{f'({defaults})' if defaults and not found.names_tasks else ''}` | {chooses} | {known_for} |"
        )
    return "\n".join(lines)


def compared_sizes(subsets: Sequence[Subset]) -> list[int]:
    """Sizes at which there is more than one set, ascending."""
    sizes = [size for size, _, _ in {(subset.size, subset.arm, frozenset(subset.tasks)) for subset in subsets}]
    return sorted({size for size in sizes if sizes.count(size) > 1})


def overlap_matrix(subsets: Sequence[Subset], size: int) -> TextTable:
    """Jaccard index of the sets of one size, arm by arm; where an arm draws, the mean over pairs of its seeds."""
    from simtune.tables import TextTable

    at_size = [subset for subset in subsets if subset.size == size]
    means = {(row["arm_a"], row["arm_b"]): row["mean_jaccard"] for row in overlaps_table(at_size).to_pylist()}
    arms = list(dict.fromkeys(subset.arm for subset in at_size))
    table = TextTable(title=f"Shared at {size} (Jaccard, %)", min_width=36)
    table.add_columns("arm", no_wrap=True)
    table.add_number_columns(*map(str, range(1, len(arms) + 1)), no_wrap=True)
    for number, arm in enumerate(arms, start=1):
        shared = [means.get((other, arm)) for other in arms[:number]]
        table.add_row(f"{number} {arm}", *("-" if mean is None else f"{100 * mean:.0f}" for mean in shared))
    return table


def _decimals(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
