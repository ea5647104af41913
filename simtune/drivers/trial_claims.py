"""Which driver is running a trial, where several runs share a storage.

A claim is a file in the trial's folder that names the run of its driver. The run's lease is in the same storage, so one
beat of a driver renews all its claims. A claim contains no path, because machines may have mounted a storage at
different paths. Claims save work and decide nothing: `metrics.json` alone ensures that a trial has one result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from simtune.config.settings import RUN_NAME
from simtune.drivers.holder import LeaseObserver, lease_file, read_holder
from simtune.drivers.run_lease import LeaseToken
from simtune.errors import RunError
from simtune.progress import Display
from simtune.storage.files import AnyPath
from simtune.storage.records import Record, parse_record, record_bytes
from simtune.storage.versioned_file import VersionedFile, versioned_file

_POLL_S = 1.0


class ClaimRecord(Record):
    """The content of a claim's file.

    Attributes:
        run: name of the driver's run, a folder beside the trials.
        token: under which the driver holds that run's lease.
    """

    version: Literal[1] = 1
    run: Annotated[str, Field(pattern=RUN_NAME)]
    token: str


@dataclass(frozen=True)
class Claim:
    """A claim that was found: the directory of a driver's run, and the token under which it held the run's lease."""

    run_directory: AnyPath
    token: str

    def is_alive(self) -> bool:
        """Whether the driver may still be running: it holds its lease and is not known to have ended."""
        holder, _ = read_holder(lease_file(self.run_directory))
        return holder.token == self.token and not holder.has_ended()


def claim_file(directory: AnyPath) -> VersionedFile:
    """The file of the claim on the trial in a folder."""
    trials = directory.parent
    return versioned_file(trials.parent, trials.name, directory.name, ".claim")


def read_claim(directory: AnyPath) -> Claim | None:
    """The claim on the trial in a folder; None if there is none or its file is damaged."""
    return _parse_claim(claim_file(directory).read(), directory)


def _parse_claim(found: tuple[bytes, str] | None, directory: AnyPath) -> Claim | None:
    if found is None:
        return None
    try:
        record = parse_record(found[0], ClaimRecord, str(directory))
    except RunError:
        return None
    # The folder is `trials/TRIAL` in the storage, the run's is `RUN`.
    return Claim(directory.parent.parent / record.run, record.token)


def claim_trial(directory: AnyPath, lease: LeaseToken, dead_drivers: frozenset[str] = frozenset()) -> bool:
    """Claims the trial in a folder for a driver.

    Args:
        directory: the trial's folder.
        lease: of the driver.
        dead_drivers: tokens of drivers that were observed to have stopped renewing their leases.

    Returns:
        False if another driver is running the trial.
    """
    file = claim_file(directory)
    found = file.read()
    claim = _parse_claim(found, directory)
    if claim is not None and claim.token not in {lease.token, *dead_drivers} and claim.is_alive():
        return False
    record = ClaimRecord(run=lease.file.path.parent.name, token=lease.token)
    return file.swap(record_bytes(record), found[1] if found else None) is not None


def release_claim(directory: AnyPath) -> None:
    """Gives up the claim on a trial that has its result, or the record of its failure."""
    (directory / ".claim").unlink(missing_ok=True)


def wait_for_other_drivers(
    directories: Sequence[AnyPath],
    own_token: str,
    dead_drivers: frozenset[str],
    is_done: Callable[[AnyPath], bool],
    display: Display,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[list[AnyPath], frozenset[str]]:
    """Waits while other drivers are running trials.

    Args:
        directories: the trials' folders.
        own_token: of this driver's lease.
        dead_drivers: tokens of drivers that are known to be dead.
        is_done: whether the trial in a folder has its result.
        display: where a wait is reported.
        sleep: waits for some seconds.

    Returns:
        The folders of trials that nobody runs any more though they lack results, because their drivers have died or
        have ended with other results, and the tokens of all drivers known to be dead.
    """
    observers: dict[str, LeaseObserver] = {}
    waiting = dict.fromkeys(directories)
    left: list[AnyPath] = []
    reported: set[str] = set()
    while waiting:
        for path in list(waiting):
            # The claim first: it is given up after the results are written.
            claim = read_claim(path)
            if is_done(path) or (claim is not None and claim.token == own_token):
                del waiting[path]
                continue
            if claim is None:
                del waiting[path]
                left.append(path)
                continue
            if claim.token not in observers:
                observers[claim.token] = LeaseObserver(lease_file(claim.run_directory))
            observer = observers[claim.token]
            if claim.token in dead_drivers or not claim.is_alive() or not observer.is_held():
                dead_drivers |= {claim.token}
                del waiting[path]
                left.append(path)
            elif claim.token not in reported:
                reported.add(claim.token)
                display.note(f"  waiting for trials that {observer.holder} is running in {claim.run_directory}")
        if waiting:
            sleep(_POLL_S)
    return left, dead_drivers
