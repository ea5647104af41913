"""Places that a user names for results: refused before anything is computed where they cannot take them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simtune.errors import RunError, UserError
from simtune.storage.files import NO_SPACE
from simtune.wording import some


def check_folder(folder: Path, option: str = "--output") -> None:
    """Refuses what cannot be a folder: a file, or something below one.

    Raises:
        UserError: names the file and the option that gave it.
    """
    there = next((part for part in (folder, *folder.parents) if part.exists()), None)
    if there is not None and not there.is_dir():
        raise UserError(f"{folder}: {there} is no folder; give {option} a folder, or one that does not exist yet")


def check_writable(place: Path, option: str = "--output") -> None:
    """Refuses a file or folder that could not be made, by making another one beside it for a moment.

    Raises:
        RunError: names the place and the option that gave it.
    """
    there = next(part for part in (place, *place.absolute().parents) if part.is_dir())
    with unwritable_named(place, option), tempfile.TemporaryFile(dir=there):
        pass


def refuse_other_results(folder: Path, record: Mapping[str, Any], record_name: str, written: Sequence[str]) -> None:
    """Refuses a folder that holds results of something else, before anything is computed.

    Args:
        folder: where results are to go.
        record: what they will be made of. A folder whose own record is equal gets the same files again.
        record_name: the file in the folder that says what its results were made of.
        written: names of files and folders that would be replaced.

    Raises:
        UserError: names what is there.
    """
    there = [name for name in (record_name, *written) if os.path.lexists(folder / name)]
    try:
        same = not there or json.loads((folder / record_name).read_bytes()) == record
    except (OSError, ValueError, RecursionError):
        same = False
    if not same:
        raise UserError(
            f"{folder}: holds other results already ({some(there)}); give --output another folder, or remove them"
        )


def refuse_other_content(file: Path, content: bytes) -> None:
    """Refuses to replace a file by another content.

    Raises:
        UserError: names the file.
    """
    if file.exists() and file.read_bytes() != content:
        raise UserError(f"{file}: holds something else already; give --output another name, or remove the file")


@contextmanager
def unwritable_named(place: Path, option: str = "--output") -> Iterator[None]:
    """Turns the system's refusal to write to a place into an error that names it.

    Raises:
        RunError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        make_room = "make room, or " if error.errno in NO_SPACE else ""
        raise RunError(
            f"{place}: cannot be written ({error.strerror or error}); {make_room}give {option} another place"
        ) from error
