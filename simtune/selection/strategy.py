"""What a strategy is: a function that fills a subset, and what is known about it.

A custom strategy is one function, registered under the entry point group `simtune.strategies`:

    def alphabetical(subset):
        subset.add_in_order(range(len(subset.graph)))

`Strategy` around the function says more: parameters with their ranges, whether it draws, whether it is an oracle.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simtune.errors import ConfigError
from simtune.selection.objective import Objective
from simtune.selection.partial_subset import PartialSubset
from simtune.wording import nearest

MARKERS = ".,ov^<>12348spP*hH+xXDd|_"
"""Markers of matplotlib that a figure's arm can have."""
_COLOUR = re.compile("#[0-9a-f]{6}")


@dataclass(frozen=True)
class Parameter:
    """One setting of a strategy.

    Attributes:
        default: used where the sweep file gives none; its type is the parameter's.
        at_least: smallest number allowed.
        above: numbers must be larger than this.
        choices: the texts allowed.
        help: what it does, in a few words.
    """

    default: Any
    at_least: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    help: str = ""

    @property
    def range(self) -> str:
        """The values allowed, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        type_name = {int: "a whole number", float: "a number", bool: "true or false"}.get(
            type(self.default), "a string"
        )
        if self.above is not None:
            return f"{type_name} above {self.above:g}"
        return f"{type_name} of at least {self.at_least:g}" if self.at_least is not None else type_name

    def allows(self, value: object) -> bool:
        """Whether a value is of the right type and in range."""
        if isinstance(self.default, bool) or isinstance(value, bool):
            return isinstance(self.default, bool) and isinstance(value, bool)
        if isinstance(self.default, str):
            return isinstance(value, str) and (not self.choices or value in self.choices)
        if not isinstance(value, int if isinstance(self.default, int) else int | float):
            return False
        return abs(value) < float("inf") and (
            (self.at_least is None or value >= self.at_least) and (self.above is None or value > self.above)
        )


@dataclass(frozen=True)
class FigureStyle:
    """How figures draw an arm: a colour as `#rrggbb` and a matplotlib marker, so that print in grey works too."""

    colour: str
    marker: str

    def __post_init__(self) -> None:
        """Refuses what figures cannot draw."""
        if not _COLOUR.fullmatch(self.colour) or self.marker not in MARKERS or len(self.marker) != 1:
            raise ValueError(
                f"style {self.colour!r}, {self.marker!r}: give a colour as #rrggbb in small letters and a marker, one "
                f"of {MARKERS}"
            )


@dataclass(frozen=True)
class Strategy:
    """A way to choose tasks, and everything that other parts of the package need to know about it.

    Attributes:
        choose: adds tasks to a subset until it is full. Deterministic: the same subset gets the same tasks.
        parameters: by name.
        seeded: whether the seed changes what is chosen.
        nested: whether a small subset is the beginning of a large one; if not, every size is chosen separately.
        oracle: whether it sees the test tasks. Only then does `subset.graph` include them; tables mark the arm.
        uses_categories: whether the tasks' categories decide what is chosen.
        names_tasks: whether its parameter `file` names a file of task names, which it gets as the parameter `names`.
        objective: the set function that it maximises greedily; None where it has no marginal gain.
        style: how figures draw it; None leaves that to a hash of its name.
        known_for: what a reader of the documentation should know about it: guarantees, limits.
    """

    choose: Callable[[PartialSubset], None]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    seeded: bool = False
    nested: bool = True
    oracle: bool = False
    uses_categories: bool = False
    names_tasks: bool = False
    objective: Objective | None = None
    style: FigureStyle | None = None
    known_for: str = ""

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (self.choose.__doc__ or "").strip().partition("\n")[0]

    def check(self, name: str, given: Mapping[str, object]) -> dict[str, Any]:
        """Parameters with every default filled in.

        Raises:
            ConfigError: one is unknown or out of range; names strategy, parameter and range.
        """
        for key, value in given.items():
            if key not in self.parameters:
                known = ", ".join(self.parameters) or "no parameters"
                hint = nearest(key, self.parameters)
                raise ConfigError(f"strategy {name}: unknown parameter {key!r}; it takes {known}{hint}")
            if not self.parameters[key].allows(value):
                raise ConfigError(f"strategy {name}: {key}: {value!r} is not {self.parameters[key].range}")
        return {key: given.get(key, parameter.default) for key, parameter in self.parameters.items()}
