"""Small JSON files as typed, frozen values: checksummed, of a known version, without unknown keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from simtune.errors import RunError, shown
from simtune.storage.checksummed import MOVE_ASIDE, checksummed_json, verified_json
from simtune.storage.file_kinds import read_file
from simtune.storage.files import AnyPath, json_text, write_bytes

R = TypeVar("R", bound="Record")


class Record(BaseModel):
    """A file's content. Subclasses give `version` the one value that they read."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def record_bytes(record: Record) -> bytes:
    """A record as a file with its checksum."""
    return checksummed_json(json_text(record.model_dump(mode="json")))


def write_record(path: AnyPath, record: Record, write: Callable[[AnyPath, bytes], Any] = write_bytes) -> None:
    """Writes or replaces a record's file atomically."""
    write(path, record_bytes(record))


def read_record(path: AnyPath, kind: type[R], remedy: str = MOVE_ASIDE) -> R:
    """Reads a record.

    Args:
        remedy: what an error says to do.

    Raises:
        FileNotFoundError: there is no such file.
        RunError: something else lies there, the file is damaged, of another version, or has other fields.
    """
    text = verified_json(read_file(path), str(path), remedy)
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        message = first["msg"]
        # The message has the fields that are missing or too many by name; of a wrong value it has what is right.
        raise RunError(f"{path}, {place}: {message}, found {shown(first['input'], 60)}; {remedy}") from None
