"""Places that a user names for results: refused before anything is computed where they cannot take them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simtune.errors import RunError, UserError


def check_folder(folder: Path, option: str = "--output") -> None:
    """Refuses what cannot be a folder: a file, or something below one.

    Raises:
        UserError: names the file and the option that gave it.
    """
    there = next((part for part in (folder, *folder.parents) if part.exists()), None)
    if there is not None and not there.is_dir():
        raise UserError(f"{folder}: {there} is no folder; give {option} a folder, or one that does not exist yet")


@contextmanager
def unwritable_named(place: Path, option: str = "--output") -> Iterator[None]:
    """Turns the system's refusal to write to a place into an error that names it.

    Raises:
        RunError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{place}: cannot be written ({error.strerror or error}); make room, or give {option} another place"
        ) from error
