"""Locks between processes on a file, with a warning and a time limit while waiting.

The lock is `flock`: the kernel releases it when its holder ends, however it ends. Any process that can read a file can
lock it, so no wait may last forever.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from simtune.errors import StoreError, shown

ALTERNATIVES = "a local disk, a network file system mounted with locks, or an object store (s3://, gs://, az://)"
"""Storages that keep two drivers apart."""
_FIRST_POLL_S, _LONGEST_POLL_S = 0.001, 0.1


def ignore_warning(text: str) -> None:
    """Takes the place of a function that shows warnings."""


@dataclass(frozen=True)
class LockWait:
    """How long to wait for a lock.

    Attributes:
        warn: called once with a message if the lock is not free after `warn_after_s`.
        warn_after_s: seconds before the warning.
        limit_s: seconds before giving up.
    """

    warn: Callable[[str], None] = ignore_warning
    warn_after_s: float = 3.0
    limit_s: float = 60.0


@contextmanager
def file_lock(path: Path, wait: LockWait | None = None) -> Iterator[None]:
    """Holds the lock on a file. The file is created if missing and never removed, since a removed one protects nothing.

    Raises:
        StoreError: another process held the lock for `wait.limit_s`, or the file system does not support locks.
        OSError: the file cannot be opened.
    """
    # Without O_NONBLOCK, opening a FIFO of this name would block forever.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StoreError(f"{path}: not a regular file, so it cannot be locked; remove it and run again")
        _acquire(descriptor, path, wait or LockWait())
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, wait: LockWait) -> None:
    started, poll_s, warned = time.monotonic(), _FIRST_POLL_S, False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            waited_s = time.monotonic() - started
        except OSError as error:
            raise StoreError(
                f"{path}: its file system does not support file locks ({error.strerror}), which are needed to keep two "
                f"drivers apart. Choose another --storage: {ALTERNATIVES}",
                wrong_input=True,
            ) from error
        if waited_s >= wait.limit_s:
            raise StoreError(
                f"{path}: locked by {_holders(descriptor, path)} for more than {wait.limit_s:g} s. simtune never locks "
                "it for longer than one small write. End that process and run the same command again; finished results "
                "are kept"
            )
        if waited_s >= wait.warn_after_s and not warned:
            warned = True
            wait.warn(f"waiting for {path}, locked by {_holders(descriptor, path)}; gives up after {wait.limit_s:g} s")
        time.sleep(min(poll_s, max(0.0, wait.limit_s - waited_s)))
        poll_s = min(2 * poll_s, _LONGEST_POLL_S)


def _holders(descriptor: int, path: Path) -> str:
    """Processes of this machine that hold a file's lock, if Linux lists them; otherwise how to find them."""
    status = os.fstat(descriptor)
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
        # For example `1: FLOCK ADVISORY WRITE 4711 fe:00:1234 0 EOF`; `->` after the number marks a waiting process.
        numbers = sorted({int(line[4]) for line in lines if line[1] == "FLOCK" and line[5] == file})
    except (OSError, ValueError, IndexError):
        numbers = []
    found = []
    for number in numbers:
        try:
            found.append(f"process {number} ({shown(psutil.Process(number).name(), 40)})")
        except psutil.Error:
            continue
    return " and ".join(found) or f"another process (`fuser -v {path}` on each machine that uses it shows which)"
