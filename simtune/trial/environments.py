"""On what kinds of machine, and with which versions, the trials of a run were computed.

Equal inputs give equal bytes on one kind. Rows of several kinds in one table agree up to rounding only, which training
may amplify: a warning says so, and the manifest records it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_KIND = (
    "device",
    "processor",
    "cpu_capability",
    "workers",
    "threads",
    "torch",
    "deepspeed",
    "transformers",
    "continued_from",
)


def environments_of(costs: pa.Table) -> list[dict[str, Any]]:
    """Each kind with its number of finished `trials`, most first.

    `continued_from` says on what other kinds a training began; all else is null where no costs were recorded.
    """
    # Baselines without a model count nothing that rounds.
    rows = [row for row in costs.select(_KIND).to_pylist() if row["device"] is not None]
    counts = Counter(tuple(row[field] for field in _KIND) for row in rows)
    kinds = [{**dict(zip(_KIND, kind, strict=True)), "trials": number} for kind, number in counts.items()]
    return sorted(kinds, key=lambda kind: (-kind["trials"], str(kind)))


def warn_of_mixed_environments(kinds: Sequence[dict[str, Any]], warn: Callable[[str], None]) -> None:
    """Warns where a run has results of more than one kind, naming how many trials came from which."""
    if len(kinds) < 2:
        return
    differing = [field for field in _KIND if len({kind[field] for kind in kinds}) > 1]
    groups = [f"{kind['trials']} with {', '.join(_shown(field, kind[field]) for field in differing)}" for kind in kinds]
    warn(
        f"the finished trials were computed on {len(kinds)} kinds of machine or versions: {'; '.join(groups)}. Their "
        "numbers agree up to rounding, not to the last bit; for a table of one kind move the others' folders aside "
        "(costs.parquet says which they are) and run again"
    )


def _shown(field: str, value: Any) -> str:
    if value is None:
        return "started there" if field == "continued_from" else f"{field.replace('_', ' ')} not recorded"
    return f"{field.replace('_', ' ')} {value}"
