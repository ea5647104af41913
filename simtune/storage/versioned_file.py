"""Small files that drivers change against each other: a compare-and-swap on a disk and in an object store."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from simtune.errors import StoreError
from simtune.storage.files import GUARD, AnyPath, disk_full_named, write_bytes
from simtune.storage.locks import Patience, file_lock
from simtune.storage.object_store import ObjectPath

# What a user can put right; anything else may pass by itself.
_USERS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ENXIO, errno.ELOOP}
_REMEDY = "; drivers keep each other off a run with it. Make it an ordinary file that whoever runs simtune may write"


class Cell(Protocol):
    """A small file that is only ever changed by whoever knows its latest version."""

    @property
    def path(self) -> AnyPath: ...

    def read(self) -> tuple[bytes, str] | None:
        """Content and version, or None where it does not exist."""

    def swap(self, data: bytes, version: str | None, patience: Patience | None = None) -> str | None:
        """Writes `data` where the cell still has `version` (None: does not exist); its new version, or None.

        Args:
            patience: how long a lock is waited for, where the cell needs one.

        Raises:
            StoreError: the lock was not to be had, or the object store does not answer.
        """


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
            # Without O_NONBLOCK a FIFO under this name would be waited for without end.
            with open(self.path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise StoreError(f"{self.path}: not a regular file{_REMEDY}", wrong_input=True)
                data = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _refused(self.path, "read", error) from error
        return data, hashlib.sha256(data).hexdigest()

    def swap(self, data: bytes, version: str | None, patience: Patience | None = None) -> str | None:
        try:
            # A full disk is named first.
            with disk_full_named(self.path):
                return self._swap(data, version, patience)
        except OSError as error:
            raise _refused(error.filename or self.path, "written", error) from error

    def _swap(self, data: bytes, version: str | None, patience: Patience | None) -> str | None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.guard.parent.mkdir(parents=True, exist_ok=True)
        # Held for the length of a small write only: whoever is stopped elsewhere holds nothing.
        with file_lock(self.guard, patience):
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

    def swap(self, data: bytes, version: str | None, patience: Patience | None = None) -> str | None:
        return self.path.swap(data, version)


def _refused(place: Path | str, what: str, error: OSError) -> StoreError:
    return StoreError(
        f"{place}: cannot be {what} ({error.strerror or error}){_REMEDY}", wrong_input=error.errno in _USERS
    )


def cell_in(storage: AnyPath, *names: str) -> Cell:
    """The cell of that name below a storage."""
    name = "/".join(names)
    return ObjectCell(storage / name) if isinstance(storage, ObjectPath) else FileCell(storage / name, storage / GUARD)
