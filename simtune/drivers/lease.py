"""Who drives a run: a lease that its holder renews, and that others may take over once it stands still.

A lease is a small file with the holder's name and a beat that grows every few seconds. Whether it stands still is
judged by the observer's own monotonic clock, so that no wall clock decides anything; a holder that died on this
machine is known to be dead at once. Every change is a compare-and-swap, so of several drivers one succeeds, and a
holder that was stopped and woken finds out that it has lost. Results
are let go of only by whoever still holds it (`trial_run.write_results`).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from simtune.errors import DiskFullError, RunError, SimtuneError, StoreError
from simtune.storage.files import AnyPath
from simtune.storage.locks import Patience
from simtune.storage.preflight import check_storage
from simtune.storage.versioned_file import Cell, cell_in

BEAT_S = 5.0
STALE_AFTER_S = 60.0
_POLL_S = 0.5
# What ends without its lease released is known to have ended; nobody need wait long to release it.
_RELEASE_LIMIT_S = 5.0


def lease_of(run_directory: AnyPath) -> Cell:
    """Where a run's driver holds its lease."""
    return cell_in(run_directory.parent, run_directory.name, ".lease")


@dataclass(frozen=True)
class Holder:
    """A process that holds a lease; an empty token: nobody does.

    Attributes:
        token: unique to this holding.
        born: seconds from its machine's start to the process's: process numbers are used again.
    """

    token: str
    host: str
    process: int
    born: float
    beat: int = 0

    @staticmethod
    def this_process() -> Holder:
        return Holder(uuid.uuid4().hex, socket.gethostname(), os.getpid(), _born(os.getpid()))

    @staticmethod
    def parse(data: bytes) -> Holder:
        """The holder that a cell names; what cannot be read is held by nobody."""
        try:
            values = json.loads(data)
            named = Holder(
                values["token"], values["host"], int(values["process"]), float(values["born"]), values["beat"]
            )
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            return Holder("", "", 0, 0.0)
        sound = isinstance(named.token, str) and isinstance(named.host, str) and named.process > 0
        return named if sound else Holder("", "", 0, 0.0)

    def encoded(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    def gone(self) -> bool:
        """Whether the process is known to have ended; never known of other machines."""
        if not self.token:
            return True
        if self.host != socket.gethostname():
            return False
        try:
            return abs(_born(self.process) - self.born) > 1.0
        except psutil.NoSuchProcess:
            return True

    def runs_here(self) -> bool:
        """Whether the process runs on this machine and is not stopped."""
        if self.host != socket.gethostname() or self.gone():
            return False
        try:
            return bool(psutil.Process(self.process).status() != psutil.STATUS_STOPPED)
        except psutil.NoSuchProcess:
            return False

    def __str__(self) -> str:
        return f"{self.host}, process {self.process}"


class Watch:
    """Looks at a lease time and again and says whether its holder is alive.

    A holder counts as alive until it is known to be gone or its beat has stood still for `stale_after_s`.
    """

    def __init__(
        self, cell: Cell, stale_after_s: float = STALE_AFTER_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cell, self._stale_after_s, self._clock = cell, stale_after_s, clock
        self._version: str | None = None
        self._since = 0.0
        self.moved = False
        self.holder = Holder("", "", 0, 0.0)
        self.version: str | None = None

    def look(self) -> bool:
        """Whether somebody holds the lease."""
        found = self._cell.read()
        self.version = found[1] if found else None
        self.holder = Holder.parse(found[0]) if found else Holder("", "", 0, 0.0)
        if self.holder.gone():
            return False
        if self.version != self._version:
            self.moved = self._version is not None
            self._version, self._since = self.version, self._clock()
        return self._clock() - self._since < self._stale_after_s


class Lease:
    """A held lease. A thread renews it until it is released or lost.

    Args:
        warn: told where a renewal has to wait for a lock.
    """

    def __init__(
        self,
        cell: Cell,
        holder: Holder,
        version: str,
        beat_s: float,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._cell, self._holder, self._version, self._beat_s, self._warn = cell, holder, version, beat_s, warn
        self._stop = threading.Event()
        self._lost_to: Holder | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()
        _held_here.add(self)

    @property
    def token(self) -> str:
        return self._holder.token

    def check(self) -> None:
        """Refuses to go on where another driver has taken over, or where nothing renews the lease any more.

        Raises:
            RunError: another has; the message names it.
            SimtuneError: the thread that renews the lease has ended.
        """
        if self._lost_to is None and not held(self._cell, self.token):
            self._lost_to = self._found()[0]
        if self._lost_to is not None:
            who = self._lost_to if self._lost_to.token else "nobody (its lease file is gone)"
            raise RunError(
                f"this driver stood still for too long and its run was taken over by {who}. Results that were "
                "finished before are kept; nothing more was written"
            )
        if not self._thread.is_alive() and not self._stop.is_set():
            raise SimtuneError(
                f"{self._cell.path}: this driver's lease is no longer renewed, so another could take its run over "
                f"({self._error!r}). What is finished is kept; run the same command again to continue"
            ) from self._error

    def release(self) -> None:
        _held_here.discard(self)
        self._stop.set()
        self._thread.join()
        nobody, patience = Holder("", "", 0, 0.0).encoded(), Patience(self._warn, limit_s=_RELEASE_LIMIT_S)
        # Where nothing can be written it stays: a process that has ended holds nothing.
        with contextlib.suppress(OSError, DiskFullError, StoreError):
            if self._cell.swap(nobody, self._version, patience) is None:
                holder, version = self._found()
                if holder.token == self.token:
                    self._cell.swap(nobody, version, patience)

    def _renew(self) -> None:
        try:
            while not self._stop.wait(self._beat_s):
                # A storage that is away or full for a moment, or anything else: the next beat tries again, and
                # `check` asks the storage itself.
                with contextlib.suppress(Exception):
                    self._beat()
                if self._lost_to is not None:
                    return
        except BaseException as error:
            self._error = error
            raise

    def _beat(self) -> None:
        following = Holder(**{**asdict(self._holder), "beat": self._holder.beat + 1})
        version = self._cell.swap(following.encoded(), self._version, Patience(self._warn))
        if version is None:
            holder, version = self._found()
            if version is None or holder.token != self.token:
                self._lost_to = holder
                return
            # An earlier beat, which was written although its answer was lost.
            following = holder
        self._holder, self._version = following, version

    def _found(self) -> tuple[Holder, str | None]:
        """The holder that the cell names now, and the cell's version."""
        found = self._cell.read()
        return (Holder.parse(found[0]), found[1]) if found else (Holder("", "", 0, 0.0), None)


_held_here: set[Lease] = set()


def release_all(within_s: float) -> None:
    """Lets go of all that this process holds, for one that is about to end in the middle of its work."""
    for lease in list(_held_here):
        releasing = threading.Thread(target=lease.release, daemon=True)
        releasing.start()
        releasing.join(within_s)


@dataclass(frozen=True)
class LeaseToken:
    """What a worker anywhere needs to find out whether its driver still holds the run."""

    cell: Any
    token: str

    def held(self) -> bool:
        return held(self.cell, self.token)


def held(cell: Cell, token: str) -> bool:
    """Whether the lease is held under this token now."""
    found = cell.read()
    return found is not None and Holder.parse(found[0]).token == token


def acquire(
    cell: Cell,
    what: str,
    warn: Callable[[str], None] = lambda text: None,
    beat_s: float = BEAT_S,
    stale_after_s: float = STALE_AFTER_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Lease:
    """Takes a lease: at once where nobody holds it, after `stale_after_s` where its holder stands still.

    Args:
        what: what the lease is of, for messages.

    Raises:
        RunError: its holder is alive; the message names host and process and says what to do.
    """
    watch = Watch(cell, stale_after_s, clock)
    told = False
    while watch.look():
        holder = watch.holder
        if watch.moved or holder.runs_here():
            raise RunError(
                f"{what}: held by {holder}. Wait for it, stop it, or give this run another name (--set name=...)"
            )
        if not told:
            warn(f"{what}: held by {holder}, which may be gone; taken over if it stands still for {stale_after_s:g} s")
            told = True
        sleep(min(_POLL_S, stale_after_s / 4))
    mine = Holder.this_process()
    version = cell.swap(mine.encoded(), watch.version, Patience(warn))
    if version is None:
        found = cell.read()
        raise RunError(
            f"{what}: held by {Holder.parse(found[0]) if found else 'another process'}, which came first just now. "
            "Wait for it, stop it, or give this run another name (--set name=...)"
        )
    return Lease(cell, mine, version, beat_s, warn)


@contextmanager
def run_lease(cell: Cell, what: str, warn: Callable[[str], None] = lambda text: None) -> Iterator[Lease]:
    """Holds a run for one driver.

    Raises:
        RunError: another driver holds it, or the storage lacks what runs need.
        StoreError: the storage does not answer, or refuses.
    """
    check_storage(cell.path.parent.parent)
    lease = acquire(cell, what, warn)
    try:
        yield lease
    finally:
        lease.release()


def _born(process: int) -> float:
    """When a process started, by a clock that nobody sets.

    Raises:
        psutil.NoSuchProcess: it has ended.
    """
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        # No Linux, or no such process. psutil's time is counted from a date: an hour's change makes it another process.
        return float(psutil.Process(process).create_time())
    # The program's name stands in brackets and may hold brackets and blanks itself.
    return float(status.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
