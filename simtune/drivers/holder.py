"""Which process holds the lease on a run, and whether it is alive.

The holder's name and a beat, which it increases every few seconds, are in a small file. An observer judges by its own
monotonic clock whether a lease is stale, so wall clocks decide nothing; a holder that died on this machine is known to
be dead immediately.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import psutil
from pydantic import Field

from simtune.errors import RunError
from simtune.storage.files import AnyPath
from simtune.storage.records import Record, parse_record
from simtune.storage.versioned_file import VersionedFile, versioned_file

STALE_AFTER_S = 60.0


class Holder(Record):
    """A process that holds a lease, as recorded in the lease's file; `NOBODY` in the file of a released lease.

    Attributes:
        token: unique to this holding of the lease.
        host: name of the machine.
        process: the process id.
        process_started_s: when the process started, in seconds since its machine did; process ids are reused.
        beat: how often the lease was renewed.
    """

    version: Literal[1] = 1
    token: str
    host: str
    process: Annotated[int, Field(ge=0, lt=2**31)]
    process_started_s: float
    beat: Annotated[int, Field(ge=0)] = 0

    @classmethod
    def from_this_process(cls) -> Holder:
        """This process, with a new token."""
        return cls(
            token=uuid.uuid4().hex,
            host=socket.gethostname(),
            process=os.getpid(),
            process_started_s=_process_start_s(os.getpid()),
        )

    def has_ended(self) -> bool:
        """Whether the process is known to have ended; processes of other machines never are."""
        if not self.token:
            return True
        if self.host != socket.gethostname():
            return False
        try:
            return abs(_process_start_s(self.process) - self.process_started_s) > 1.0
        except psutil.NoSuchProcess:
            return True

    def is_running_here(self) -> bool:
        """Whether the process runs on this machine and is not stopped."""
        if self.host != socket.gethostname() or self.has_ended():
            return False
        try:
            return bool(psutil.Process(self.process).status() != psutil.STATUS_STOPPED)
        except psutil.NoSuchProcess:
            return False

    def __str__(self) -> str:
        return f"{self.host}, process {self.process}"


NOBODY = Holder(token="", host="", process=0, process_started_s=0.0)


def lease_file(run_directory: AnyPath) -> VersionedFile:
    """The file of a run's lease."""
    return versioned_file(run_directory.parent, run_directory.name, ".lease")


def read_holder(file: VersionedFile) -> tuple[Holder, str | None]:
    """The holder of a lease and the version of its file; `NOBODY` if the file is missing or damaged."""
    found = file.read()
    if found is None:
        return NOBODY, None
    try:
        holder = parse_record(found[0], Holder, str(file.path))
    except RunError:
        return NOBODY, found[1]
    return (holder if holder.process else NOBODY), found[1]


def is_held_by(file: VersionedFile, token: str) -> bool:
    """Whether the lease is held under this token now."""
    return read_holder(file)[0].token == token


class LeaseObserver:
    """Reads a lease repeatedly and judges whether its holder is alive.

    A holder counts as alive until it is known to have ended or its beat has not changed for `stale_after_s`.

    Attributes:
        holder: as of the last reading.
        version: of the lease's file, as of the last reading.
        was_renewed: whether the beat changed between two readings.
    """

    def __init__(
        self, file: VersionedFile, stale_after_s: float = STALE_AFTER_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._file, self._stale_after_s, self._clock = file, stale_after_s, clock
        self._last_version: str | None = None
        self._unchanged_since = 0.0
        self.was_renewed = False
        self.holder = NOBODY
        self.version: str | None = None

    def is_held(self) -> bool:
        """Reads the lease; whether a process that is alive holds it."""
        self.holder, self.version = read_holder(self._file)
        if self.holder.has_ended():
            return False
        if self.version != self._last_version:
            self.was_renewed = self._last_version is not None
            self._last_version, self._unchanged_since = self.version, self._clock()
        return self._clock() - self._unchanged_since < self._stale_after_s


def _process_start_s(process: int) -> float:
    """When a process started, by a clock that nobody can set.

    Raises:
        psutil.NoSuchProcess: it has ended.
    """
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        # Not Linux, or no such process. psutil derives the time from the date, so setting the clock makes a process
        # look like another one.
        return float(psutil.Process(process).create_time())
    # The program's name is in parentheses and may itself contain parentheses and spaces.
    return float(status.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
