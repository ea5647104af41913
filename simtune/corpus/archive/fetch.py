"""Fetches a public corpus: downloads it, verifies it and unpacks it safely. The folder appears complete or not at all.

During a download, `<name>.part` and `<name>.part.json` are beside the destination folder `<name>`; afterwards there is
`<name>.fetch.json`, the record of what was fetched. The record is written before the finished folder gets its name, so
a folder with a record is complete.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field

from simtune.corpus.archive.download import Progress, check_url, discard, download
from simtune.corpus.archive.unpack import Limits, unpack
from simtune.errors import DownloadError, RunError
from simtune.outside_files import MIB, read_outside
from simtune.redaction import redact
from simtune.storage.files import file_sha256
from simtune.storage.new_files import beside, new_folder
from simtune.storage.records import Record, Sha256, parse_record, write_record
from simtune.wording import counted

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_ARCHIVE_BYTES = 16 << 30


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """Where an archive is, and what is known about it.

    Attributes:
        url: http or https address of a `.tar.gz`, `.tar` or `.zip`.
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
        # GitHub packs this archive on request and publishes neither its size nor its checksum, so none is pinned.
        "natural-instructions": ArchiveSource(
            "https://github.com/allenai/natural-instructions/archive/refs/tags/v2.8.tar.gz"
        ),
    }
)
"""Archives by the name that `simtune data fetch` takes."""


class FetchRecord(Record):
    """What was fetched: the content of `<name>.fetch.json`. It has no date, so the same archive gives the same record.

    Attributes:
        url: without its secrets.
        sha256: of the archive, as it was downloaded.
        size: of the archive in bytes.
        num_files: number of files in the folder when it was created.
        num_bytes: total size of these files.
    """

    version: Literal[1] = 1
    url: str
    sha256: Sha256
    size: Annotated[int, Field(gt=0)]
    num_files: Annotated[int, Field(gt=0)]
    num_bytes: Annotated[int, Field(ge=0)]


def read_fetch_record(destination: Path) -> FetchRecord | None:
    """The record of what is in a folder, or was fetched to it earlier; None if nothing was.

    Raises:
        DownloadError: the record is damaged, or is not such a record.
    """
    path = _beside(destination, ".fetch.json")
    remedy = f"remove it and {destination}, and fetch again"
    try:
        return parse_record(read_outside(path, MIB), FetchRecord, str(path), remedy)
    except FileNotFoundError:
        return None
    except RunError as error:
        raise DownloadError(str(error)) from error
    except OSError as error:
        raise DownloadError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error


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

    If the archive has a single top-level folder, that folder is stripped. If the destination exists and its record
    matches the source, nothing is requested. Without a pinned checksum the SHA-256 of the first download is recorded
    (`read_fetch_record`), and a later fetch of the same address must have the same.

    Args:
        source: the archive's address and what is pinned of it.
        destination: a folder that does not exist yet, or that an earlier fetch created.
        progress: called with bytes received and bytes expected (None if the server does not say).
        limits: of what the archive may unpack to.
        retries: see `simtune.corpus.archive.download.download`.
        retry_wait_s: likewise.
        timeout_s: likewise.

    Returns:
        `destination`.

    Raises:
        DownloadError: the message names the address, what was expected, what was received and what to do. Nothing has
            the final name, and at most a `.part` from which the next call continues is left.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(destination):
            record = read_fetch_record(destination)
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
            f"{_free_mib(destination):,} MiB are free there. Free some space or choose another folder, then fetch again"
        ) from error
    return destination


def _is_present(source: ArchiveSource, destination: Path, record: FetchRecord | None) -> bool:
    """Whether the destination already has this archive's content.

    Raises:
        DownloadError: it has other content, or no longer all of it.
    """
    if not os.path.lexists(destination) or (destination.is_dir() and not any(destination.iterdir())):
        return False
    if record is None:
        raise DownloadError(
            f"{destination}: already exists and was not created by simtune; choose another folder or move it away"
        )
    for name, expected, actual in (
        ("address", redact(source.url), record.url),
        ("SHA-256", source.sha256, record.sha256),
        ("size", source.size, record.size),
    ):
        if expected is not None and expected != actual:
            raise DownloadError(
                f"{destination}: contains another archive: {name} expected {expected}, recorded {actual}. Choose "
                f"another folder, or remove this one and {_beside(destination, '.fetch.json')}"
            )
    sizes = [path.stat().st_size for path in destination.rglob("*") if path.is_file()]
    if len(sizes) < record.num_files or sum(sizes) < record.num_bytes:
        raise DownloadError(
            f"{destination}: no longer complete: {counted(len(sizes), 'file')} with {counted(sum(sizes), 'byte')}, "
            f"expected {record.num_files:,} with {record.num_bytes:,}. Remove the folder and fetch again"
        )
    return True


def _with_recorded(source: ArchiveSource, destination: Path, record: FetchRecord | None) -> ArchiveSource:
    """The source, pinned to the checksum and size of an earlier download of the same address."""
    if record is None or record.url != redact(source.url):
        return source
    if source.sha256 not in (None, record.sha256):
        raise DownloadError(
            f"{source.url}: the pinned SHA-256 is {source.sha256}, an earlier download had {record.sha256}. "
            f"If the pinned one is right, remove {_beside(destination, '.fetch.json')} and fetch again"
        )
    return replace(source, sha256=record.sha256, size=source.size or record.size)


def _install(wanted: ArchiveSource, part: Path, destination: Path, limits: Limits | None) -> None:
    """Verifies a finished download, unpacks it and removes it."""
    sha256 = file_sha256(part)
    if wanted.sha256 not in (None, sha256):
        discard(part)
        raise DownloadError(
            f"{wanted.url}: expected SHA-256 {wanted.sha256}, got {sha256}; the file was removed. It was changed in "
            "transit, or the server has repacked it. Fetch again; if the SHA-256 stays the same, ask a source that "
            f"you trust before you pin it or remove {_beside(destination, '.fetch.json')}"
        )
    # Left by a process that was killed while it was unpacking.
    for stale in beside(destination, ".unpack"):
        shutil.rmtree(stale)
    try:
        with new_folder(destination, ".unpack") as temporary:
            unpacked = unpack(part, temporary, limits)
            if not unpacked.num_files:
                raise DownloadError("the archive is empty")
            record = FetchRecord(
                url=redact(wanted.url),
                sha256=sha256,
                size=part.stat().st_size,
                num_files=unpacked.num_files,
                num_bytes=unpacked.num_bytes,
            )
            write_record(_beside(destination, ".fetch.json"), record)
            entries = list(temporary.iterdir())
            content = entries[0] if len(entries) == 1 and entries[0].is_dir() else temporary
            content.rename(destination)
    except DownloadError as error:
        discard(part)
        raise DownloadError(
            f"{wanted.url}: {error}. The download was removed; fetch again; if it happens again, do not use this "
            "archive"
        ) from error
    discard(part)


@contextmanager
def _exclusive(destination: Path) -> Iterator[None]:
    """Keeps two processes from writing the same `.part`. The kernel releases the lock when its holder dies."""
    path = _beside(destination, ".fetch.lock")
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A holder that has just finished may have removed the file that was opened here.
            is_held = os.path.samestat(path.stat(), os.fstat(file.fileno()))
        except (BlockingIOError, FileNotFoundError):
            is_held = False
        if not is_held:
            raise DownloadError(f"{destination}: another process is fetching it; wait for it and try again")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _beside(destination: Path, suffix: str) -> Path:
    # Made absolute, because `.` has no name.
    absolute = destination.absolute()
    return absolute.with_name(absolute.name + suffix)


def _free_mib(destination: Path) -> int:
    folder = next(parent for parent in destination.absolute().parents if parent.is_dir())
    return shutil.disk_usage(folder).free >> 20
