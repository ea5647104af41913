"""Which driver's workers are at a trial, where several runs share a storage.

A claim lies in the trial's folder and names its driver's run, whose lease lies in the same storage: one beat a driver
keeps all its claims alive. It has no path, because machines may have a storage under different ones. It saves work and
decides nothing: that there is one result a trial, `metrics.json` alone sees to.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simtune.config.settings import RUN_NAME
from simtune.drivers.lease import Holder, LeaseToken, Watch, lease_of
from simtune.progress import Display
from simtune.storage.files import AnyPath
from simtune.storage.versioned_file import Cell, cell_in

_POLL_S = 1.0


@dataclass(frozen=True)
class Claim:
    """A claim as it was found: the run of a driver, and the token under which it held the run's lease."""

    run_directory: AnyPath
    token: str

    def alive(self) -> bool:
        """Whether the driver may still be there: it holds its lease, and is not known to have ended."""
        found = lease_of(self.run_directory).read()
        holder = Holder.parse(found[0]) if found else Holder("", "", 0, 0.0)
        return holder.token == self.token and not holder.gone()

    def watch(self) -> Watch:
        return Watch(lease_of(self.run_directory))


def claim_cell(directory: AnyPath) -> Cell:
    trials = directory.parent
    return cell_in(trials.parent, trials.name, directory.name, ".claim")


def read_claim(cell: Cell) -> Claim | None:
    """Who is at a trial; None where nobody is, or where the file does not say."""
    found = cell.read()
    try:
        values = json.loads(found[0]) if found else {}
        run, token = values["run"], values["token"]
        named = isinstance(token, str) and re.fullmatch(RUN_NAME, run) is not None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    # Below `trials/TRIAL` in the storage.
    return Claim(cell.path.parent.parent.parent / run, token) if named else None


def take_claim(directory: AnyPath, lease: LeaseToken, gone: frozenset[str] = frozenset()) -> bool:
    """Claims a trial for a driver; False where another's workers are at it.

    Args:
        gone: tokens of drivers that were watched and found to stand still.
    """
    cell = claim_cell(directory)
    found = cell.read()
    claim = read_claim(cell)
    if claim is not None and claim.token not in {lease.token, *gone} and claim.alive():
        return False
    content = json.dumps({"run": lease.cell.path.parent.name, "token": lease.token}).encode()
    return cell.swap(content, found[1] if found else None) is not None


def drop_claim(directory: AnyPath) -> None:
    """The trial has its result, or the reason why not."""
    (directory / ".claim").unlink(missing_ok=True)


def wait_for_others(
    directories: Sequence[AnyPath],
    own_token: str,
    gone: frozenset[str],
    is_done: Callable[[AnyPath], bool],
    display: Display,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[list[AnyPath], frozenset[str]]:
    """Waits while other drivers' workers are at these trials.

    Args:
        gone: tokens of drivers that are known to stand still.
        is_done: whether the trial in a folder has its result.

    Returns:
        the trials that others gave up, or left because they are gone; and the tokens of all that are gone.
    """
    watches: dict[str, Watch] = {}
    waiting = dict.fromkeys(path for path in directories if not is_done(path))
    left: list[AnyPath] = []
    told: set[str] = set()
    while waiting:
        for path in list(waiting):
            claim = read_claim(claim_cell(path))
            if claim is None or claim.token == own_token or is_done(path):
                del waiting[path]
                continue
            watch = watches.setdefault(claim.token, claim.watch())
            if claim.token in gone or not claim.alive() or not watch.look():
                gone |= {claim.token}
                del waiting[path]
                left.append(path)
            elif claim.token not in told:
                told.add(claim.token)
                display.note(f"  waiting for trials that {watch.holder} is at, in {claim.run_directory}")
        if waiting:
            sleep(_POLL_S)
    return left, gone
