"""Small files that drivers change against each other: a compare-and-swap on a disk and in an object store."""

from __future__ import annotations

import fcntl
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from simtune.object_store import ObjectPath
from simtune.storage import AnyPath, write_bytes

_GUARD = ".guard"


class Cell(Protocol):
    """A small file that is only ever changed by whoever knows its latest version."""

    @property
    def path(self) -> AnyPath: ...

    def read(self) -> tuple[bytes, str] | None:
        """Content and version, or None where it does not exist."""

    def swap(self, data: bytes, version: str | None) -> str | None:
        """Writes `data` where the cell still has `version` (None: does not exist); its new version, or None."""


@dataclass(frozen=True)
class FileCell:
    """A cell on a local disk or a shared directory whose file system knows locks.

    Attributes:
        guard: the file that is locked for the length of a change. It stays: a lock on a file that goes away guards
            nothing. All cells of a storage share one.
    """

    path: Path
    guard: Path

    def read(self) -> tuple[bytes, str] | None:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        return data, hashlib.sha256(data).hexdigest()

    def swap(self, data: bytes, version: str | None) -> str | None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.guard.parent.mkdir(parents=True, exist_ok=True)
        # Held for the length of a small write only: whoever is stopped elsewhere holds nothing.
        with self.guard.open("a") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            found = self.read()
            if (found[1] if found else None) != version:
                return None
            write_bytes(self.path, data)
        return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class ObjectCell:
    """A cell in an object store, which itself compares and swaps."""

    path: ObjectPath

    def read(self) -> tuple[bytes, str] | None:
        return self.path.read_version()

    def swap(self, data: bytes, version: str | None) -> str | None:
        return self.path.swap(data, version)


def cell_in(storage: AnyPath, *names: str) -> Cell:
    """The cell of that name below a storage."""
    name = "/".join(names)
    return ObjectCell(storage / name) if isinstance(storage, ObjectPath) else FileCell(storage / name, storage / _GUARD)
