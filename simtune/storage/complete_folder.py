"""Folders that count only once they are complete: `complete.json`, written last, has the SHA-256 of all other files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator

from simtune.errors import RunError, StoreError
from simtune.storage.file_types import has_file
from simtune.storage.files import AnyPath, disk_full_named, file_sha256
from simtune.storage.new_files import follow_umask
from simtune.storage.object_store import ObjectPath
from simtune.storage.records import Record, Sha256, read_record, write_record

MARKER = "complete.json"


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("not a path within the folder")
    return name


PathInside = Annotated[str, AfterValidator(_inside)]


class Marker(Record):
    """The content of `complete.json`; subclasses add what else they record about their folder.

    Attributes:
        files: SHA-256 (hex) of the folder's other files, by their path within it.
    """

    version: Literal[1] = 1
    files: dict[PathInside, Sha256]


M = TypeVar("M", bound=Marker)


def checksums_of(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of a folder's files except the marker, by their path within it, sorted.

    The files are flushed to the disk and get the permissions that the umask allows.
    """
    follow_umask(folder)
    return {
        path.relative_to(folder).as_posix(): _synced_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MARKER
    }


def write_marker(folder: AnyPath, marker: Marker) -> None:
    """Makes a folder complete once all its files are there; replaces an earlier marker."""
    write_record(folder / MARKER, marker.model_copy(update={"files": dict(sorted(marker.files.items()))}))


def read_marker(folder: AnyPath, marker_type: type[M]) -> M | None:
    """Reads a folder's marker; None if it is missing, damaged or of another type."""
    try:
        return read_record(folder / MARKER, marker_type)
    except (RunError, FileNotFoundError):
        return None


def upload(source: Path, destination: ObjectPath) -> dict[str, str]:
    """Copies a folder's files except the marker to an object store; returns their checksums."""
    files = checksums_of(source)
    for name in files:
        (destination / name).upload(source / name)
    return files


def download(source: ObjectPath, files: Mapping[str, str], folder: Path) -> None:
    """Copies files from an object store; missing ones are skipped.

    Args:
        source: the folder in the object store.
        files: checksums by path within the folder, as a marker has them.
        folder: where to write them.

    Raises:
        StoreError: the bytes received are not the bytes that were written.
        DiskFullError: there is no space left.
    """
    for name, checksum in files.items():
        with suppress(FileNotFoundError), disk_full_named(folder / name):
            (source / name).download(folder / name)
            if file_sha256(folder / name) != checksum:
                raise StoreError(f"{source / name}: damaged during download; run the same command again")


def files_match(folder: AnyPath, files: Mapping[str, str]) -> bool:
    """Whether a folder has all files of a marker with the same bytes; reads all of them."""
    try:
        return all(
            has_file(folder / name) and file_sha256(folder / name) == checksum for name, checksum in files.items()
        )
    except (OSError, RunError):
        return False


def refuse_full_disk(folder: Path, named: AnyPath) -> None:
    """Checks after a failed write whether the disk is full, since torch and safetensors raise errors of their own.

    Args:
        folder: that was written to.
        named: what the error calls it.

    Raises:
        DiskFullError: the disk is full.
    """
    with disk_full_named(named), (folder / "probe").open("wb") as probe:
        probe.write(bytes(2**20))
        probe.flush()
        os.fsync(probe.fileno())


def _synced_sha256(path: Path) -> str:
    # After a power cut there must be no marker without its files.
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
