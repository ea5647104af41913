"""Tests before any work whether a storage supports what a run needs, so that no training ends without a result.

On a cluster each host must see the same storage: `driver_probes` leaves files of the driver there, and
`check_from_host` looks for them on every host.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from simtune.errors import RunError, StoreError
from simtune.storage.files import GUARD, NO_SPACE, AnyPath, disk_full_named, remove_tree, write_bytes, write_once
from simtune.storage.locks import ALTERNATIVES, LockWait, file_lock
from simtune.storage.object_client import PROVIDERS
from simtune.storage.object_store import ObjectPath

_OF_DRIVER, _LOCK = "driver", "lock"
_WRITTEN = b"simtune\n"


def check_storage(storage: AnyPath) -> None:
    """Does in a storage what a run does there, under temporary names that are removed afterwards.

    The folder is created if missing. Subfolders on other file systems are tested too.

    Raises:
        RunError: the storage is not writable, or its file system lacks an operation that keeps two drivers apart.
        DiskFullError: there is no space left.
        StoreError: it does not support locks; or the object store does not answer, refuses, or ignores conditions.
    """
    if isinstance(storage, ObjectPath):
        storage.check_conditions()
        return
    with disk_full_named(storage), _unwritable_named(storage):
        storage.mkdir(parents=True, exist_ok=True)
        folders = _folders(storage)
    for folder in folders:
        with disk_full_named(folder):
            _check_folder(folder)


@contextmanager
def driver_probes(storage: AnyPath) -> Iterator[list[AnyPath]]:
    """Tests a storage here, and leaves files there that other hosts must find, until the end of the `with` block.

    Yields:
        The folders of these files: one, or one for each file system in the storage.

    Raises:
        SimtuneError: as `check_storage`.
    """
    check_storage(storage)
    name = f".probe-{secrets.token_hex(8)}"
    probes: list[AnyPath] = [
        folder / name for folder in ([storage] if isinstance(storage, ObjectPath) else _folders(storage))
    ]
    with ExitStack() as stack:
        for probe in probes:
            stack.callback(remove_tree, probe)
            if isinstance(probe, Path):
                probe.mkdir()
                stack.enter_context(file_lock(probe / _LOCK))
            write_bytes(probe / _OF_DRIVER, _WRITTEN)
        yield probes


def check_from_host(probes: Sequence[AnyPath], host: str) -> None:
    """Does in a storage what a run does there, on another host than the driver's and with that host's permissions.

    Args:
        probes: folders of the driver (`driver_probes`).
        host: names the file that it writes for the driver, who looks for it with `hosts_seen`.

    Raises:
        RunError: this host does not see the driver's files or locks, or lacks an operation that a run needs.
        DiskFullError: there is no space left.
        StoreError: the object store does not answer, refuses, or ignores conditions.
    """
    for probe in probes:
        if isinstance(probe, ObjectPath):
            _refuse_other_storage(probe)
            probe.check_conditions()
            write_bytes(probe / f"host-{host}", _WRITTEN)
        else:
            storage = probe.parent
            with disk_full_named(storage), _unwritable_named(storage):
                _refuse_other_storage(probe)
                _check_folder(storage)
                _refuse_own_locks(probe)
                write_bytes(probe / f"host-{host}", _WRITTEN)
        if host not in hosts_seen([probe]):
            raise RunError(f"{probe.parent}: a file that was just written is not listed; give --storage another path")


def hosts_seen(probes: Sequence[AnyPath]) -> set[str]:
    """The hosts whose files from `check_from_host` are in all of the driver's folders."""
    found = [{path.name.removeprefix("host-") for path in probe.glob("host-*")} for probe in probes]
    return set.intersection(*found)


def _folders(storage: Path) -> list[Path]:
    """A storage, and its subfolders on other file systems."""
    device = storage.stat().st_dev

    def is_other(folder: Path) -> bool:
        try:
            return folder.is_dir() and folder.stat().st_dev != device
        # Another driver has removed its probe meanwhile.
        except FileNotFoundError:
            return False

    return [storage, *filter(is_other, sorted(storage.iterdir()))]


def _refuse_other_storage(probe: AnyPath) -> None:
    try:
        same = (probe / _OF_DRIVER).read_bytes() == _WRITTEN
    except (FileNotFoundError, NotADirectoryError):
        same = False
    if not same:
        remedy = (
            f"Set the same {PROVIDERS[probe.scheme].location_variables[0]} on every host"
            if isinstance(probe, ObjectPath)
            else "Mount one shared folder under this path on every host, or give --storage s3://BUCKET/KEY"
        )
        raise RunError(f"{probe.parent}: the driver's files are not there, so this is a different storage. {remedy}")


def _refuse_own_locks(probe: Path) -> None:
    if not _is_locked(probe / _LOCK):
        raise RunError(
            f"{probe.parent}: locks of the driver have no effect on this host, so two hosts could both write a result. "
            "Mount it with locks that all hosts share (NFS without `nolock` and `local_lock`), or give --storage "
            "s3://BUCKET/KEY"
        )


def _check_folder(folder: Path) -> None:
    probe = folder / f".probe-{secrets.token_hex(8)}"
    try:
        with _unwritable_named(folder):
            probe.mkdir()
            (probe / "file").write_bytes(b"1")
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
                    f"write a result, or a result could be lost. Give --storage another path: {ALTERNATIVES}"
                )
    finally:
        shutil.rmtree(probe, ignore_errors=True)


@contextmanager
def _unwritable_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise
        raise RunError(
            f"{folder}: cannot be written ({error.strerror or error}); give --storage a folder that can be, or give "
            "the user who runs simtune permission to write to this one"
        ) from error


def _creates_exclusively(probe: Path) -> bool:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    os.close(os.open(probe / "exclusive", flags, 0o666))
    try:
        os.close(os.open(probe / "exclusive", flags, 0o666))
    except FileExistsError:
        return True
    return False


def _writes_through(probe: Path) -> bool:
    write_bytes(probe / "through", b"1")
    return (probe / "through").read_bytes() == b"1"


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
        return _is_locked(probe / GUARD)


def _is_locked(file: Path) -> bool:
    try:
        with file_lock(file, LockWait(limit_s=0.0)):
            return False
    except StoreError:
        return True


def _writes_once(probe: Path) -> bool:
    return write_once(probe / "once", b"1") and not write_once(probe / "once", b"2")


def _removes(probe: Path) -> bool:
    shutil.rmtree(probe)
    return not probe.exists()


_OPERATIONS: dict[str, Callable[[Path], bool]] = {
    "write a file that survives a power cut (fsync)": _writes_through,
    "create a file only if it does not exist": _creates_exclusively,
    "replace a file": _replaces,
    "rename a folder": _renames_folders,
    "lock files": _locks,
    "name a file without replacing another": _writes_once,
    "remove files": _removes,
}
