"""A private folder for a local Ray: with a short path, closed to other users, and removed afterwards.

Ray puts its sockets, logs and token in it. By default Ray uses a folder that all users can read, below a `TMPDIR` whose
path may be too long for a socket, and puts the token in the home folder.
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
# What Ray appends to its temporary folder, with the longest possible process id.
_LONGEST_SOCKET = f"{_TEMPORARY}/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1"


class RayFolder:
    """A new folder, and the lock that shows that its driver is alive."""

    def __init__(self) -> None:
        """Creates the folder in the first suitable location, and removes those of drivers that have ended.

        Raises:
            RunError: no location is suitable.
        """
        reasons = []
        for location in _locations():
            try:
                self.path, self._lock = _create(location)
            except OSError as error:
                reasons.append(f"{location}: {error.strerror or error}")
                continue
            self.temporary = self.path / _TEMPORARY
            self.temporary.mkdir(mode=0o700)
            _remove_abandoned(location)
            return
        raise RunError(
            f"no folder is suitable for the sockets of a local Ray ({'; '.join(reasons)}). Set RAY_TMPDIR to a folder "
            "with a short path on a local disk, or use --executor inline"
        )

    def new_token(self) -> Path:
        """A file that only this user can read, with the token that this Ray requires of its clients."""
        path = self.path / _TOKEN
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        return path

    def remove(self) -> None:
        """Removes the folder; first kills processes of a Ray whose start was interrupted, which would create files."""
        remaining = []
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if any(str(self.path) in part for part in child.cmdline()):
                    # Stopped, so that it starts no process between the listing and its end.
                    child.suspend()
                    remaining += [*child.children(recursive=True), child]
        for process in remaining:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(remaining, timeout=5.0)
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def last_error(logs: Path) -> str:
    """The last Python error in the newest log of a Ray process that has one; empty if there is none."""
    for path in sorted(logs.glob("*.err"), key=lambda path: path.stat().st_mtime, reverse=True):
        lines = [line for line in path.read_text(errors="replace")[-4000:].splitlines() if _ERROR.match(line)]
        if lines:
            return redact(lines[-1].strip()[:300])
    return ""


def _locations() -> Iterable[Path]:
    """Where the folder may be created, the user's own choices first."""
    chosen = [os.environ.get("RAY_TMPDIR"), os.environ.get("TMPDIR")]
    usual = ["/tmp", os.environ.get("XDG_RUNTIME_DIR"), "/var/tmp", "/dev/shm"]  # noqa: S108
    return dict.fromkeys(Path(location).absolute() for location in (*chosen, *usual) if location)


def _create(location: Path) -> tuple[Path, int]:
    """Creates a folder that supports sockets and locks and that no other user can open.

    Returns:
        The folder, and the descriptor of its lock.

    Raises:
        OSError: that is not possible here.
    """
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=location))
    try:
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise PermissionError(f"new folders are open to other users here ({stat.filemode(status.st_mode)})")
        # A socket with a path as long as Ray's longest: the limit depends on the system, and not all file systems
        # support sockets.
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
    """Opens a file and locks it until this process ends.

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


def _remove_abandoned(location: Path) -> None:
    """Removes this user's folders whose drivers were killed; a folder without a lock is still being created."""
    for path in location.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid != os.geteuid() or not (path / _LOCK).is_file():
                continue
            lock = _locked(path / _LOCK)
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
