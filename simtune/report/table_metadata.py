"""The arms and metrics of `results.parquet`, described as JSON in its schema metadata.

The report knows no strategy and no metric by name. The writer of the table describes which arms choose tasks, how their
lines look, and which columns are scores; the report reads that back and needs nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simtune.errors import RunError

SCHEMA_KEY, TABLES_SCHEMA = b"simtune.schema", 1
"""Version of a run's tables, in their schema metadata."""
RESULTS_KEY = b"simtune.results"
"""Where `ResultsMetadata` is in the schema metadata of `results.parquet`."""

_REMEDY = "move it aside and run `simtune run` again: finished trials are not recomputed"


ArmType = Literal["strategy", "full", "baseline"]
"""`full` trains on the whole pool, `baseline` on no task."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class LineStyle(_Part):
    """How an arm's line is drawn."""

    colour: Annotated[str, Field(pattern="^#[0-9a-f]{6}$")]
    marker: Annotated[str, Field(pattern=r"^[.,ov^<>12348spP*hH+xXDd|_]$")]
    """One of matplotlib's markers."""


class ArmInfo(_Part):
    """One arm of a run."""

    name: str
    """As in column `arm`."""
    type: ArmType
    style: LineStyle | None = None
    """The style of the arm's strategy; None leaves the choice to the report."""


class NumberColumn(_Part):
    """A column of numbers, and how they are printed."""

    column: str
    """Its name in `results.parquet`."""
    title: str
    """As printed."""
    digits: Annotated[int, Field(ge=0, le=12)]
    """Decimals that are printed."""

    def text(self, value: float | None) -> str:
        """A number with the column's decimals; an en dash where there is none."""
        return "–" if value is None or not math.isfinite(value) else f"{value:.{self.digits}f}"


class MetricInfo(NumberColumn):
    """One metric of a run."""

    name: str
    """As in column `metric` of `scores.parquet`."""
    unit: str
    """Of differences, in the plural."""
    higher_is_better: bool = True

    def merit(self, value: float) -> float:
        """The score, negated where lower is better: of two scores the better one has the larger merit."""
        return value if self.higher_is_better else -value


class ResultsMetadata(_Part):
    """All arms and metrics of a run."""

    arms: tuple[ArmInfo, ...]
    """In the order in which tables and figures show them."""
    metrics: Annotated[tuple[MetricInfo, ...], Field(min_length=1)]
    """The first one is the headline of the report."""

    def schema_metadata(self) -> dict[bytes, bytes]:
        """Ready for a schema."""
        return {SCHEMA_KEY: str(TABLES_SCHEMA).encode(), RESULTS_KEY: self.model_dump_json().encode()}

    @property
    def arms_by_name(self) -> Mapping[str, ArmInfo]:
        """Arms by name, in order."""
        return {arm.name: arm for arm in self.arms}


def read_results_metadata(table: pa.Table) -> ResultsMetadata:
    """Reads the description of arms and metrics from a table of results.

    Raises:
        RunError: the table is of another version, or has no valid description.
    """
    metadata = table.schema.metadata or {}
    version = metadata.get(SCHEMA_KEY, b"").decode(errors="replace")
    if version != str(TABLES_SCHEMA):
        raise RunError(
            f"results.parquet: schema {version[:20]!r}, this simtune reads {TABLES_SCHEMA}. Use the version that "
            f"wrote it (manifest.json has it), or {_REMEDY}"
        )
    try:
        return ResultsMetadata.model_validate_json(metadata.get(RESULTS_KEY, b""))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "all of it"
        raise RunError(
            f"results.parquet: schema metadata {RESULTS_KEY.decode()!r}, {field}: {first['msg']}; {_REMEDY}"
        ) from None
