"""The types of a sweep file's fields, as messages need them: without wrappers, and one step into sections and lists."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from simtune.config.fields import FieldPath


@dataclass(frozen=True)
class BareType:
    """A type with the bounds that its annotations add."""

    base: Any
    rules: tuple[object, ...] = ()
    description: str | None = None


def bare_type(field: object) -> BareType:
    """The bare type of a field or an `Annotated` type, with all rules on the way to it."""
    rules: list[object] = []
    description = None
    if isinstance(field, FieldInfo):
        rules += field.metadata
        description = field.description
        field = field.annotation
    while get_origin(field) is Annotated:
        field, *extra = get_args(field)
        for rule in extra:
            if isinstance(rule, FieldInfo):
                rules += rule.metadata
                description = description or rule.description
            else:
                rules.append(rule)
    return BareType(field, tuple(rules), description)


def members_of(field: object) -> tuple[object, ...]:
    """The types that a field or a type may have: those of a union, or the one."""
    base = bare_type(field).base
    return get_args(base) if get_origin(base) in (Union, types.UnionType) else (base,)


def section_of(field: object) -> type[BaseModel] | None:
    """The section that a field or a type is, also one that may be left out; None if it is another value."""
    sections = [bare_type(each).base for each in members_of(field)]
    return next((each for each in sections if isinstance(each, type) and issubclass(each, BaseModel)), None)


def child_of(field: object, part: str | int) -> Any:
    """The type of a part of a section, list or mapping; None where there is no such part."""
    members = members_of(field)
    if len(members) > 1:
        found = (child_of(member, part) for member in members)
        return next((child for child in found if child is not None), None)
    base = bare_type(members[0]).base
    if isinstance(base, type) and issubclass(base, BaseModel):
        return base.model_fields.get(str(part)) if isinstance(part, str) else None
    if get_origin(base) is tuple and isinstance(part, int):
        return get_args(base)[0]
    # A mapping's keys are its user's.
    return get_args(base)[1] if get_origin(base) is dict and isinstance(part, str) else None


def field_at(model: type[BaseModel], path: FieldPath) -> Any:
    """The type of a field by its path."""
    field: Any = model
    for part in path:
        field = child_of(field, part)
    return field


def choices_of(field: object) -> list[str]:
    """The words that a field or a type takes."""
    found: list[str] = []
    for member in members_of(field):
        base = bare_type(member).base
        if get_origin(base) is Literal:
            found += [str(argument) for argument in get_args(base)]
    return found
