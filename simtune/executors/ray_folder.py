"""A private folder for Ray: with a short path and closed to other users.

Ray puts its sockets, its logs and the code of jobs in it. By default it uses a folder in which all users can write,
below a `TMPDIR` whose path may be too long for a socket. A local Ray's folder has its token too, and is removed
afterwards.
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
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from simtune.errors import RunError
from simtune.executors import ray_reaper
from simtune.redaction import redact

_PREFIX = "simtune-ray-"
_CLUSTER_PREFIX = "simtune-cluster-"
# The last line of a traceback.
_ERROR = re.compile(r"[\w.]*(Error|Exception|Exit)\b(:|$)")
_CREATED_WITHIN_S = 600.0
_LOCK, _TOKEN = "lock", "token"
TEMPORARY = "ray"
"""What Ray's default folder is called, below `RAY_TMPDIR`."""
LOCAL_RAY = "SIMTUNE_LOCAL_RAY"
"""The variable with the folder of a local Ray, in the environment of all its processes."""
# What Ray appends to its temporary folder, with the longest possible process id.
_LONGEST_SOCKET = f"{TEMPORARY}/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1"
# Processes that start others, which start others: Ray's go three deep.
_PASSES = 5


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
            self.reaper: subprocess.Popen[bytes] | None = None
            self.temporary = self.path / TEMPORARY
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

    def start_reaper(self) -> None:
        """Starts a process that ends this Ray and removes the folder if this process ends without doing so."""
        self.reaper = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", ray_reaper.__file__, str(os.getpid()), LOCAL_RAY, str(self.path)],
            # It is no part of this Ray, and must not keep a reader of this process's output waiting.
            env={name: value for name, value in os.environ.items() if name != LOCAL_RAY},
            cwd="/",
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @property
    def _reaper_id(self) -> int | None:
        return self.reaper.pid if self.reaper is not None else None

    def kill_descendants(self) -> None:
        """Kills all that this process has started, but for the reaper: Ray's client may end this process meanwhile."""
        for child in psutil.Process().children(recursive=True):
            if child.pid != self._reaper_id:
                with contextlib.suppress(psutil.Error):
                    child.kill()

    def remove(self) -> None:
        """Removes the folder; first kills the processes of this Ray that are still there, which would create files.

        They are there if its start was interrupted, and for a moment if its raylet was killed.
        """
        for _ in range(_PASSES):
            # What they have started has no parent in the next pass. None is stopped first: this process may be ended
            # here by Ray's client, and what is stopped would never notice.
            remaining = [process for process in _processes_of(self.path) if process.pid != self._reaper_id]
            for process in remaining:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            if not remaining or psutil.wait_procs(remaining, timeout=5.0)[1]:
                break
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        if self.reaper is not None:
            self.reaper.kill()
            self.reaper.wait()


def cluster_folder() -> Path:
    """The `RAY_TMPDIR` of a cluster on this machine, the same for every start by this user.

    Ray lets everybody write into its folders, so they are in one that only this user can open.

    Raises:
        RunError: no location is suitable.
    """
    reasons = []
    for location in _locations():
        path = location / f"{_CLUSTER_PREFIX}{os.geteuid()}"
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            _check(path)
        except OSError as error:
            reasons.append(f"{path}: {error.strerror or error}")
            continue
        return path
    raise RunError(
        f"no folder is suitable for the files of Ray ({'; '.join(reasons)}). Set RAY_TMPDIR to a folder with a short "
        "path on a local disk, where `ray start` runs"
    )


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
        _check(path)
        lock = _locked(path / "new")
        (path / "new").rename(path / _LOCK)
    except OSError:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return path, lock


def _check(path: Path) -> None:
    """Checks that a folder is closed to other users and supports sockets.

    Raises:
        OSError: it is not, or does not.
    """
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(f"not closed to other users ({stat.filemode(status.st_mode)}, user {status.st_uid})")
    # A socket with a path as long as Ray's longest: the limit depends on the system, and not all file systems support
    # sockets.
    longest = path / str(os.getpid()).ljust(len(_LONGEST_SOCKET), "s")
    longest.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as trial:
        trial.bind(str(longest))
    longest.unlink()


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


def _processes_of(folder: Path) -> Iterator[psutil.Process]:
    """The processes of the Ray in a folder: children of this process that name it, and orphans that it started."""
    me = psutil.Process()
    children = {child.pid for child in me.children()}
    own = {me.pid, *(process.pid for process in me.children(recursive=True))}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.uids().effective != os.geteuid():
                continue
            is_named = process.pid in children and any(str(folder) in part for part in process.cmdline())
            # Workers and agents of a raylet that was killed have no parent. What else this process has started inherits
            # the variable, and stays.
            is_orphan = process.pid not in own and ray_reaper.is_part(process, LOCAL_RAY, str(folder))
            if is_named or is_orphan:
                yield process


def _remove_abandoned(location: Path) -> None:
    """Removes this user's folders whose drivers were killed, and what processes wrote after their driver had ended."""
    for path in location.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if status.st_uid != os.geteuid():
                continue
            if not (path / _LOCK).is_file():
                # Without a lock, a new one is still being created; or the lock of a living one was cleaned up.
                if time.time() - status.st_mtime > _CREATED_WITHIN_S and not any(_processes_of(path)):
                    shutil.rmtree(path, ignore_errors=True)
                continue
            lock = _locked(path / _LOCK)
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
