"""Small JSON files as typed, frozen values: with a checksum and a schema version, unknown keys refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simtune.errors import RunError, shown
from simtune.storage.checksummed import MOVE_ASIDE, checksummed_json, verified_json
from simtune.storage.file_types import read_file
from simtune.storage.files import AnyPath, json_text, write_bytes

R = TypeVar("R", bound="Record")
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Record(BaseModel):
    """The content of a file. Each subclass has a field `version` whose type admits the one version that it reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def record_bytes(record: Record) -> bytes:
    """The bytes of a record's file, checksum included."""
    return checksummed_json(json_text(record.model_dump(mode="json")))


def write_record(path: AnyPath, record: Record, write: Callable[[AnyPath, bytes], object] = write_bytes) -> None:
    """Writes or replaces a record's file atomically."""
    write(path, record_bytes(record))


def read_record(path: AnyPath, record_type: type[R], remedy: str = MOVE_ASIDE) -> R:
    """Reads a record.

    Args:
        path: of the file.
        record_type: the expected type.
        remedy: what an error tells the user to do.

    Raises:
        FileNotFoundError: there is no such file.
        RunError: it is not a regular file, is damaged, or has another version or other fields.
    """
    return parse_record(read_file(path), record_type, str(path), remedy)


def read_record_if_present(path: AnyPath, record_type: type[R], remedy: str = MOVE_ASIDE) -> R | None:
    """Reads a record as `read_record` does, or returns None where there is no such file."""
    try:
        return read_record(path, record_type, remedy)
    except FileNotFoundError:
        return None


def parse_record(data: bytes, record_type: type[R], where: str, remedy: str = MOVE_ASIDE) -> R:
    """Builds a record from the bytes of its file.

    Args:
        data: as `record_bytes` writes them.
        record_type: the expected type.
        where: what an error calls the file.
        remedy: what an error tells the user to do.

    Raises:
        RunError: the data are damaged, or have another version or other fields.
    """
    text = verified_json(data, where, remedy)
    try:
        return record_type.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        # The message names a missing or unknown field, or says which values are right.
        raise RunError(f"{where}, {field}: {first['msg']}, found {shown(first['input'], 60)}; {remedy}") from None
