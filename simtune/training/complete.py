"""Folders that count once they are complete: `complete.json`, written last, has the SHA-256 of every other file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import Any

from simtune.errors import RunError
from simtune.storage import file_sha256, json_text, read_json, write_once

MARKER = "complete.json"


def write_marker(folder: Path, about: dict[str, Any]) -> None:
    """Makes a folder count, once its files are on the disk; `about` is what the marker says beside the checksums."""
    files = {
        path.relative_to(folder).as_posix(): _synced_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MARKER
    }
    write_once(folder / MARKER, json_text({**about, "files": files}))


def read_marker(folder: Path) -> dict[str, Any] | None:
    """What a folder's marker says; None where there is none, or none that can be read."""
    try:
        marker = read_json(folder / MARKER)
    except RunError:
        return None
    files = marker.get("files") if isinstance(marker, dict) else None
    if not isinstance(files, dict) or not all(map(_is_inside, files)) or not all(map(_is_text, files.values())):
        return None
    return dict(marker)


def is_whole(folder: Path, marker: dict[str, Any]) -> bool:
    """Whether the bytes of a folder are what was written; reads all of them."""
    try:
        return all(
            (folder / name).is_file() and file_sha256(folder / name) == checksum
            for name, checksum in marker["files"].items()
        )
    except OSError:
        return False


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
