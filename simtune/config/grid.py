"""`grid:` expanded: one fully resolved sweep for each combination of the listed values."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from simtune.config.fields import FieldPath
from simtune.config.problems import settings_error, unknown_key
from simtune.config.set_value import set_value
from simtune.config.settings import Sweep
from simtune.errors import ConfigError


@dataclass(frozen=True)
class GridPoint:
    """One combination of a grid.

    Attributes:
        values: the swept fields and their values here, in the order of the sweep file; empty without a grid.
        sweep: the settings with these values in place and `grid` empty.
    """

    values: tuple[tuple[str, object], ...]
    sweep: Sweep

    @property
    def label(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self.values)


# A run has one name, one storage and one set of machines; selection's own lists already are sweeps.
_NOT_SWEPT = ("name", "storage", "grid", "baselines", "resources", "selection")
_SWEPT = tuple(name for name in Sweep.model_fields if name not in _NOT_SWEPT)
_DECIDES_NOTHING = "training.keep"


def expand_grid(sweep: Sweep) -> tuple[GridPoint, ...]:
    """All grid points, the last listed field varying fastest.

    Raises:
        ConfigError: a key is not a field that may be swept, a list is empty, or a value is wrong.
    """
    for key, values in sweep.grid.items():
        if key.split(".")[0] in _NOT_SWEPT or "." not in key:
            hint = "." if "." in key or key in Sweep.model_fields else unknown_key((key,), Sweep)
            raise ConfigError(
                f"cannot be swept{hint} Name one field of {', '.join(_SWEPT[:-1])} or {_SWEPT[-1]}, such as "
                "training.learning_rate; strategies, sizes and seeds are lists in selection",
                field=f"grid.{key}",
            )
        if key == _DECIDES_NOTHING:
            raise ConfigError("does not affect results; give it one value, in training", field=f"grid.{key}")
        if not values:
            raise ConfigError("has no values. List at least one, or leave the key out", field=f"grid.{key}")
        if any(value in values[:index] for index, value in enumerate(values)):
            raise ConfigError(f"lists a value twice: {list(values)}", field=f"grid.{key}")
    points = []
    for combination in itertools.product(*sweep.grid.values()):
        settings = sweep.model_dump(mode="json") | {"grid": {}}
        pairs = tuple(zip(sweep.grid, combination, strict=True))
        fields = [".".join(map(str, set_value(settings, key, value, where="grid"))) for key, value in pairs]
        _check_apart(tuple(sweep.grid), fields)
        points.append(GridPoint(pairs, _validated(settings, fields)))
    return tuple(points)


def _check_apart(keys: Sequence[str], fields: Sequence[str]) -> None:
    """Refuses a key whose value a later one replaces: `suites.english` and `suites.0` may be the same."""
    for index, (key, field) in enumerate(zip(keys, fields, strict=True)):
        for later_key, later in zip(keys[index + 1 :], fields[index + 1 :], strict=True):
            if f"{field}.".startswith(f"{later}."):
                raise ConfigError(f"is set again by {later_key}; keep one of them", field=f"grid.{key}")


def _validated(settings: dict[str, Any], fields: Sequence[str]) -> Sweep:
    """The sweep of one combination, whose values were set for these fields by the grid."""

    def name_of(path: FieldPath) -> str:
        dotted = ".".join(map(str, path))
        is_swept = any(f"{field}.".startswith(f"{dotted}.") or dotted.startswith(f"{field}.") for field in fields)
        return f"grid.{dotted}" if is_swept else dotted or "grid"

    try:
        return Sweep.model_validate(settings)
    except ValidationError as error:
        raise settings_error(error, Sweep, settings, name_of) from None
