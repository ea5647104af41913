"""On which machines, and with which versions, the trials of a run were computed.

Equal inputs give equal bytes in one environment. Rows from several environments in one table agree up to rounding only,
which training may amplify: a warning says so, and the manifest records it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_FIELDS = (
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
    """Each environment with its number of finished `trials`, most first.

    `continued_from` says in which other environments a training began; all else is null where no costs were recorded.
    """
    # Baselines without a model compute nothing that is rounded.
    rows = [row for row in costs.select(_FIELDS).to_pylist() if row["device"] is not None]
    counts = Counter(tuple(row[field] for field in _FIELDS) for row in rows)
    environments = [{**dict(zip(_FIELDS, values, strict=True)), "trials": number} for values, number in counts.items()]
    return sorted(environments, key=lambda environment: (-environment["trials"], str(environment)))


def warn_of_mixed_environments(environments: Sequence[dict[str, Any]], warn: Callable[[str], None]) -> None:
    """Warns if the results of a run come from more than one environment, and says how many trials came from which."""
    if len(environments) < 2:
        return
    differing = [field for field in _FIELDS if len({environment[field] for environment in environments}) > 1]
    groups = [
        f"{environment['trials']} with {', '.join(_shown(field, environment[field]) for field in differing)}"
        for environment in environments
    ]
    warn(
        f"the finished trials were computed in {len(environments)} environments (machine and versions): "
        f"{'; '.join(groups)}. Their numbers agree up to rounding, not to the last bit; for a table from one "
        "environment move the folders of the other trials aside (costs.parquet says which they are) and run again"
    )


def _shown(field: str, value: object) -> str:
    if value is None:
        return "started there" if field == "continued_from" else f"{field.replace('_', ' ')} not recorded"
    return f"{field.replace('_', ' ')} {value}"
