"""Why trials fail, what follows from it, and the record of every attempt.

A failure has a kind, and the kind says how often the trial is tried again before it counts as failed, and whether a
later `simtune run` tries it anew. Each attempt leaves `attempts/N.json` and its traceback `attempts/N.log` in the
trial's folder; `failure.json` is the last word while there is no result.
"""

from __future__ import annotations

import gc
import traceback
from dataclasses import dataclass
from typing import Any, Literal

from simtune.errors import DiskFullError, NonFiniteLossError, SimtuneError, StoreError, TrialTimeoutError
from simtune.secrets import redact
from simtune.storage import AnyPath, check_shape, json_text, read_json, write_json, write_once, write_text

FailureKind = Literal["input", "diverged", "out-of-memory", "timeout", "infrastructure", "unexpected"]


@dataclass(frozen=True)
class Policy:
    """What follows from a kind of failure.

    Attributes:
        more_tries: in the same run; for `infrastructure` `resources.max_failures` says how many.
        anew: whether the next `simtune run` tries again by itself.
    """

    more_tries: int
    anew: bool


POLICIES: dict[FailureKind, Policy] = {
    # What the inputs decide would come again.
    "input": Policy(0, anew=False),
    "diverged": Policy(0, anew=False),
    # Once more with half of what is in memory at a time.
    "out-of-memory": Policy(1, anew=True),
    "timeout": Policy(1, anew=True),
    "infrastructure": Policy(0, anew=True),
    "unexpected": Policy(0, anew=True),
}


def kind_of(error: BaseException) -> FailureKind:
    """The kind of an error that a trial raised."""
    if isinstance(error, NonFiniteLossError):
        return "diverged"
    if isinstance(error, TrialTimeoutError):
        return "timeout"
    if isinstance(error, DiskFullError | StoreError):
        return "infrastructure"
    if isinstance(error, SimtuneError):
        return "input"
    # torch says so on GPUs with a class of its own and on processors in words alone.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out-of-memory"
    if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):
        return "out-of-memory"
    return "unexpected"


def record_attempt(
    directory: AnyPath, error: BaseException, kind: FailureKind | None = None, driver: str = ""
) -> dict[str, Any]:
    """Keeps a failed attempt of this driver; returns its record."""
    folder = directory / "attempts"
    record = {
        "attempt": 0,
        "kind": kind or kind_of(error),
        "class": type(error).__name__,
        "message": redact(str(error).strip()) or "no message",
        "step": getattr(error, "step", None),
        "driver": driver,
    }
    while True:
        record["attempt"] = num_attempts(directory) + 1
        if write_once(folder / f"{record['attempt']}.json", json_text(record)):
            break
    write_text(folder / f"{record['attempt']}.log", redact("".join(traceback.format_exception(error))))
    return record


def num_attempts(directory: AnyPath) -> int:
    """Failed attempts at a trial so far."""
    return sum(1 for _ in (directory / "attempts").glob("*.json"))


def attempts_of(directory: AnyPath) -> list[dict[str, Any]]:
    """The failed attempts at a trial, first to last."""
    found = [read_json(path) for path in (directory / "attempts").glob("*.json")]
    return sorted(found, key=lambda record: record["attempt"])


def write_failure(directory: AnyPath, trial: dict[str, Any], record: dict[str, Any]) -> None:
    """Records that a trial has no result, after its last attempt."""
    write_json(directory / "trial.json", trial)
    failure = {
        "class": record["class"],
        "kind": record["kind"],
        "message": record["message"],
        "step": record["step"],
        "retry": POLICIES[record["kind"]].anew,
        "attempts": num_attempts(directory),
        "log": f"attempts/{record['attempt']}.log",
    }
    write_json(directory / "failure.json", failure)


def read_failure(directory: AnyPath) -> dict[str, Any] | None:
    """Why a trial has no results, or None where nothing was recorded.

    Raises:
        RunError: the file is damaged.
    """
    path = directory / "failure.json"
    if not path.is_file():
        return None
    failure = read_json(path)
    check_shape(failure, {"class": str, "message": str}, str(path))
    failure["message"] = failure["message"].strip() or "no message"
    # The first release wrote no kind and no attempts.
    return {"kind": None, "step": None, "attempts": 1, "log": None, "retry": True} | failure


def free_memory(error: BaseException) -> None:
    """Gives back what an attempt that ran out of memory holds: its traceback keeps every tensor alive."""
    traceback.clear_frames(error.__traceback__)
    error.__traceback__ = None
    gc.collect()
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
