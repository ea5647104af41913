"""Asking an object store: one client a process, what is asked again, and one error for all that can go wrong.

boto3 asks again where no reply came. A body that breaks off comes after that, when it is read; `repeated` asks for
those again. What still fails is a `StoreError` that names the object.
"""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from simtune.errors import ConfigError, StoreError, cut

T = TypeVar("T")

_MAKING = threading.Lock()
# With growing pauses about half a minute: a store that is away for a moment ends no sweep.
_MAX_ATTEMPTS = 8
# A renewal of a lease that meets one silent connection is asked again well before others may take the run over.
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 10, 20
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_CONNECTIONS = 32
# S3 says these with a status that otherwise means that the request is wrong.
_PASSING = {"RequestTimeout", "NoSuchUpload", "Throttling", "ThrottlingException", "TooManyRequests", "408", "429"}


class BrokenBodyError(Exception):
    """A reply came, and its body did not come whole."""


@cache
def s3_client() -> Any:
    """The client of this process; threads may share it."""
    _botocore()
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": max_attempts()},
        max_pool_connections=_CONNECTIONS,
    )
    # Clients may be shared by threads, and not be made by several at once.
    with _MAKING:
        region = os.environ.get("AWS_REGION") or boto3.session.Session().region_name
        # A bucket of another region says so, and boto3 then asks there.
        return boto3.client("s3", region_name=region or "us-east-1", config=config)


@cache
def _botocore() -> Any:
    try:
        import boto3  # noqa: F401
        import botocore.exceptions
        import botocore.parsers
    except ImportError:
        raise ConfigError("a storage in s3:// needs boto3: pip install 'simtune[s3]'") from None
    return botocore


def max_attempts() -> int:
    text = os.environ.get("AWS_MAX_ATTEMPTS", "")
    return int(text) if text.isdecimal() and int(text) else _MAX_ATTEMPTS


def body_of(answer: dict[str, Any], take: Callable[[bytes], object], block_bytes: int) -> None:
    """Reads a body in blocks; its length and checksum are verified at its end.

    Raises:
        BrokenBodyError: it broke off, stood still, or is not what was sent.
    """
    try:
        while block := answer["Body"].read(block_bytes):
            take(block)
    except _broken_off() as error:
        raise BrokenBodyError(str(error)) from error
    finally:
        answer["Body"].close()


def repeated(work: Callable[[], T]) -> T:
    """Does what asks the store, and does it again where a reply did not come whole.

    Raises:
        Exception: the last one.
    """
    pause_s = _FIRST_PAUSE_S
    for _ in range(max_attempts() - 1):
        try:
            return work()
        except Exception as error:
            if not _is_broken(error):
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    return work()


def _is_broken(error: Exception) -> bool:
    """Whether a reply came and was not whole; boto3 itself has asked again where none came."""
    exceptions = _botocore().exceptions
    if isinstance(error, BrokenBodyError | _botocore().parsers.ResponseParserError):
        return True
    if isinstance(error, exceptions.ClientError):
        # The answer to a finished upload was lost, and boto3 tried to finish it again.
        return error_code(error) == "NoSuchUpload"
    if isinstance(error, exceptions.BotoCoreError):
        return isinstance(error, exceptions.IncompleteReadError | exceptions.ResponseStreamingError)
    # The body of an error message, which boto3 reads without looking.
    return isinstance(error, _broken_off())


def error_code(error: Any) -> str:
    """The store's own name for what a request failed of."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def store_errors(named: object) -> Iterator[None]:
    """Turns what the libraries raise into one error that names the object and says what to look at.

    Raises:
        FileNotFoundError: there is no such object.
        StoreError: the store does not answer, or refuses.
    """
    exceptions = _botocore().exceptions
    try:
        yield
    except (*_broken_off(), BrokenBodyError, exceptions.ClientError, _botocore().parsers.ResponseParserError) as error:
        code, status = "", 0
        if isinstance(error, exceptions.ClientError):
            code, status = error_code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in {"NoSuchKey", "404"}:
            raise FileNotFoundError(f"{named}: no such object") from error
        nobody = isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError)
        refused = nobody or (400 <= status < 500 and code not in _PASSING)
        reason = " ".join(str(error).split())
        raise StoreError(
            f"{named}: {'refused' if refused else 'the store does not answer'} ({cut(reason, 300)}). Look at the "
            "bucket's name and at AWS_PROFILE or AWS_ACCESS_KEY_ID, AWS_REGION and AWS_ENDPOINT_URL; what is "
            "finished is kept, and the same command continues",
            wrong_input=refused,
        ) from error


@cache
def _broken_off() -> tuple[type[Exception], ...]:
    """What a connection that does not hold raises; a full disk of this machine is not among it."""
    from boto3.exceptions import Boto3Error
    from s3transfer.exceptions import RetriesExceededError
    from urllib3.exceptions import HTTPError

    return (
        _botocore().exceptions.BotoCoreError,
        Boto3Error,
        RetriesExceededError,
        HTTPError,
        http.client.HTTPException,
        ConnectionError,
        TimeoutError,
    )
