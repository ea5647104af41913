"""New files and folders that get their final name once they are complete, with the permissions that the umask allows.

`tempfile` creates files for one user alone. The files of a run belong to whom the umask says, and only the kernel, when
it creates a file, can apply the umask without a race between threads.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

# File systems limit a name to 255 bytes; this leaves space for what is appended.
_NAME_BYTES = 80


@contextmanager
def new_file(final: Path) -> Iterator[tuple[int, Path]]:
    """An empty file beside `final`, as an open descriptor and a path; removed at the end unless it was renamed.

    The caller closes the descriptor.
    """
    path = _new_name(final, ".tmp")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        yield descriptor, path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def new_folder(final: Path, suffix: str = ".tmp") -> Iterator[Path]:
    """An empty folder beside `final`; removed at the end with its content unless it was renamed."""
    path = _new_name(final, suffix)
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def follow_umask(folder: Path) -> None:
    """Gives the files in a folder its permissions, since some libraries (safetensors) write for one user alone.

    The kernel applied the umask to the folder; the umask itself cannot be read without a race.
    """
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            # FAT does not store permissions.
            with suppress(PermissionError):
                path.chmod(path.parent.stat().st_mode & 0o666)


def beside(final: Path, suffix: str) -> Iterator[Path]:
    """The new files or folders beside `final`: left by processes that were killed, or in use by another process."""
    return final.parent.glob(f"{escape(_prefix(final))}*{escape(suffix)}")


def _new_name(final: Path, suffix: str) -> Path:
    return final.parent / f"{_prefix(final)}{secrets.token_hex(6)}{suffix}"


def _prefix(final: Path) -> str:
    return f".{final.name.encode()[:_NAME_BYTES].decode(errors='ignore')}."
