"""What a run needs of its storage, tried before any work: otherwise a training would end without its result."""

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

_ELSEWHERE = "a local disk, a network file system mounted with locks, or s3://"


def check_storage(storage: AnyPath, option: str = "--storage") -> None:
    """Tries in a storage what a run does there, under names of its own, and removes them.

    The folder is made where it is missing. Subfolders that lie on another file system are tried too.

    Args:
        option: what gave the storage, for messages.

    Raises:
        RunError: the storage cannot be written, or its file system lacks what keeps two drivers apart.
        DiskFullError: there is no space left.
        StoreError: it knows no locks; or the object store does not answer, refuses, or ignores conditions.
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
        for what, works in _STEPS.items():
            try:
                reason = "" if works(probe) else "it says that it did, and did not"
            except OSError as error:
                if error.errno in NO_SPACE:
                    raise
                reason = error.strerror or str(error)
            if reason:
                raise RunError(
                    f"{folder}: its file system cannot {what} ({reason}). Without that two drivers could both write a "
                    f"result, or one could be lost. Give {option} another place: {_ELSEWHERE}"
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
            f"{folder}: cannot be written ({error.strerror or error}); give {option} a folder that can be, or the "
            "rights to this one to whoever runs simtune"
        ) from error


def _makes_exclusively(probe: Path) -> bool:
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


_STEPS: dict[str, Callable[[Path], bool]] = {
    "make a file only where there is none": _makes_exclusively,
    "replace a file by another": _replaces,
    "rename a folder": _renames_folders,
    "lock files": _locks,
    "give a file a name that is free, once": _writes_once,
    "remove files": _removes,
}
