"""What every block of a sweep file shares: frozen models that refuse unknown keys, and the common field types."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, ClassVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Count = Annotated[int, Field(strict=True, ge=1)]
CountOrZero = Annotated[int, Field(strict=True, ge=0)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Flag = Annotated[bool, Field(strict=True)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Text = Annotated[str, Field(strict=True, min_length=1)]

FieldPath = tuple[str | int, ...]
"""The names of the sections around a field and its own; positions in lists are numbers."""


class RuleError(ValueError):
    """Fields contradict each other; messages give the place of each.

    Args:
        text: what is wrong.
        fields: their names in the section whose rule it is; dotted for those of sections in it.
    """

    def __init__(self, text: str, *fields: str) -> None:
        super().__init__(text)
        self.fields = fields


class Section(BaseModel):
    """One block of the sweep file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    further_keys: ClassVar[str] = ""
    """What messages call keys that a section may have beside its fields."""

    short_forms: ClassVar[tuple[str, ...]] = ()
    """Words that may stand instead of the whole section."""

    @field_validator("*", mode="before")
    @classmethod
    def _one_value_is_a_list(cls, value: object, info: ValidationInfo) -> object:
        """A single value for a field that is a list is a list of one: `sizes: 10`."""
        single = is_list(cls.model_fields[info.field_name or ""].annotation)
        return (value,) if single and isinstance(value, str | bool | int | float | dict) else value


def is_list(annotation: object) -> bool:
    """Whether values of a type are lists, or lists and null."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return is_list(arguments[0])
    if origin in (Union, UnionType):
        return all(member is NoneType or is_list(member) for member in arguments)
    return origin is tuple


def without_repeats(values: tuple[object, ...]) -> tuple[object, ...]:
    """Refuses a list that lists a value twice.

    Raises:
        ValueError: it does.
    """
    if len(set(values)) != len(values):
        raise ValueError(f"lists a value twice: {list(values)}")
    return values
