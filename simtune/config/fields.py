"""What every block of a sweep file shares: frozen models that refuse unknown keys, and the common field types."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(strict=True, ge=1)]
CountOrZero = Annotated[int, Field(strict=True, ge=0)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Flag = Annotated[bool, Field(strict=True)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Text = Annotated[str, Field(strict=True, min_length=1)]


class Section(BaseModel):
    """One block of the sweep file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def without_repeats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuses a list that names something twice.

    Raises:
        ValueError: it does.
    """
    if len(set(values)) != len(values):
        raise ValueError(f"names something twice: {list(values)}")
    return values
