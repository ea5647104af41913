"""Why trials fail, and the record of every attempt.

`retry_policy` has what follows from the cause of a failure. Each attempt leaves `attempts/N.json` and its traceback
`attempts/N.log` in the trial's folder. While there is no result, `failure.json` has the last failure: in the trial's
folder if there is no model, in a score's folder if that score could not be made.
"""

from __future__ import annotations

import gc
import re
import socket
import traceback
from typing import Any

from simtune.errors import (
    DiskFullError,
    ExtensionError,
    ModelFilesError,
    NonFiniteLossError,
    SimtuneError,
    StoreError,
    TrialTimeoutError,
)
from simtune.redaction import redact
from simtune.storage.files import AnyPath, child_names, write_bytes, write_once, write_text
from simtune.storage.records import record_bytes, write_record
from simtune.trial.files import (
    ATTEMPTS,
    FAILURE,
    MODEL,
    attempt_number,
    attempt_paths,
    identity_bytes,
    read_attempts,
    score_folder,
)
from simtune.trial.records import Attempt, Failure, FailureCause
from simtune.trial.retry_policy import RETRY_POLICIES

# A forged `999999999.json` must not push the next numbers beyond those that are read.
_LARGEST_NUMBER = 10**8
_OF_DEVICES = re.compile("CUDA|cuDNN|cuBLAS|NCCL", re.IGNORECASE)


def cause_of(error: BaseException) -> FailureCause:
    """The cause of failure that an error counts as."""
    if isinstance(error, NonFiniteLossError):
        return "diverged"
    if isinstance(error, TrialTimeoutError):
        return "timeout"
    if isinstance(error, DiskFullError | ModelFilesError | StoreError):
        return "infrastructure"
    # Whoever fixes the code runs the sweep again, whose inputs are the same.
    if isinstance(error, SimtuneError) and not isinstance(error, ExtensionError):
        return "input"
    # torch has an error class for this on GPUs; on CPUs only the message says it.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out-of-memory"
    if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):
        return "out-of-memory"
    return "unexpected"


def may_depend_on_host(error: BaseException) -> bool:
    """Whether an error may not occur on another host, whose files, packages, memory and devices are others."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError | MemoryError | ImportError | ModelFilesError | StoreError):
            return True
        if cause_of(found) == "out-of-memory" or type(found).__name__ == "AcceleratorError":
            return True
        if isinstance(found, RuntimeError) and _OF_DEVICES.search(str(found)):
            return True
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    return False


def record_attempt(
    directory: AnyPath,
    error: BaseException,
    cause: FailureCause | None = None,
    driver: str = "",
    score: str | None = None,
    host: str = "",
) -> Attempt:
    """Records a failed attempt under a number that no record or log has yet; returns the record.

    Args:
        directory: the trial's folder.
        error: what was raised.
        cause: None finds it by the error.
        driver: whose attempt it was.
        score: which score could not be made; None where the model could not be trained or loaded.
        host: on which it ran; empty: this one.
    """
    folder = directory / ATTEMPTS
    taken = [number for number in map(attempt_number, child_names(folder)) if number < _LARGEST_NUMBER]
    number = 1 + max(taken, default=0)
    while True:
        record = Attempt(
            trial=directory.name,
            score=score,
            attempt=number,
            cause=cause or cause_of(error),
            error=type(error).__name__,
            message=redact(str(error).strip()) or "no message",
            step=getattr(error, "step", None),
            driver=driver,
            host=host or socket.gethostname(),
        )
        if write_once(folder / f"{number}.json", record_bytes(record)):
            break
        number += 1
    write_text(folder / f"{number}.log", redact("".join(traceback.format_exception(error))))
    return record


def num_attempts(directory: AnyPath, score: str | None = None) -> int:
    """Failed attempts at a trial so far; of one score, those that failed for no other."""
    if score is None:
        return len(attempt_paths(directory))
    return sum(record.score in (None, score) for record in attempts_of(directory))


def attempts_of(directory: AnyPath) -> list[Attempt]:
    """The failed attempts at a trial, first to last; damaged records are left out."""
    return read_attempts(directory)[0]


def write_failure(directory: AnyPath, identity: dict[str, Any], record: Attempt) -> None:
    """Records that a trial, or the score of the record, has no result, after its last attempt."""
    write_bytes(directory / MODEL, identity_bytes(directory.name, identity))
    failure = Failure(
        trial=directory.name,
        score=record.score,
        cause=record.cause,
        error=record.error,
        message=record.message,
        step=record.step,
        retry=RETRY_POLICIES[record.cause].next_run_retries,
        attempts=num_attempts(directory, record.score),
        host=record.host,
        log=f"{ATTEMPTS}/{record.attempt}.log",
    )
    write_record((score_folder(directory, record.score) if record.score else directory) / FAILURE, failure)


def free_memory(error: BaseException) -> None:
    """Frees the memory of an attempt that ran out of it: its traceback keeps every tensor alive."""
    traceback.clear_frames(error.__traceback__)
    error.__traceback__ = None
    gc.collect()
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
