"""Files from outside sources: only regular files, of bounded size, that are inside the folder they belong to.

Reading a pipe that nobody writes to would block, `/dev/zero` never ends, and a link in a downloaded folder may lead to
any file of this machine. Failures are `OSError`s whose `strerror` says what was found and what to do, so that callers
report them like any other file that cannot be read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from simtune.errors import UserError
from simtune.wording import counted

MIB = 1 << 20
GIB = 1 << 30
SPECIAL_FILE_TYPES = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_BLOCK = 1 << 16


class OutsideFileError(OSError):
    """A file from an outside source that is refused; `strerror` says why."""

    def __init__(self, reason: str, path: Path) -> None:
        super().__init__(errno.EINVAL, reason, str(path))


def open_outside(path: Path, most_bytes: int, root: Path | None = None) -> BinaryIO:
    """Opens a regular file for reading, without ever blocking.

    Args:
        path: of the file; links are followed.
        most_bytes: larger files are refused.
        root: the folder that the file belongs to; no link below it may lead out of it.

    Raises:
        OSError: the file does not exist, cannot be opened, is not regular, is too large, or is outside `root`.
    """
    if root is not None:
        refuse_leaving(path, root)
    # Checked before opening, since merely opening a device can have an effect.
    _check(path, path.stat(), most_bytes)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        # The file may have been replaced in the meantime.
        _check(path, os.fstat(descriptor), most_bytes)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_outside(path: Path, most_bytes: int, root: Path | None = None) -> bytes:
    """The bytes of a regular file; for arguments and errors see `open_outside`.

    Raises:
        OSError: the file does not exist, cannot be read, is not regular, is too large, or is outside `root`.
    """
    with open_outside(path, most_bytes, root) as file:
        # Allocate the size that the file states, not the limit. Files in /proc state none, and others may grow.
        parts = [read_part(file, os.fstat(file.fileno()).st_size + 1)]
        while parts[-1] and (left := most_bytes + 1 - sum(map(len, parts))) > 0:
            parts.append(read_part(file, min(left, _BLOCK)))
    # Joining one part copies nothing.
    data = b"".join([part for part in parts if part])
    if len(data) > most_bytes:
        raise _too_large(path, most_bytes)
    return data


def read_part(file: BinaryIO, num_bytes: int) -> bytes:
    """The next bytes of a file that `open_outside` has opened; none at its end.

    Raises:
        BlockingIOError: the file has nothing to read now.
    """
    data: bytes | None = file.read(num_bytes)
    if data is None:
        raise BlockingIOError(errno.EAGAIN, "nothing to read", file.name)
    return data


@contextmanager
def text_file_errors(path: object, what: str, error_type: type[UserError]) -> Iterator[None]:
    """Reports what prevents reading and decoding a UTF-8 file as errors that name it.

    Args:
        path: as messages name the file.
        what: what messages call it, such as "split list".
        error_type: of the error that is raised.
    """
    try:
        yield
    except FileNotFoundError:
        raise error_type.in_file(str(path), f"no such {what}") from None
    except IsADirectoryError:
        raise error_type.in_file(str(path), f"a folder, not a {what}") from None
    except OSError as error:
        raise error_type.in_file(str(path), f"cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise error_type.in_file(str(path), "not UTF-8 text", f"byte {error.start}") from None


def refuse_leaving(path: Path, root: Path) -> None:
    """Refuses a path whose links lead out of the folder it belongs to; the folder itself may be a link.

    Raises:
        OSError: it leads out (names link and target), or does not exist.
    """
    # Not Path.resolve, whose error for a link to itself is not an OSError.
    target = os.path.realpath(path, strict=True)
    if Path(target).is_relative_to(os.path.realpath(root, strict=True)):
        return
    link = next((part for part in _parts_below(path, root) if part.is_symlink()), path)
    raise OutsideFileError(
        f"{link.relative_to(root)} is a link to {target}, outside the folder; replace it with a copy, or copy the "
        f"whole folder without links: cp -rL {root} COPY",
        path,
    )


def refuse_special(paths: Iterable[Path]) -> None:
    """Refuses pipes, sockets and devices. Links are followed; missing files are left to the code that needs them.

    Raises:
        OSError: one of the paths is one.
    """
    for path in paths:
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        if file_type := SPECIAL_FILE_TYPES.get(stat.S_IFMT(mode)):
            raise _not_regular(path, file_type)


def visible(paths: Iterable[Path]) -> Iterator[Path]:
    """Leaves out hidden files, such as the `._x.json` that macOS creates beside each `x.json` on other disks."""
    return (path for path in paths if not path.name.startswith("."))


def _check(path: Path, found: os.stat_result, most_bytes: int) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise _not_regular(path, SPECIAL_FILE_TYPES.get(stat.S_IFMT(found.st_mode), "of an unknown type"))
    if found.st_size > most_bytes:
        raise _too_large(path, most_bytes, found.st_size)


def _not_regular(path: Path, file_type: str) -> OutsideFileError:
    target = f" (a link to {path.readlink()})" if path.is_symlink() else ""
    return OutsideFileError(f"it is {file_type}{target}, not a regular file; save its content to a file", path)


def _too_large(path: Path, most_bytes: int, size: int | None = None) -> OutsideFileError:
    found = counted(size, "byte") if size is not None else "more than its size says"
    return OutsideFileError(f"{found}, and no such file is larger than {most_bytes / MIB:,.0f} MiB", path)


def _parts_below(path: Path, root: Path) -> Iterator[Path]:
    """The path's folders below the root, outermost first, and the path itself."""
    parts = [part for part in reversed(path.parents) if part != root and part.is_relative_to(root)]
    return iter([*parts, path])
