"""Tests before any work whether a storage supports what a run needs, so that no training ends without a result."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from simtune.errors import RunError, StoreError
from simtune.storage.files import GUARD, NO_SPACE, AnyPath, disk_full_named, write_bytes, write_once
from simtune.storage.locks import LockWait, file_lock
from simtune.storage.object_store import ObjectPath

_ALTERNATIVES = "a local disk, a network file system mounted with locks, or s3://"


def check_storage(storage: AnyPath, option: str = "--storage") -> None:
    """Does in a storage what a run does there, under temporary names that are removed afterwards.

    The folder is created if missing. Subfolders on other file systems are tested too.

    Args:
        storage: of the run.
        option: that gave the storage, for messages.

    Raises:
        RunError: the storage is not writable, or its file system lacks an operation that keeps two drivers apart.
        DiskFullError: there is no space left.
        StoreError: it does not support locks; or the object store does not answer, refuses, or ignores conditions.
    """
    if isinstance(storage, ObjectPath):
        storage.check_conditions()
        return
    with disk_full_named(storage), _unwritable_named(storage, option):
        storage.mkdir(parents=True, exist_ok=True)
        device = storage.stat().st_dev
        others = [path for path in sorted(storage.iterdir()) if path.is_dir() and path.stat().st_dev != device]
    for folder in (storage, *others):
        with disk_full_named(folder):
            _check_folder(folder, option)


def _check_folder(folder: Path, option: str) -> None:
    probe = folder / f".probe-{secrets.token_hex(8)}"
    try:
        with _unwritable_named(folder, option):
            probe.mkdir()
            write_bytes(probe / "file", b"1")
        for operation, works in _OPERATIONS.items():
            try:
                reason = "" if works(probe) else "it reported success without doing it"
            except OSError as error:
                if error.errno in NO_SPACE:
                    raise
                reason = error.strerror or str(error)
            if reason:
                raise RunError(
                    f"{folder}: its file system cannot {operation} ({reason}). Without that, two drivers could both "
                    f"write a result, or a result could be lost. Give {option} another path: {_ALTERNATIVES}"
                )
    finally:
        shutil.rmtree(probe, ignore_errors=True)


@contextmanager
def _unwritable_named(folder: Path, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise
        raise RunError(
            f"{folder}: cannot be written ({error.strerror or error}); give {option} a folder that can be, or give the "
            "user who runs simtune permission to write to this one"
        ) from error


def _creates_exclusively(probe: Path) -> bool:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    os.close(os.open(probe / "exclusive", flags, 0o666))
    try:
        os.close(os.open(probe / "exclusive", flags, 0o666))
    except FileExistsError:
        return True
    return False


def _replaces(probe: Path) -> bool:
    write_bytes(probe / "file", b"2")
    return (probe / "file").read_bytes() == b"2"


def _renames_folders(probe: Path) -> bool:
    (probe / "folder").mkdir()
    write_bytes(probe / "folder" / "file", b"1")
    (probe / "folder").rename(probe / "renamed")
    return (probe / "renamed" / "file").read_bytes() == b"1"


def _locks(probe: Path) -> bool:
    with file_lock(probe / GUARD):
        try:
            with file_lock(probe / GUARD, LockWait(limit_s=0.0)):
                return False
        except StoreError:
            return True


def _writes_once(probe: Path) -> bool:
    return write_once(probe / "once", b"1") and not write_once(probe / "once", b"2")


def _removes(probe: Path) -> bool:
    shutil.rmtree(probe)
    return not probe.exists()


_OPERATIONS: dict[str, Callable[[Path], bool]] = {
    "create a file only if it does not exist": _creates_exclusively,
    "replace a file": _replaces,
    "rename a folder": _renames_folders,
    "lock files": _locks,
    "name a file without replacing another": _writes_once,
    "remove files": _removes,
}
