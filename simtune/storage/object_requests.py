"""Requests to an object store: sent again while they fail for the moment, and one error for everything else.

The client sends each request once, so the same rules hold for every store: a connection that is refused, breaks or
stalls, a reply that breaks off, and the HTTP statuses 408, 429 and 5xx are temporary; any other answer is final.
"""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Literal, TypeVar

from simtune.errors import SimtuneError, StoreError, cut

T = TypeVar("T")

ATTEMPTS_VARIABLE = "SIMTUNE_STORAGE_ATTEMPTS"
"""The environment variable that says how often a request is sent."""

# With growing pauses, about half a minute: a store that is unreachable for a moment does not end a sweep.
_MAX_ATTEMPTS = 8
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
_SIGNAL_DELAY_S = 0.5
# So that many processes that lost the store at once do not all return at once. Separate from the global generator.
_JITTER = random.Random()
# The codes of S3 and Google in XML; Azure's XML has the same two elements.
_CODE = re.compile(r"<Code>([^<]*)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
# Only the client for uploads in parts repeats requests.
_REPEATED = re.compile(r"after ([1-9]\d*) retries, max_retries: \1\b")
_STATUS = re.compile(r"status code: (\d{3}\b.*)", re.DOTALL)
_SERVER = re.compile(r"performing \w+ (https?://[^/\s]+)")
# What follows the text repeats it as Rust sees it, and has the reason for a broken connection.
_CAUSE = re.compile(r'(?:message|error): "([^"]+)"')
_CAUSES = {"TimedOut": "no answer within the time limit", "IncompleteMessage": "the connection was closed"}
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
# Temporary errors that have a status which otherwise means an invalid request. The parts of an upload are unknown to
# the store (S3, Google; Azure) if it was completed and the answer was lost.
_TEMPORARY_CODES = {"RequestTimeout", "NoSuchUpload", "InvalidBlockList", "Throttling", "ThrottlingException"}
_TEMPORARY_STATUSES = {408, 409, 425, 429}
# Where machines in a cloud get their credentials. On others nobody answers there.
_CREDENTIAL_SERVERS = re.compile(r"169\.254\.16\d\.\d+|metadata\.google\.internal")
_WRONG_REGION = re.compile(r"Received redirect")


@dataclass(frozen=True)
class Failure:
    """Why a request failed.

    Attributes:
        cause: `missing`, there is no such object; `condition`, the condition of the request does not hold; `refused`,
            the same request would fail again; `temporary`, it might succeed.
        reason: the store's code and message, or what happened to the connection.
        repeated: whether the client itself has sent the request as often as it may.
    """

    cause: Literal["missing", "condition", "refused", "temporary"]
    reason: str
    repeated: bool = False


@cache
def _exceptions() -> ModuleType:
    import obstore.exceptions

    return obstore.exceptions


def failure_of(error: Exception) -> Failure | None:
    """Why the client raised an error; None if it is not an error of a request."""
    # Such as the one that says that the client is not installed.
    if isinstance(error, SimtuneError) or not isinstance(error, _exceptions().BaseError | FileNotFoundError):
        return None
    text, _, details = str(error).partition("\n\nDebug source")
    code, status = (found[1] if (found := part.search(text)) else "" for part in (_CODE, _STATUS))
    reason = " ".join(_reason(text, details).split())
    number, repeated = int(status[:3] or 0), _REPEATED.search(text) is not None
    if code in _NO_BUCKET:
        return Failure("refused", reason)
    if code in _TEMPORARY_CODES or number in _TEMPORARY_STATUSES or number >= 500:
        return Failure("temporary", reason, repeated)
    if isinstance(error, FileNotFoundError):
        return Failure("missing", reason)
    if is_condition(error):
        return Failure("condition", reason)
    if _CREDENTIAL_SERVERS.search(text):
        return Failure("refused", f"no credentials found; {reason}")
    if number or code or _WRONG_REGION.search(text) or not isinstance(error, _exceptions().GenericError):
        return Failure("refused", reason)
    return Failure("temporary", reason, repeated)


def _reason(text: str, details: str) -> str:
    """Why a request failed: the store's code and message, or what happened to the connection."""
    code, message, status, server = (part.search(text) for part in (_CODE, _MESSAGE, _STATUS, _SERVER))
    if code:
        return f"{code[1]}: {message[1] if message else ''}"
    if status:
        return status[1]
    known = [words for name, words in _CAUSES.items() if name in details]
    causes = _CAUSE.findall(details) or known
    # The client has removed a signed URL from the text, and with it the server.
    return ": ".join([*([server[1]] if server else []), causes[-1]]) if causes else text


def is_condition(error: Exception) -> bool:
    """Whether the condition of a write did not hold, or another write of the object was in progress."""
    return isinstance(error, _exceptions().PreconditionError | _exceptions().AlreadyExistsError)


def max_attempts() -> int:
    """How often a request is sent: `SIMTUNE_STORAGE_ATTEMPTS`, or a default."""
    text = os.environ.get(ATTEMPTS_VARIABLE, "")
    return int(text) if text.isdecimal() and int(text) else _MAX_ATTEMPTS


def repeated(work: Callable[[], T]) -> T:
    """Calls a function that makes requests, and calls it again, after growing pauses, while it fails for the moment.

    A signal interrupts it, although the client waits for the network in native code: the main thread only waits for
    another thread.

    Raises:
        Exception: the last error.
    """
    if threading.current_thread() is not threading.main_thread():
        return _attempts(work, threading.Event())
    interrupted = threading.Event()
    try:
        return result_of(in_background(work, interrupted))
    finally:
        interrupted.set()


def in_background(work: Callable[[], T], interrupted: threading.Event) -> Future[T]:
    """Calls a function as `repeated` does, in a thread that the end of the process does not wait for.

    Args:
        work: makes requests.
        interrupted: once it is set, nothing is sent again.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(_attempts(work, interrupted))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="object store", daemon=True).start()
    return future


def result_of(future: Future[T]) -> T:
    """Waits for the result of `in_background`, until a signal."""
    # A signal that comes just before the wait begins would be seen only after it.
    while not wait([future], _SIGNAL_DELAY_S).done:
        pass
    return future.result()


def _attempts(work: Callable[[], T], interrupted: threading.Event) -> T:
    pause_s = FIRST_PAUSE_S
    for _ in range(max_attempts() - 1):
        try:
            return work()
        except Exception as error:
            failure = failure_of(error)
            if failure is None or failure.cause != "temporary" or failure.repeated:
                raise
            if interrupted.wait(pause_s * _JITTER.uniform(0.5, 1)):
                raise
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    return work()


@contextmanager
def store_errors(named: object, remedy: str) -> Iterator[None]:
    """Turns the client's errors into one error that names the object and says what to check.

    Args:
        named: the object.
        remedy: what to check if the store refuses or does not answer.

    Raises:
        FileNotFoundError: there is no such object.
        StoreError: the store does not answer, or refuses.
    """
    try:
        yield
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        if failure.cause == "missing":
            raise FileNotFoundError(f"{named}: no such object") from error
        if failure.cause == "condition":
            raise StoreError(f"{named}: changed while it was in use; run the same command again") from error
        refused = failure.cause == "refused"
        raise StoreError(
            f"{named}: {'refused' if refused else 'the store does not answer'} ({cut(failure.reason, 300)}). {remedy}. "
            "Finished results are kept; run the same command again to continue",
            wrong_input=refused,
            reason=failure.reason,
        ) from error
