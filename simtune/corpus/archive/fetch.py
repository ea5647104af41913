"""Fetches a public collection of tasks: downloaded, checked, safely unpacked, and complete or not there at all.

During a download, `<name>.part` and `<name>.part.json` are beside the destination folder `<name>`; afterwards
`<name>.fetch.json`, the record of what was fetched. The record is written before the finished folder gets its name, so
a folder with a record is complete.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType

from simtune.corpus.archive.download import Progress, check_url, discard, download
from simtune.corpus.archive.unpack import Limits, unpack
from simtune.errors import DownloadError, cut, shown
from simtune.outside_files import MIB, read_outside
from simtune.redaction import redact
from simtune.storage.files import file_sha256, write_json
from simtune.storage.new_files import beside, new_folder
from simtune.wording import counted

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_ARCHIVE_BYTES = 16 << 30


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """Where an archive is, and what it must be.

    Attributes:
        url: http or https; of a `.tar.gz`, `.tar` or `.zip`.
        sha256: of the archive, 64 lower-case hex digits; None if it is not pinned.
        size: of the archive in bytes; None if it is not pinned.
    """

    url: str
    sha256: str | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        check_url(self.url)
        if self.sha256 is not None and _SHA256.fullmatch(self.sha256) is None:
            raise DownloadError(f"sha256: must be 64 lower-case hex digits, got {self.sha256!r}")
        if self.size is not None and self.size <= 0:
            raise DownloadError(f"size: must be a number of bytes above zero, got {self.size}")


ARCHIVES: Mapping[str, ArchiveSource] = MappingProxyType(
    {
        # GitHub packs this archive on demand and publishes neither its size nor its checksum: none is pinned
        # here.
        "natural-instructions": ArchiveSource(
            "https://github.com/allenai/natural-instructions/archive/refs/tags/v2.8.tar.gz"
        ),
    }
)
"""Archives by the name that `simtune data fetch` takes."""


@dataclass(frozen=True, slots=True)
class FetchRecord:
    """What was fetched: the content of `<name>.fetch.json`. It has no time in it: same archive, same record.

    Attributes:
        url: without its secrets.
        sha256: of the archive, as it came.
        size: of the archive, bytes.
        num_files: files in the folder when it was made.
        num_bytes: their bytes.
    """

    url: str
    sha256: str
    size: int
    num_files: int
    num_bytes: int


def read_record(destination: Path) -> FetchRecord | None:
    """The record of what is, or was, fetched to a folder; None where nothing was.

    Raises:
        DownloadError: the record is damaged.
    """
    path = _beside(destination, ".fetch.json")
    try:
        record = FetchRecord(**json.loads(read_outside(path, MIB)))
        for name, kind in (("url", str), ("sha256", str), ("size", int), ("num_files", int), ("num_bytes", int)):
            if not isinstance(getattr(record, name), kind):
                raise TypeError(f"{name} is {shown(getattr(record, name), 60)}")
        return record
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DownloadError(
            f"{path}: not a record of a download ({cut(str(error))}); remove it and {destination}, and fetch again"
        ) from error


def fetch_archive(
    source: ArchiveSource,
    destination: Path,
    *,
    progress: Progress | None = None,
    limits: Limits | None = None,
    retries: int = 4,
    retry_wait_s: float = 1.0,
    timeout_s: float = 60.0,
) -> Path:
    """Downloads an archive and unpacks it as the folder `destination`.

    The archive's own top-level folder is stripped, where it has just one. Where the folder is there already
    and its record fits, nothing is requested. Where nothing is pinned, the first download's SHA-256 is
    recorded (`read_record`), and a later fetch of the same address must give the same.

    Args:
        source: the archive's address and what is pinned of it.
        destination: a folder that does not exist yet, or that an earlier fetch made.
        progress: called with bytes received and bytes expected (None where the server does not say).
        limits: of what the archive may unpack to.
        retries: see `simtune.corpus.archive.download.download`.
        retry_wait_s: likewise.
        timeout_s: likewise.

    Returns:
        `destination`.

    Raises:
        DownloadError: the message names the address, what was expected, what came and what to do. Nothing is
            under the final name, and nothing else is left but a `.part` that the next call goes on from.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(destination):
            record = read_record(destination)
            if _is_present(source, destination, record):
                return destination
            wanted = _with_recorded(source, destination, record)
            part = _beside(destination, ".part")
            download(
                source.url,
                part,
                size=wanted.size,
                max_bytes=_MAX_ARCHIVE_BYTES,
                progress=progress,
                retries=retries,
                retry_wait_s=retry_wait_s,
                timeout_s=timeout_s,
            )
            _install(wanted, part, destination, limits)
    except OSError as error:
        raise DownloadError(
            f"{source.url}: cannot write {error.filename or destination} ({error.strerror or error}); "
            f"{_free_mib(destination):,} MiB are free there. Free some space or choose another folder, then fetch"
        ) from error
    return destination


def _is_present(source: ArchiveSource, destination: Path, record: FetchRecord | None) -> bool:
    if not os.path.lexists(destination) or (destination.is_dir() and not any(destination.iterdir())):
        return False
    if record is None:
        raise DownloadError(
            f"{destination}: already exists, but not from simtune; choose another folder or move it away"
        )
    for name, expected, actual in (
        ("address", redact(source.url), record.url),
        ("SHA-256", source.sha256, record.sha256),
        ("size", source.size, record.size),
    ):
        if expected is not None and expected != actual:
            raise DownloadError(
                f"{destination}: holds another archive: {name} expected {expected}, recorded {actual}. Take "
                f"another folder, or remove this one and {_beside(destination, '.fetch.json')}"
            )
    sizes = [path.stat().st_size for path in destination.rglob("*") if path.is_file()]
    if len(sizes) < record.num_files or sum(sizes) < record.num_bytes:
        raise DownloadError(
            f"{destination}: no longer complete: {counted(len(sizes), 'file')} with {counted(sum(sizes), 'byte')}, "
            f"fetched were {record.num_files:,} with {record.num_bytes:,}. Remove the folder and fetch again"
        )
    return True


def _with_recorded(source: ArchiveSource, destination: Path, record: FetchRecord | None) -> ArchiveSource:
    """The source with what an earlier download of the same address was."""
    if record is None or record.url != redact(source.url):
        return source
    if source.sha256 not in (None, record.sha256):
        raise DownloadError(
            f"{source.url}: the pinned SHA-256 is {source.sha256}, an earlier download had {record.sha256}. "
            f"If the pinned one is right, remove {_beside(destination, '.fetch.json')} and fetch again"
        )
    return replace(source, sha256=record.sha256, size=source.size or record.size)


def _install(wanted: ArchiveSource, part: Path, destination: Path, limits: Limits | None) -> None:
    sha256 = file_sha256(part)
    if wanted.sha256 not in (None, sha256):
        discard(part)
        raise DownloadError(
            f"{wanted.url}: expected SHA-256 {wanted.sha256}, got {sha256}; the file was removed. It was "
            "tampered with on the way, or the server packed it again. Fetch again; if it stays so, ask a "
            f"source you trust before you pin the new one or remove {_beside(destination, '.fetch.json')}"
        )
    # Left by a process that was killed while it unpacked.
    for stale in beside(destination, ".unpack"):
        shutil.rmtree(stale)
    try:
        with new_folder(destination, ".unpack") as temporary:
            unpacked = unpack(part, temporary, limits)
            if not unpacked.num_files:
                raise DownloadError("the archive is empty")
            record = FetchRecord(
                redact(wanted.url), sha256, part.stat().st_size, unpacked.num_files, unpacked.num_bytes
            )
            write_json(_beside(destination, ".fetch.json"), asdict(record))
            entries = list(temporary.iterdir())
            whole = entries[0] if len(entries) == 1 and entries[0].is_dir() else temporary
            whole.rename(destination)
    except DownloadError as error:
        discard(part)
        raise DownloadError(
            f"{wanted.url}: {error}. The download was removed; fetch again, and if it stays so, leave it"
        ) from error
    discard(part)


@contextmanager
def _exclusive(destination: Path) -> Iterator[None]:
    """Keeps two processes from writing the same `.part`. The kernel frees the lock when its holder dies."""
    path = _beside(destination, ".fetch.lock")
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A holder that just finished has removed the file that was opened here.
            held = os.path.samestat(path.stat(), os.fstat(file.fileno()))
        except (BlockingIOError, FileNotFoundError):
            held = False
        if not held:
            raise DownloadError(f"{destination}: another process is fetching it; wait for it and try again")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _beside(destination: Path, suffix: str) -> Path:
    # absolute: `.` has no name of its own.
    absolute = destination.absolute()
    return absolute.with_name(absolute.name + suffix)


def _free_mib(destination: Path) -> int:
    folder = next(parent for parent in destination.absolute().parents if parent.is_dir())
    return shutil.disk_usage(folder).free >> 20
