"""A folder of our own for a local Ray: short, closed to others, gone afterwards.

Ray puts its sockets, logs and token below it. Its own default is a folder that everybody may read, below a `TMPDIR`
that may be longer than the path of a socket can be, and a token in the home folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

import psutil

from simtune.errors import RunError
from simtune.redaction import redact

_PREFIX = "simtune-ray-"
# The last line of a traceback.
_ERROR = re.compile(r"[\w.]*(Error|Exception|Exit)\b(:|$)")
_LOCK, _TOKEN, _TEMPORARY = "lock", "token", "t"
# What Ray appends to its temporary folder, with the longest process id there is.
_LONGEST_SOCKET = f"{_TEMPORARY}/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1"


class RayFolder:
    """A new folder, and the lock that says that its driver lives."""

    def __init__(self) -> None:
        """Makes the folder in the first place that will do, and removes those whose drivers are gone.

        Raises:
            RunError: no place will do.
        """
        reasons = []
        for place in _places():
            try:
                self.path, self._lock = _make(place)
            except OSError as error:
                reasons.append(f"{place}: {error.strerror or error}")
                continue
            self.temporary = self.path / _TEMPORARY
            self.temporary.mkdir(mode=0o700)
            _remove_abandoned(place)
            return
        raise RunError(
            f"no place for the sockets of a local Ray ({'; '.join(reasons)}). Set RAY_TMPDIR to a folder on this "
            "machine's own disk whose path is short, or use --executor inline"
        )

    def new_token(self) -> Path:
        """A file, for this user alone, with the token without which this Ray answers nobody."""
        path = self.path / _TOKEN
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        return path

    def remove(self) -> None:
        """Removes it, and first ends what is left of a Ray whose start was cut short, which would make files again."""
        left = []
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if any(str(self.path) in part for part in child.cmdline()):
                    left += [*child.children(recursive=True), child]
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=5.0)
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def last_error(logs: Path) -> str:
    """The last Python error in the newest file in which a process of Ray's has written one; empty where none has."""
    for path in sorted(logs.glob("*.err"), key=lambda path: path.stat().st_mtime, reverse=True):
        lines = [line for line in path.read_text(errors="replace")[-4000:].splitlines() if _ERROR.match(line)]
        if lines:
            return redact(lines[-1].strip()[:300])
    return ""


def _places() -> Iterable[Path]:
    """Where a folder may be made, the user's own choices first."""
    chosen = [os.environ.get("RAY_TMPDIR"), os.environ.get("TMPDIR")]
    usual = ["/tmp", os.environ.get("XDG_RUNTIME_DIR"), "/var/tmp", "/dev/shm"]  # noqa: S108
    return dict.fromkeys(Path(place).absolute() for place in (*chosen, *usual) if place)


def _make(place: Path) -> tuple[Path, int]:
    """Makes a folder in which sockets and locks can be, and which no one else can open; with its lock's descriptor.

    Raises:
        OSError: not here.
    """
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    try:
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise PermissionError(f"a new folder is open to others here ({stat.filemode(status.st_mode)})")
        # The same length as Ray's longest, tried out: it depends on the system, and so does what a file system can do.
        longest = path / ("s" * len(_LONGEST_SOCKET))
        with socket.socket(socket.AF_UNIX) as trial:
            trial.bind(str(longest))
        longest.unlink()
        lock = _locked(path / "new")
        (path / "new").rename(path / _LOCK)
    except OSError:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return path, lock


def _locked(path: Path) -> int:
    """Opens a file and locks it for as long as this process lives.

    Raises:
        OSError: another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove_abandoned(place: Path) -> None:
    """Removes this user's folders whose drivers were killed; a folder without a lock is only being made."""
    for path in place.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid != os.geteuid() or not (path / _LOCK).is_file():
                continue
            lock = _locked(path / _LOCK)
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
