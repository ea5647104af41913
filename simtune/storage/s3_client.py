"""Requests to an object store: one client per process, retries, and one error for everything that can go wrong.

boto3 retries a request that gets no reply. It does not retry if the body of a reply breaks off while it is read;
`repeated` does. Anything that still fails is a `StoreError` that names the object.
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

_CREATING = threading.Lock()
# With growing pauses, about half a minute: a store that is unreachable for a moment does not end a sweep.
_MAX_ATTEMPTS = 8
# If one connection hangs, the renewal of a lease is retried well before other drivers may take over the run.
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 10, 20
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_CONNECTIONS = 32
# Temporary errors that S3 reports with a status that otherwise means an invalid request.
_TEMPORARY = {"RequestTimeout", "NoSuchUpload", "Throttling", "ThrottlingException", "TooManyRequests", "408", "429"}


class BrokenBodyError(Exception):
    """The body of a reply was incomplete."""


@cache
def s3_client() -> Any:
    """The client of this process, shared by its threads."""
    _botocore()
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": max_attempts()},
        max_pool_connections=_CONNECTIONS,
    )
    # Threads may share a client but must not create clients at the same time.
    with _CREATING:
        region = os.environ.get("AWS_REGION") or boto3.session.Session().region_name
        # For a bucket in another region boto3 gets a redirect and follows it.
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
    """How often a request is tried: `AWS_MAX_ATTEMPTS`, or a default."""
    text = os.environ.get("AWS_MAX_ATTEMPTS", "")
    return int(text) if text.isdecimal() and int(text) else _MAX_ATTEMPTS


def body_of(answer: dict[str, Any], take: Callable[[bytes], object], block_bytes: int) -> None:
    """Reads a body in blocks; its length and checksum are verified at its end.

    Args:
        answer: of the client.
        take: called with each block.
        block_bytes: size of the blocks.

    Raises:
        BrokenBodyError: the body broke off, stalled, or is not what was sent.
    """
    try:
        while block := answer["Body"].read(block_bytes):
            take(block)
    except _broken_off() as error:
        raise BrokenBodyError(str(error)) from error
    finally:
        answer["Body"].close()


def repeated(work: Callable[[], T]) -> T:
    """Calls a function that makes requests, and calls it again if a reply was incomplete.

    Raises:
        Exception: the last error.
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
    """Whether a reply was incomplete; boto3 itself has retried if there was none."""
    exceptions = _botocore().exceptions
    if isinstance(error, BrokenBodyError | _botocore().parsers.ResponseParserError):
        return True
    if isinstance(error, exceptions.ClientError):
        # The answer to completing an upload was lost, and boto3 tried to complete it again.
        return error_code(error) == "NoSuchUpload"
    if isinstance(error, exceptions.BotoCoreError):
        return isinstance(error, exceptions.IncompleteReadError | exceptions.ResponseStreamingError)
    # While boto3 read the body of an error message.
    return isinstance(error, _broken_off())


def error_code(error: Any) -> str:
    """The store's code for the error of a request."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def store_errors(named: object) -> Iterator[None]:
    """Turns the errors of the libraries into one error that names the object and says what to check.

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
        no_credentials = isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError)
        refused = no_credentials or (400 <= status < 500 and code not in _TEMPORARY)
        reason = " ".join(str(error).split())
        raise StoreError(
            f"{named}: {'refused' if refused else 'the store does not answer'} ({cut(reason, 300)}). Check the name "
            "of the bucket and AWS_PROFILE or AWS_ACCESS_KEY_ID, AWS_REGION and AWS_ENDPOINT_URL. Finished results are "
            "kept; run the same command again to continue",
            wrong_input=refused,
        ) from error


@cache
def _broken_off() -> tuple[type[Exception], ...]:
    """The errors of a broken connection; a full disk of this machine is not among them."""
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
