"""Unpacks an archive that is not trusted.

The names, sizes and types in an archive may be false. Nothing is written outside the given folder, only plain files and
folders are created, and unpacking stops at the limits. Python's own extractors are not used, because what they refuse
differs between versions.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from simtune.errors import DownloadError, shown
from simtune.wording import counted

_BLOCK_BYTES = 1 << 20
# A tar header may state any length for a long name; tarfile would read it in one piece.
_LONGEST_READ_BYTES = 4 * _BLOCK_BYTES
_TAR_BLOCK_BYTES = 512


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest content that an archive may unpack to.

    Super-NaturalInstructions has about 1,700 files; the largest has 50 MB.

    Attributes:
        num_entries: number of files and folders together.
        unpacked_bytes: total size of the files.
    """

    num_entries: int = 100_000
    unpacked_bytes: int = 32 << 30


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The number and the total size of the files in an unpacked archive."""

    num_files: int
    num_bytes: int


def unpack(archive: Path, folder: Path, limits: Limits | None = None) -> Unpacked:
    """Unpacks a `.tar.gz`, `.tar` or `.zip` (recognised by content) into an empty folder.

    Permissions, owners and times in the archive are ignored.

    Raises:
        DownloadError: the archive is cut short or damaged; or it contains an absolute path, `..`, a link, a device, a
            duplicate name, or more than the limits allow. What was unpacked so far is left in the folder.
        OSError: the folder cannot be written.
    """
    writer = _Writer(folder, limits or Limits())
    with archive.open("rb") as file:
        magic = file.read(4)
    try:
        if magic.startswith(b"PK"):
            _unpack_zip(archive, writer)
        elif magic.startswith(b"\x1f\x8b"):
            with gzip.open(archive, "rb") as stream:
                _unpack_tar(stream, writer)
        else:
            with archive.open("rb") as stream:
                _unpack_tar(stream, writer)
    except gzip.BadGzipFile as error:  # a subclass of OSError, but the archive is at fault
        raise DownloadError(f"the archive is cut short or damaged ({error})") from error
    except OSError as error:
        # The archive is also at fault if a name is too long for any disk or an offset is negative.
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
            raise DownloadError(f"the archive is damaged, or has a name that is too long ({error.strerror})") from error
        raise
    except DownloadError:
        raise
    except Exception as error:  # tarfile and zipfile raise many types of errors for malicious bytes
        raise DownloadError(f"the archive is cut short or damaged ({error})") from error
    return Unpacked(writer.num_files, writer.num_bytes)


class _Writer:
    """Writes the members of an archive below a folder, each once, and counts them."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._files: set[tuple[str, ...]] = set()
        self._folders: set[tuple[str, ...]] = set()
        self.num_files = 0
        self.num_bytes = 0

    def add_folder(self, name: str) -> None:
        self._make_folders(name, self._parts(name))

    def add_file(self, name: str, stated_bytes: int, content: IO[bytes]) -> None:
        parts = self._parts(name)
        if not parts:
            raise DownloadError(f"refused: the archive has a file without a name ({shown(name)})")
        if parts in self._files or parts in self._folders:
            raise DownloadError(f"refused: the archive has the name {shown(name)} twice")
        self._make_folders(name, parts[:-1])
        self._files.add(parts)
        self.num_files += 1
        self._check_entries()
        # The size in the header is checked first, so that a bomb that states its size costs nothing.
        self._check_bytes(stated_bytes)
        written = 0
        with self._folder.joinpath(*parts).open("xb") as file:
            while block := content.read(_BLOCK_BYTES):
                self._check_bytes(len(block))
                self.num_bytes += len(block)
                written += len(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        if written != stated_bytes:
            raise DownloadError(
                f"the archive is cut short or damaged: {shown(name)} has {written:,} of {counted(stated_bytes, 'byte')}"
            )

    def _check_entries(self) -> None:
        if len(self._files) + len(self._folders) > self._limits.num_entries:
            raise DownloadError(
                f"refused: the archive has more than "
                f"{counted(self._limits.num_entries, 'file or folder', 'files and folders')}; not a "
                "task collection, or an archive bomb"
            )

    def _check_bytes(self, more: int) -> None:
        if self.num_bytes + more > self._limits.unpacked_bytes:
            raise DownloadError(
                f"refused: the archive unpacks to more than {counted(self._limits.unpacked_bytes, 'byte')}; not a "
                "task collection, or an archive bomb"
            )

    def _make_folders(self, name: str, parts: tuple[str, ...]) -> None:
        for depth in range(1, len(parts) + 1):
            folder = parts[:depth]
            if folder in self._files:
                raise DownloadError(f"refused: {shown(name)} is below a name that is a file in the same archive")
            if folder not in self._folders:
                self._folder.joinpath(*folder).mkdir()
                self._folders.add(folder)
                self._check_entries()

    @staticmethod
    def _parts(name: str) -> tuple[str, ...]:
        # Backslashes and drive letters are parts of paths on Windows; no task collection has them.
        if name.startswith("/") or "\\" in name or "\0" in name or name[1:2] == ":":
            raise DownloadError(f"refused: the archive has the unsafe path {shown(name)}")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if ".." in parts:
            raise DownloadError(f"refused: the archive has the path {shown(name)}, which leads outside")
        return parts


def _unpack_zip(archive: Path, writer: _Writer) -> None:
    with zipfile.ZipFile(archive) as members:
        for member in members.infolist():
            file_type = stat.S_IFMT(member.external_attr >> 16)
            if file_type not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise DownloadError(f"refused: {shown(member.filename)} in the archive is a link or a device")
            # The name as it is stored, because `filename` ends at the first zero byte.
            if member.is_dir():
                writer.add_folder(member.orig_filename)
            else:
                with members.open(member) as content:
                    writer.add_file(member.orig_filename, member.file_size, content)


def _unpack_tar(stream: IO[bytes] | gzip.GzipFile, writer: _Writer) -> None:
    reader = _CheckedReader(stream)
    with tarfile.open(fileobj=reader, mode="r:") as members:
        for member in members:
            if member.isdir():
                writer.add_folder(member.name)
                continue
            content = members.extractfile(member) if member.isreg() and not member.issparse() else None
            if content is None:
                raise DownloadError(f"refused: {shown(member.name)} in the archive is a link or a device")
            with content:
                writer.add_file(member.name, member.size, content)
    reader.require_end()


class _CheckedReader(io.RawIOBase):
    """A tar stream that finds errors which tarfile ignores.

    tarfile treats a damaged header, or a stream that ends between two members, as the end of the archive. It reads a
    long name in one piece, whatever length the header states.
    """

    def __init__(self, stream: IO[bytes] | gzip.GzipFile) -> None:
        super().__init__()
        self._stream = stream
        self._latest = b""
        self._has_ended = False

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= _LONGEST_READ_BYTES:
            raise DownloadError(
                f"refused: the archive has a header of {counted(size, 'byte')}; possibly an archive bomb"
            )
        data = self._stream.read(size)
        self._latest = data or self._latest
        self._has_ended |= size > 0 and not data
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def require_end(self) -> None:
        """Raises DownloadError unless tarfile stopped at a block of zeros and only zeros follow.

        Reading to the end verifies gzip's checksum.
        """
        is_complete = not self._has_ended and self._latest == bytes(_TAR_BLOCK_BYTES)
        while is_complete and (rest := self._stream.read(_BLOCK_BYTES)):
            is_complete = not any(rest)
        if not is_complete:
            raise DownloadError("the archive is cut short or damaged: it has no end mark after its last member")
