"""New files and folders that get their name once they are whole, with the permissions that the umask leaves.

`tempfile` makes its files for one user alone. What a run leaves belongs to whom the umask says, and only the kernel
applies that without a race between threads, when the file is made.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

# File systems limit a name to 255 bytes; this leaves room for what is added to it.
_NAME_BYTES = 80


@contextmanager
def new_file(final: Path) -> Iterator[tuple[int, Path]]:
    """An empty file beside `final`, open for writing, and its path; removed at the end unless it was renamed.

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
    """An empty folder beside `final`, removed at the end with all in it unless it was renamed."""
    path = _new_name(final, suffix)
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def follow_umask(folder: Path) -> None:
    """Gives the files in a folder the permissions that it has: some libraries write for one user alone (safetensors).

    The kernel applied the umask to the folder, and nobody can ask it what that was without a race.
    """
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            # FAT has permissions of its own.
            with suppress(PermissionError):
                path.chmod(path.parent.stat().st_mode & 0o666)


def beside(final: Path, suffix: str) -> Iterator[Path]:
    """What processes that were killed left under way to `final`; it may also be another process's new file."""
    return final.parent.glob(f"{escape(_prefix(final))}*{escape(suffix)}")


def _new_name(final: Path, suffix: str) -> Path:
    return final.parent / f"{_prefix(final)}{secrets.token_hex(6)}{suffix}"


def _prefix(final: Path) -> str:
    return f".{final.name.encode()[:_NAME_BYTES].decode(errors='ignore')}."
