"""Folders that count once they are complete: `complete.json`, written last, has the SHA-256 of every other file."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from simtune.errors import RunError, StoreError
from simtune.storage.checksummed import checksummed_json, verified_json
from simtune.storage.file_kinds import has_file, read_file
from simtune.storage.files import AnyPath, disk_full_named, file_sha256, json_text, write_bytes
from simtune.storage.new_files import follow_umask
from simtune.storage.object_store import ObjectPath

MARKER = "complete.json"


def checksums_of(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of a folder's files but the marker, by their path within.

    They are on the disk then, with the permissions that the umask leaves.
    """
    follow_umask(folder)
    return {
        path.relative_to(folder).as_posix(): _synced_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MARKER
    }


def write_marker(folder: AnyPath, about: dict[str, Any], files: dict[str, str]) -> None:
    """Makes a folder count, once all its files are there; replaces the marker of what lay there before.

    Args:
        about: what the marker says beside the checksums.
        files: as `checksums_of` has them.
    """
    write_bytes(folder / MARKER, checksummed_json(json_text({**about, "files": dict(sorted(files.items()))})))


def upload(made: Path, destination: ObjectPath) -> dict[str, str]:
    """Puts a folder's files into an object store, all but the marker; their checksums."""
    files = checksums_of(made)
    for name in files:
        (destination / name).upload(made / name)
    return files


def download(source: ObjectPath, marker: dict[str, Any], folder: Path) -> None:
    """Gets the files that a marker names from an object store, as far as they are there.

    Raises:
        StoreError: what came is not what was written.
        DiskFullError: there is no room for them.
    """
    for name, checksum in marker["files"].items():
        with suppress(FileNotFoundError), disk_full_named(folder / name):
            (source / name).download(folder / name)
            if file_sha256(folder / name) != checksum:
                raise StoreError(f"{source / name}: came damaged; run the same command again")


def read_marker(folder: AnyPath) -> dict[str, Any] | None:
    """What a folder's marker says; None where there is none, or a damaged one."""
    path = folder / MARKER
    try:
        marker = json.loads(verified_json(read_file(path), str(path)))
    except (RunError, FileNotFoundError, ValueError, RecursionError):
        return None
    files = marker.get("files") if isinstance(marker, dict) else None
    if not isinstance(files, dict) or not all(map(_is_inside, files)) or not all(map(_is_text, files.values())):
        return None
    return dict(marker)


def is_whole(folder: AnyPath, marker: dict[str, Any]) -> bool:
    """Whether the bytes of a folder are what was written; reads all of them."""
    try:
        return all(
            has_file(folder / name) and file_sha256(folder / name) == checksum
            for name, checksum in marker["files"].items()
        )
    except (OSError, RunError):
        return False


def refuse_full_disk(folder: Path, named: AnyPath) -> None:
    """Finds out, after a failed write, whether the disk is full: torch and safetensors raise errors of their own.

    Args:
        folder: which the write was to.
        named: what the error calls it.

    Raises:
        DiskFullError: it is.
    """
    with disk_full_named(named), (folder / "probe").open("wb") as probe:
        probe.write(bytes(2**20))
        probe.flush()
        os.fsync(probe.fileno())


def _synced_sha256(path: Path) -> str:
    # The marker must not outlive a power cut that the files did not.
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
