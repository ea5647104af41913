"""Setting one value of nested settings by its dotted key, as `--set` and the grid do.

A value of a list has its position, which counts from 0, or its name where it has one: `evaluation.suites.0.split`,
`evaluation.suites.english.split`, `selection.sizes.1`, `grid.training.epochs.1`. A position goes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from simtune.config.field_types import bare_type, child_of, section_of
from simtune.config.fields import FieldPath, is_list
from simtune.config.settings import Sweep
from simtune.errors import ConfigError, cut, shown
from simtune.wording import some, spelt_like

_MOST_SHOWN = 10


def set_value(settings: dict[str, Any], key: str, value: object, where: str) -> FieldPath:
    """Sets the dotted `key` in nested settings, making sections on the way.

    Args:
        settings: of a sweep, as its file has them. Lists and sections on the way are copied, since others may share
            them.
        key: of what is set.
        value: to set.
        where: what messages begin with.

    Returns:
        The path of what was set, with positions instead of names.

    Raises:
        ConfigError: a part of the key goes through something that is not a section, or a list has no such value.
    """
    parts = _parts(settings, key)
    node: Any = settings
    field: Any = Sweep
    path: list[str | int] = []
    for part, next_part in pairwise(parts):
        at = _place(node, part, path, where)
        path.append(at)
        owner, field = field, child_of(field, at)
        node[at] = node = _opened(node[at] if at in _places(node) else None, owner, field, next_part, path, where)
    at = _place(node, parts[-1], path, where)
    node[at] = value
    return (*path, at)


def _parts(settings: dict[str, Any], key: str) -> Sequence[str]:
    """The parts of a key. What the grid has are whole keys, and a number behind one of them is a position."""
    first, _, rest = key.partition(".")
    if first != "grid" or not rest:
        return key.split(".")
    swept = settings.get("grid")
    for there in sorted(swept, key=len, reverse=True) if isinstance(swept, dict) else ():
        behind = rest.removeprefix(f"{there}.")
        if behind != rest and behind.partition(".")[0].isdecimal():
            return ["grid", there, *behind.split(".")]
    return ["grid", rest]


def _places(node: Any) -> Sequence[Any]:
    return range(len(node)) if isinstance(node, list) else list(node)


def _place(node: Any, part: str, path: FieldPath | list[str | int], where: str) -> str | int:
    """The key of a part in a section, or its position in a list."""
    if not isinstance(node, list):
        return part
    names = [each.get("name") if isinstance(each, dict) else None for each in node]
    if part in map(str, range(len(node))):
        return int(part)
    if part in names:
        return names.index(part)
    if any(names):
        there = some(
            [f"{position} ({name})" if name else str(position) for position, name in enumerate(names)], _MOST_SHOWN
        )
    else:
        there = "0" if len(node) == 1 else f"0 to {len(node) - 1}"
    like = spelt_like(part, [name for name in names if isinstance(name, str)])
    hint = f"; did you mean {like!r}?" if like else ""
    raise ConfigError(
        f"{cut('.'.join(map(str, path)))} has no value {shown(part)}"
        + (f"{hint} It has {there}" if hint else f"; it has {there}" if node else "; it is empty. Set the whole list"),
        field=where,
    )


def _opened(
    there: object, owner: object, field: object, next_part: str, path: FieldPath | list[str | int], where: str
) -> dict[str, Any] | list[Any]:
    """A section or a list to set a value in: a copy of what is there, or else a list's default or a new section."""
    dotted = cut(".".join(map(str, path)))
    # A single section stands for a list of one, and so do its fields.
    if is_list(bare_type(field).base) and not (isinstance(there, dict | None) and _is_field(field, next_part)):
        there = _default(owner, str(path[-1])) if there is None else there
        if there is None:
            text = f"{dotted} has no value {shown(next_part)}; it is not set. Set the whole list"
            raise ConfigError(text, field=where)
        return list(there) if isinstance(there, list | tuple) else [there]
    if isinstance(there, list):
        return list(there)
    if there is None or isinstance(there, dict):
        return dict(there or {})
    raise ConfigError(f"{dotted} is a value, not a section", field=where)


def _is_field(field: object, part: str) -> bool:
    """Whether the sections of a list have a field of this name."""
    return child_of(child_of(field, 0), part) is not None


def _default(owner: object, name: str) -> list[Any] | None:
    """The default of a section's list as a sweep file has it; None where there is none."""
    section = section_of(owner)
    field = section.model_fields.get(name) if section else None
    values = field.get_default(call_default_factory=True) if field is not None and not field.is_required() else None
    if values is None:
        return None
    return [value.model_dump(mode="json") if isinstance(value, BaseModel) else value for value in values]
