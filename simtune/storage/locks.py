"""Locks between processes on a file, waited for with a message and a limit.

The lock is `flock`'s: the kernel frees it when its holder ends, however that happens. Whoever may read a file may lock
it, so no wait for one may last for ever.
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

_FIRST_POLL_S, _LONGEST_POLL_S = 0.001, 0.1


def _say_nothing(text: str) -> None:
    pass


@dataclass(frozen=True)
class Patience:
    """How long a lock is waited for.

    Attributes:
        warn: called once with a message, where the lock is not free after `warn_after_s`.
    """

    warn: Callable[[str], None] = _say_nothing
    warn_after_s: float = 3.0
    limit_s: float = 60.0


@contextmanager
def file_lock(path: Path, patience: Patience | None = None) -> Iterator[None]:
    """Holds the lock on a file, which is made where it is missing and stays: a lock on a removed file guards nothing.

    Raises:
        StoreError: another process held it for all of `patience.limit_s`, or the file system knows no locks.
        OSError: the file cannot be opened.
    """
    # Without O_NONBLOCK a FIFO under this name would be waited for without end.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StoreError(f"{path}: not a regular file, so it cannot be locked; remove it and run again")
        _wait_for(descriptor, path, patience or Patience())
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, path: Path, patience: Patience) -> None:
    started, poll_s, warned = time.monotonic(), _FIRST_POLL_S, False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            waited_s = time.monotonic() - started
        except OSError as error:
            raise StoreError(
                f"{path}: its file system cannot lock files ({error.strerror}), which keeps two drivers apart. Choose "
                "another --storage: a local disk, a network file system mounted with locks, or s3://",
                wrong_input=True,
            ) from error
        if waited_s >= patience.limit_s:
            raise StoreError(
                f"{path}: locked by {_holders(descriptor, path)} for more than {patience.limit_s:g} s, and simtune "
                "never locks it for longer than one small write. End that process and run the same command again; "
                "what is finished is kept"
            )
        if waited_s >= patience.warn_after_s and not warned:
            warned = True
            patience.warn(
                f"waiting for {path}, locked by {_holders(descriptor, path)}; gives up after {patience.limit_s:g} s"
            )
        time.sleep(min(poll_s, max(0.0, patience.limit_s - waited_s)))
        poll_s = min(2 * poll_s, _LONGEST_POLL_S)


def _holders(descriptor: int, path: Path) -> str:
    """The processes of this machine that hold a file's lock, as far as Linux tells, or how to find them."""
    status = os.fstat(descriptor)
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
        # Such as `1: FLOCK ADVISORY WRITE 4711 fe:00:1234 0 EOF`; with `->` behind the number those who wait.
        numbers = sorted({int(line[4]) for line in lines if line[1] == "FLOCK" and line[5] == file})
    except (OSError, ValueError, IndexError):
        numbers = []
    found = []
    for number in numbers:
        try:
            found.append(f"process {number} ({shown(psutil.Process(number).name(), 40)})")
        except psutil.Error:
            continue
    return " and ".join(found) or f"another process (`fuser -v {path}` on each machine that uses it names it)"
