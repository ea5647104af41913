"""The lease on a run: its holder drives the run and renews it; others may take it over once it is stale.

Every change of a lease is a compare-and-swap: of several drivers one succeeds, and a holder that was stopped and
continued finds out that it has lost its lease. Only the current holder may publish results.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from simtune.drivers.holder import NOBODY, STALE_AFTER_S, Holder, LeaseObserver, is_held_by, lease_file, read_holder
from simtune.errors import DiskFullError, RunError, SimtuneError, StoreError
from simtune.storage.files import AnyPath
from simtune.storage.locks import LockWait, ignore_warning
from simtune.storage.preflight import check_storage
from simtune.storage.records import record_bytes
from simtune.storage.versioned_file import VersionedFile

BEAT_S = 5.0
_POLL_S = 0.5
# If a process ends without releasing its lease, others notice by themselves, so releasing need not wait long.
_RELEASE_LIMIT_S = 5.0


class Lease:
    """A held lease, renewed by a thread until it is released or lost."""

    def __init__(
        self,
        file: VersionedFile,
        holder: Holder,
        version: str,
        beat_s: float,
        warn: Callable[[str], None] = ignore_warning,
    ) -> None:
        """Starts to renew the lease.

        Args:
            file: of the lease.
            holder: this process, as the file has it.
            version: of the file.
            beat_s: seconds between renewals.
            warn: called with a message if a renewal has to wait for a lock.
        """
        self._file, self._holder, self._version, self._beat_s, self._warn = file, holder, version, beat_s, warn
        self._stop = threading.Event()
        self._new_holder: Holder | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()
        _held_leases.add(self)

    @property
    def token(self) -> str:
        """Unique to this holding of the lease."""
        return self._holder.token

    def check(self) -> None:
        """Refuses to continue if another driver has taken over or the lease is no longer renewed.

        Raises:
            RunError: another driver has taken over; the message names it.
            SimtuneError: the thread that renews the lease has ended.
        """
        if self._new_holder is None and not is_held_by(self._file, self.token):
            self._new_holder = read_holder(self._file)[0]
        if self._new_holder is not None:
            who = self._new_holder if self._new_holder.token else "nobody (its lease file was removed)"
            raise RunError(
                f"this driver did not renew its lease for too long, and its run was taken over by {who}. Results that "
                "were finished before are kept; nothing more was written"
            )
        if not self._thread.is_alive() and not self._stop.is_set():
            raise SimtuneError(
                f"{self._file.path}: this driver's lease is no longer renewed, so another driver could take over its "
                f"run ({self._error!r}). Finished results are kept; run the same command again to continue"
            ) from self._error

    def release(self) -> None:
        """Ends the renewals and gives the lease up."""
        _held_leases.discard(self)
        self._stop.set()
        self._thread.join()
        nobody, wait = record_bytes(NOBODY), LockWait(self._warn, limit_s=_RELEASE_LIMIT_S)
        # If nothing can be written the lease stays: once this process has ended, others know that it holds nothing.
        with contextlib.suppress(OSError, DiskFullError, StoreError):
            if self._file.swap(nobody, self._version, wait) is None:
                holder, version = read_holder(self._file)
                if holder.token == self.token:
                    self._file.swap(nobody, version, wait)

    def _renew(self) -> None:
        try:
            while not self._stop.wait(self._beat_s):
                # Whatever went wrong, such as a storage that is unreachable or full for a moment: the next beat tries
                # again, and `check` reads the storage itself.
                with contextlib.suppress(Exception):
                    self._beat()
                if self._new_holder is not None:
                    return
        except BaseException as error:
            self._error = error
            raise

    def _beat(self) -> None:
        renewed = self._holder.model_copy(update={"beat": self._holder.beat + 1})
        version = self._file.swap(record_bytes(renewed), self._version, LockWait(self._warn))
        if version is None:
            holder, version = read_holder(self._file)
            if version is None or holder.token != self.token:
                self._new_holder = holder
                return
            # An earlier beat, which was written although its answer was lost.
            renewed = holder
        self._holder, self._version = renewed, version


_held_leases: set[Lease] = set()


def release_all_leases(within_s: float) -> None:
    """Releases all leases of this process, which is about to end in the middle of its work.

    Args:
        within_s: seconds to wait for each of them.
    """
    for lease in list(_held_leases):
        releasing = threading.Thread(target=lease.release, daemon=True)
        releasing.start()
        releasing.join(within_s)


@dataclass(frozen=True)
class LeaseToken:
    """What a worker on any machine needs to find out whether its driver still holds the run."""

    file: VersionedFile
    token: str

    def held(self) -> bool:
        """Whether the driver holds the lease now."""
        return is_held_by(self.file, self.token)


def acquire_lease(
    file: VersionedFile,
    name: str,
    warn: Callable[[str], None] = ignore_warning,
    beat_s: float = BEAT_S,
    stale_after_s: float = STALE_AFTER_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Lease:
    """Acquires a lease: immediately if nobody holds it, after `stale_after_s` if its holder stops renewing it.

    Args:
        file: of the lease.
        name: of what is leased, for messages.
        warn: called with a message before a wait.
        beat_s: seconds between renewals.
        stale_after_s: seconds without a renewal after which a holder counts as dead.
        clock: monotonic, in seconds.
        sleep: waits for some seconds.

    Raises:
        RunError: its holder is alive; the message names host and process and says what to do.
    """
    observer = LeaseObserver(file, stale_after_s, clock)
    warned = False
    while observer.is_held():
        holder = observer.holder
        if observer.was_renewed or holder.is_running_here():
            raise RunError(
                f"{name}: held by {holder}. Wait for it, stop it, or give this run another name (--set name=...)"
            )
        if not warned:
            warn(
                f"{name}: held by {holder}, which may have ended; this driver takes over if the lease is not renewed "
                f"for {stale_after_s:g} s"
            )
            warned = True
        sleep(min(_POLL_S, stale_after_s / 4))
    mine = Holder.from_this_process()
    version = file.swap(record_bytes(mine), observer.version, LockWait(warn))
    if version is None:
        found = read_holder(file)[0]
        raise RunError(
            f"{name}: held by {found if found.token else 'another process'}, which acquired it a moment ago. "
            "Wait for it, stop it, or give this run another name (--set name=...)"
        )
    return Lease(file, mine, version, beat_s, warn)


@contextmanager
def run_lease(run_directory: AnyPath, warn: Callable[[str], None] = ignore_warning) -> Iterator[Lease]:
    """Holds a run's lease.

    Raises:
        RunError: another driver holds it, or the storage lacks what runs need.
        StoreError: the storage does not answer, or refuses.
    """
    check_storage(run_directory.parent)
    lease = acquire_lease(lease_file(run_directory), str(run_directory), warn)
    try:
        yield lease
    finally:
        lease.release()
