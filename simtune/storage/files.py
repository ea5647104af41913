"""Files of runs: paths, fingerprints, atomic writes, and results that are written once.

No file is ever visible half-written under its final name: bytes go to a temporary file in the same directory, are
fsynced, and then renamed (`write_bytes`) or linked without replacing (`write_once`; on file systems without hard links
a rename under a lock). In an object store every write is atomic, and `write_once` is a conditional write.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simtune.errors import DiskFullError, RunError
from simtune.storage.file_types import obstacle
from simtune.storage.locks import file_lock
from simtune.storage.new_files import new_file
from simtune.storage.object_store import ObjectPath, is_object_url

AnyPath = Path | ObjectPath
"""A path on a disk or in an object store."""

GUARD = ".guard"
"""The file of a folder that is locked during changes which may happen only once."""

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}

# Errors of `link` on file systems without hard links, or without a further one.
_NO_LINKS = {
    *(errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTSUP),
    *(errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL),
}


def as_path(text: str) -> AnyPath:
    """A path as written in a sweep file or on the command line.

    Raises:
        ConfigError: it is a URL, but not of an object store.
    """
    return ObjectPath.from_url(text) if is_object_url(text) else Path(text)


def cache_folder(storage: str) -> Path:
    """Where embeddings and tokenised tasks are cached: beside the runs, or for an object store on this machine.

    Cached files are named by their content, so all object stores can share this machine's cache.
    """
    path = as_path(storage)
    if isinstance(path, Path):
        return path / "cache"
    return user_cache()


def user_cache() -> Path:
    """The folder of this user's files that can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "simtune"


def canonical_json(value: object) -> bytes:
    """The canonical JSON text of a value: sorted keys, no spaces, UTF-8, no NaN.

    Raises:
        TypeError: JSON cannot represent the value; a guess would make two identities equal.
        ValueError: the value contains NaN or an infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def fingerprint(value: object) -> str:
    """SHA-256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_sha256(path: AnyPath) -> str:
    """SHA-256 (hex) of a file's bytes, read in blocks."""
    if isinstance(path, ObjectPath):
        return path.sha256()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def disk_full_named(path: AnyPath) -> Iterator[None]:
    """Turns the system's "no space left" into an error that names the path.

    Raises:
        DiskFullError: there was no space, or no quota, left for writing to the path.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        here = path if isinstance(path, Path) else Path(tempfile.gettempdir())
        folder = next(parent for parent in (here, *here.parents) if parent.is_dir())
        free_mib = shutil.disk_usage(folder).free / 2**20
        raise DiskFullError(
            f"{path}: no space left ({free_mib:,.0f} MiB free on its disk, or a quota is used up). No half-written "
            "file was left; free some space and run the same command again"
        ) from error


@contextmanager
def _obstacle_named(path: Path) -> Iterator[None]:
    """Turns the system's refusal to write because of something else at the path into an error that names it.

    Raises:
        RunError: there is a file instead of a folder, a folder instead of a file, or a broken link.
    """
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError, FileNotFoundError):
        _refuse_obstacle(path)
        raise


def _refuse_obstacle(path: Path) -> None:
    found = obstacle(path)
    if found is not None:
        raise found.error() from None


@contextmanager
def _temporary_file(path: Path, data: bytes) -> Iterator[Path]:
    """A fsynced file with these bytes beside `path`, to be renamed."""
    with _obstacle_named(path), disk_full_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path) as (descriptor, temporary):
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary


def write_bytes(path: AnyPath, data: bytes) -> None:
    """Writes or replaces a file atomically."""
    if isinstance(path, ObjectPath):
        path.write_bytes(data)
        return
    with _temporary_file(path, data) as temporary:
        temporary.replace(path)


def write_once(path: AnyPath, data: bytes) -> bool:
    """Writes a file that must never change; if it already exists, writes nothing and returns False."""
    if isinstance(path, ObjectPath):
        return path.create(data)
    with _temporary_file(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            _refuse_obstacle(path)
            # On a network file system a link may be made and the answer lost; then the retry finds our own link.
            return path.exists() and temporary.samefile(path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _rename_once(temporary, path)
    return True


def _rename_once(temporary: Path, path: Path) -> bool:
    """Renames a file unless the name is taken, on file systems without hard links (FAT, many network file systems).

    A rename alone would replace an existing file, so writers check and rename under a lock. The kernel releases the
    lock when its holder ends, so a writer that dies blocks nobody.
    """
    with file_lock(path.parent / GUARD):
        if os.path.lexists(path):
            _refuse_obstacle(path)
            return False
        temporary.rename(path)
    return True


def write_text(path: AnyPath, text: str) -> None:
    """Writes or replaces a UTF-8 text file atomically."""
    write_bytes(path, text.encode())


def json_text(value: object) -> bytes:
    """JSON for people: indented, keys in the given order, a final newline, no NaN."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def files_below(folder: AnyPath, pattern: str) -> dict[str, AnyPath]:
    """The files that match a glob pattern, by their path within the folder."""
    if isinstance(folder, ObjectPath):
        return {path.relative_to(folder).as_posix(): path for path in folder.glob(pattern)}
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.glob(pattern)) if path.is_file()}


def child_names(folder: AnyPath) -> set[str]:
    """Names of the files and folders in a folder; empty if it does not exist.

    Raises:
        RunError: it cannot be read.
    """
    if isinstance(folder, ObjectPath):
        return folder.child_names()
    try:
        return {path.name for path in folder.iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise RunError(f"{folder}: cannot be read ({error.strerror}); check its permissions and its disk") from error


def remove_tree(path: AnyPath) -> None:
    """Removes a folder and its content as far as possible, or whatever else is at the path."""
    if isinstance(path, ObjectPath):
        path.remove_tree()
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
