"""Paths that a user names for results: refused before anything is computed if results cannot be written there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from simtune.errors import RunError, UserError
from simtune.storage.files import NO_SPACE, write_bytes
from simtune.storage.records import Record, record_bytes
from simtune.wording import some


def check_folder(folder: Path, option: str = "--output") -> None:
    """Refuses a path that cannot be a folder because it, or a parent, is a file.

    Raises:
        UserError: names the file and the option that gave the path.
    """
    existing = next((part for part in (folder, *folder.parents) if part.exists()), None)
    if existing is not None and not existing.is_dir():
        raise UserError(f"{folder}: {existing} is not a folder; give {option} a folder, or one that does not exist yet")


def check_writable(path: Path, option: str = "--output") -> None:
    """Refuses a file or folder that could not be created, by creating a temporary one beside it.

    Raises:
        RunError: names the path and the option that gave it.
    """
    folder = next(part for part in (path, *path.absolute().parents) if part.is_dir())
    with unwritable_named(path, option), tempfile.TemporaryFile(dir=folder):
        pass


def refuse_other_results(folder: Path, record: Record, record_name: str, written: Sequence[str]) -> None:
    """Refuses a folder that contains other results, before anything is computed.

    Args:
        folder: where results will be written.
        record: what they are made from. A folder with an equal record gets the same files again.
        record_name: the file in the folder that contains the record.
        written: names of files and folders that would be replaced.

    Raises:
        UserError: names what is there.
    """
    existing = [name for name in (record_name, *written) if os.path.lexists(folder / name)]
    try:
        same = not existing or (folder / record_name).read_bytes() == record_bytes(record)
    except OSError:
        same = False
    if not same:
        raise UserError(
            f"{folder}: already contains other results ({some(existing)}); give --output another folder, or remove them"
        )


def check_file(file: Path, suffixes: Sequence[str], may_be_equal: Callable[[Path], bool]) -> None:
    """Refuses a file that `write_new_file` could not write, before anything is computed.

    Args:
        file: to write.
        suffixes: of the formats that there are.
        may_be_equal: whether a file that exists is one of these results. Whether it has the content of the new one is
            known later; any other file is refused now.

    Raises:
        UserError: its suffix is another one, a folder has its name, or it has other content.
        RunError: it cannot be written.
    """
    if file.suffix not in suffixes:
        raise UserError(f"--output: {file}: give the name of a file that ends in {' or '.join(suffixes)}")
    if file.is_dir():
        raise UserError(f"--output: {file}: this is a folder; give the name of a file")
    if file.exists() and not file.is_file():
        raise UserError(f"--output: {file}: this is not a regular file; give the name of a file")
    check_folder(file.parent)
    check_writable(file)
    if file.exists() and not may_be_equal(file):
        raise _other_content(file)


def begins_like(file: Path, columns: Sequence[str], beginning: bytes) -> bool:
    """Whether a Parquet file has these columns, or another file this beginning; false if it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.suffix == ".parquet":
            return bool(pq.read_schema(file).names == list(columns))
        with file.open("rb") as opened:
            return opened.read(len(beginning)) == beginning
    except (OSError, pa.ArrowException):
        return False


def write_new_file(file: Path, content: bytes) -> None:
    """Writes a file that does not exist yet, or has this content already.

    Raises:
        UserError: it has other content; names the file.
        RunError: it cannot be written.
    """
    with unwritable_named(file):
        if file.exists() and file.read_bytes() != content:
            raise _other_content(file)
        write_bytes(file, content)


def _other_content(file: Path) -> UserError:
    return UserError(f"{file}: already exists with different content; give --output another name, or remove the file")


@contextmanager
def unwritable_named(path: Path, option: str = "--output") -> Iterator[None]:
    """Turns the system's refusal to write to a path into an error that names it.

    Raises:
        RunError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        free_space = "free some space, or " if error.errno in NO_SPACE else ""
        raise RunError(
            f"{path}: cannot be written ({error.strerror or error}); {free_space}give {option} another path"
        ) from error
