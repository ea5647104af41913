"""One task explained: the most similar tasks in the pool, among the candidates and in the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from simtune.errors import UserError
from simtune.recommend.order_additions import Recommendations
from simtune.recommend.reasons import Recommendation
from simtune.recommend.task_vectors import TaskVectors
from simtune.wording import nearest

MOST_NEIGHBOURS = 5
_DIGITS = 9


@dataclass(frozen=True)
class Neighbour:
    """A task and its similarity to the explained one."""

    task: str
    cosine: float
    category: str
    definition: str


@dataclass(frozen=True)
class Explanation:
    """A task and its neighbours.

    Attributes:
        found_in: those of `pool`, `candidates` and `target` that have a task of this name.
        recommendation: its row, if it is recommended.
        neighbours: by `pool`, `candidates` and `target`, the most similar first.
    """

    task: str
    category: str
    definition: str
    found_in: tuple[str, ...]
    recommendation: Recommendation | None
    neighbours: Mapping[str, tuple[Neighbour, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def explain(name: str, parts: Mapping[str, TaskVectors], found: Recommendations) -> Explanation:
    """Finds a task's nearest `MOST_NEIGHBOURS` in each part, without itself; ties go to the earlier name.

    Args:
        name: of a task in any part; if several have it, the first one's vector counts.
        parts: pool, candidates and target by these names.
        found: what was recommended.

    Raises:
        UserError: no part has the task.
    """
    check_known(name, {part.location: part.names for part in parts.values()})
    holders = [label for label, part in parts.items() if name in part.names]
    part = parts[holders[0]]
    row = part.names.index(name)
    vector_D = part.unit_ND[row]
    return Explanation(
        task=name,
        category=part.categories[row],
        definition=part.definitions[row],
        found_in=tuple(holders),
        recommendation=next((other for other in found.rows if other.task == name), None),
        neighbours={label: _nearest(other.without([name]), vector_D) for label, other in parts.items()},
    )


def check_known(name: str, names_by_location: Mapping[str, Sequence[str]]) -> None:
    """Refuses a task that no location has.

    Raises:
        UserError: lists the locations, and the task with the most similar name.
    """
    known = {other for names in names_by_location.values() for other in names}
    if name not in known:
        raise UserError(f"--explain: no task {name!r} in {', '.join(names_by_location)}{nearest(name, sorted(known))}")


def _nearest(part: TaskVectors, vector_D: np.ndarray) -> tuple[Neighbour, ...]:
    cosine_N = np.round((part.unit_ND @ vector_D).clip(-1.0, 1.0), _DIGITS)
    order = np.argsort(-cosine_N, kind="stable")[:MOST_NEIGHBOURS].tolist()
    return tuple(
        Neighbour(part.names[row], float(cosine_N[row]), part.categories[row], part.definitions[row]) for row in order
    )
