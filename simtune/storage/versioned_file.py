"""Small files that several drivers change concurrently: compare-and-swap on a disk or in an object store."""

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
from simtune.storage.locks import LockWait, file_lock
from simtune.storage.object_store import ObjectPath

# Errors that the user can fix; any other may be temporary.
_USER_ERRORS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ENXIO, errno.ELOOP}
_REMEDY = (
    ". Drivers use this file to keep out of each other's runs. Make it a regular file that the user who runs simtune "
    "can write"
)


class VersionedFile(Protocol):
    """A small file that can only be changed by a writer who knows its current version."""

    @property
    def path(self) -> AnyPath:
        """Where the file is."""

    def read(self) -> tuple[bytes, str] | None:
        """Reads content and version; None if the file does not exist."""

    def swap(self, data: bytes, version: str | None, wait: LockWait | None = None) -> str | None:
        """Writes `data` if the file still has `version`.

        Args:
            data: the new content.
            version: the version that is replaced; None if the file must not exist yet.
            wait: how long to wait for a lock, if one is needed.

        Returns:
            The new version, or None if the file has another version.

        Raises:
            StoreError: the lock could not be acquired, or the object store does not answer.
        """


@dataclass(frozen=True)
class LocalVersionedFile:
    """A versioned file on a local disk, or in a shared directory whose file system supports locks.

    Attributes:
        guard: the file that is locked during a change. It is never removed, because a lock on a removed file protects
            nothing. All versioned files of a storage share one.
    """

    path: Path
    guard: Path

    def read(self) -> tuple[bytes, str] | None:
        try:
            # Without O_NONBLOCK, opening a FIFO of this name would block forever.
            with open(self.path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise StoreError(f"{self.path}: not a regular file{_REMEDY}", wrong_input=True)
                data = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _access_error(self.path, "read", error) from error
        return data, hashlib.sha256(data).hexdigest()

    def swap(self, data: bytes, version: str | None, wait: LockWait | None = None) -> str | None:
        try:
            # Reports a full disk as such, before any other reason.
            with disk_full_named(self.path):
                return self._swap(data, version, wait)
        except OSError as error:
            raise _access_error(error.filename or self.path, "written", error) from error

    def _swap(self, data: bytes, version: str | None, wait: LockWait | None) -> str | None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.guard.parent.mkdir(parents=True, exist_ok=True)
        # Held only for one small write, so that a process that is stopped elsewhere holds no lock.
        with file_lock(self.guard, wait):
            found = self.read()
            if (found[1] if found else None) != version:
                return None
            write_bytes(self.path, data)
        return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class ObjectVersionedFile:
    """A versioned file in an object store, which does the compare-and-swap itself."""

    path: ObjectPath

    def read(self) -> tuple[bytes, str] | None:
        return self.path.read_version()

    def swap(self, data: bytes, version: str | None, wait: LockWait | None = None) -> str | None:
        return self.path.swap(data, version)


def _access_error(path: Path | str, action: str, error: OSError) -> StoreError:
    return StoreError(
        f"{path}: cannot be {action} ({error.strerror or error}){_REMEDY}", wrong_input=error.errno in _USER_ERRORS
    )


def versioned_file(storage: AnyPath, *names: str) -> VersionedFile:
    """The versioned file `names[0]/names[1]/...` of a storage."""
    name = "/".join(names)
    if isinstance(storage, ObjectPath):
        return ObjectVersionedFile(storage / name)
    return LocalVersionedFile(storage / name, storage / GUARD)
