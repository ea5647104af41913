"""Downloads one file over HTTP, complete even where connections break.

The bytes received so far are in `<path>`; `<path>.json` says which file they belong to: the address, the strong ETag of
the server and the length. An interrupted download continues where it stopped (HTTP `Range` with `If-Range`, RFC 9110
section 13.1.5), so the server decides whether its file is still the same; if it cannot, the download starts again.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field

from simtune.errors import DownloadError, RunError
from simtune.outside_files import MIB, OutsideFileError, read_outside
from simtune.redaction import redact
from simtune.storage.records import Record, parse_record, write_record
from simtune.wording import counted

Progress = Callable[[int, int | None], None]
"""Called with the bytes received so far and, where the server gives it, the number expected."""

_BLOCK_BYTES = 1 << 16
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_TOO_MANY_REQUESTS = 429
_RANGE_NOT_SATISFIABLE = 416


class DownloadState(Record):
    """Which file the bytes of an unfinished download belong to: the content of `<path>.json`.

    Attributes:
        url: without its secrets, because a link that was signed again is still for the same file.
        etag: the server's strong ETag; without it an unfinished download cannot be continued.
        total: bytes of the whole file; None if the server did not say.
    """

    version: Literal[1] = 1
    url: str
    etag: str | None
    total: Annotated[int, Field(ge=0)] | None


class _BrokenError(Exception):
    """This attempt failed; another one may succeed."""


def check_url(url: str) -> None:
    """Refuses an address that is not http or https.

    Raises:
        DownloadError: `file:` and the like, or no host.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DownloadError(f"{url!r}: not an http or https address; give one that starts with https://")


def discard(path: Path) -> None:
    """Removes a download, finished or not."""
    path.unlink(missing_ok=True)
    _state_path(path).unlink(missing_ok=True)


def download(
    url: str,
    path: Path,
    *,
    size: int | None = None,
    max_bytes: int,
    progress: Progress | None = None,
    retries: int = 4,
    retry_wait_s: float = 1.0,
    timeout_s: float = 60.0,
) -> None:
    """Downloads `url` to `path`; requests nothing if the file is already complete.

    Args:
        url: http or https.
        path: the file; bytes that it already has are not requested again.
        size: the number of bytes that it must have; None accepts what the server says.
        max_bytes: larger files are refused, whatever the server says.
        progress: called with bytes received and bytes expected (None if the server does not say).
        retries: further attempts after a broken connection, a short body, or a status of 429 or 5xx.
        retry_wait_s: seconds before the first retry, doubled each time.
        timeout_s: seconds without a byte after which a connection counts as broken.

    Raises:
        DownloadError: it failed. What a later call can continue from is left in place, all else is removed.
        OSError: `path` cannot be written.
    """
    check_url(url)
    for attempt in range(retries + 1):
        try:
            _attempt(url, path, size, max_bytes, progress, timeout_s)
        except _BrokenError as error:
            if attempt < retries:
                time.sleep(retry_wait_s * 2**attempt)
                continue
            state = _read_state(path, url)
            if state is None or state.etag is None:
                discard(path)
                advice = "run the same command again; with this server the download starts over"
            else:
                advice = f"run the same command again; it continues after byte {path.stat().st_size:,}"
            raise DownloadError(f"{url}: {error}, {counted(retries + 1, 'attempt')}; {advice}") from error
        return


def _attempt(
    url: str, path: Path, size: int | None, max_bytes: int, progress: Progress | None, timeout_s: float
) -> None:
    state = _read_state(path, url)
    offset = path.stat().st_size if state is not None else 0
    if state is not None and state.total == offset:
        _check_size(url, path, size, offset)
        return
    if state is None or state.etag is None or (state.total is not None and offset > state.total):
        discard(path)
        offset = 0
    # Length and ranges of a compressed body would not be those of the file.
    headers = {"Accept-Encoding": "identity", "User-Agent": "simtune"}
    if offset and state is not None and state.etag is not None:
        headers |= {"Range": f"bytes={offset}-", "If-Range": state.etag}
    with _open(url, headers, path, timeout_s) as response:
        etag = _strong_etag(response)
        offset, total = _answered_range(response, url, path, offset, state.etag if state else None)
        if total is not None:
            _check_size(url, path, size, total)
            _check_limit(url, path, max_bytes, total)
        with path.open("ab") as file:
            if not offset:
                # In this order, so that a state never describes the bytes of an earlier attempt.
                file.truncate(0)
                _write_state(path, url, etag, total)
            received = _copy(response, file, url, path, offset, total, max_bytes, progress)
    if total is None:
        # The end of the chunked transfer is the only sign that the file is complete.
        _write_state(path, url, etag, received)
    elif received < total:
        raise _BrokenError(f"cut short: received {received:,} of {counted(total, 'byte')}")
    _check_size(url, path, size, received)


def _answered_range(
    response: http.client.HTTPResponse, url: str, path: Path, offset: int, expected_etag: str | None
) -> tuple[int, int | None]:
    """The offset of the server's first byte, and the size of the whole file if the server says it."""
    if response.status == http.HTTPStatus.OK:
        return 0, _content_length(response)
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        raise DownloadError(f"{url}: the server answered {response.status} {response.reason}, expected 200")
    etag, total = _strong_etag(response), _total_of_range(response, offset)
    if not offset or total is None or (etag is not None and expected_etag is not None and etag != expected_etag):
        discard(path)
        raise _BrokenError("the server sent a different part of the file than requested")
    return offset, total


def _copy(
    response: http.client.HTTPResponse,
    file: IO[bytes],
    url: str,
    path: Path,
    received: int,
    total: int | None,
    max_bytes: int,
    progress: Progress | None,
) -> int:
    """Appends the body to the file; returns the size of the file afterwards."""
    while True:
        try:
            block = response.read(_BLOCK_BYTES)
        except (http.client.HTTPException, OSError) as error:
            raise _BrokenError(f"the connection broke after {counted(received, 'byte')} ({_reason(error)})") from error
        if not block:
            break
        received += len(block)
        _check_limit(url, path, max_bytes, received)
        file.write(block)
        if progress is not None:
            progress(received, total)
    file.flush()
    os.fsync(file.fileno())
    return received


def _open(url: str, headers: dict[str, str], path: Path, timeout_s: float) -> http.client.HTTPResponse:
    # urllib's usual opener also opens ftp:, file: and data: addresses.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    try:
        response: http.client.HTTPResponse = opener.open(_request(url, headers), timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        status = f"the server answered {error.code} {error.reason}"
        if error.code == _RANGE_NOT_SATISFIABLE:
            discard(path)
            raise _BrokenError(f"{status}: its file is shorter than the part already downloaded") from error
        if error.code == _TOO_MANY_REQUESTS or error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _BrokenError(status) from error
        raise DownloadError(f"{url}: {status}; check the address, or download the file by hand") from error
    except (OSError, http.client.HTTPException) as error:
        if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
            raise DownloadError(f"{url}: the server's certificate is not valid ({_reason(error)})") from error
        raise _BrokenError(f"no connection ({_reason(error)})") from error
    return response


def _request(url: str, headers: dict[str, str]) -> urllib.request.Request:
    """The request. User and password go from the address into a header that is not sent to the target of a redirect."""
    userinfo, separator, host = urlsplit(url).netloc.rpartition("@")
    address = urlsplit(url)._replace(netloc=host).geturl()
    request = urllib.request.Request(address, headers=headers)  # noqa: S310 check_url came first
    if separator:
        user, _, password = userinfo.partition(":")
        credentials = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {credentials}")
    return request


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, except to addresses that are not http or https and from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        check_url(newurl)
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise DownloadError(f"{req.full_url}: refused a redirect to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_size(url: str, path: Path, expected: int | None, actual: int) -> None:
    if expected is not None and actual != expected:
        discard(path)
        raise DownloadError(
            f"{url}: expected {counted(expected, 'byte')}, the server has {actual:,}; check the address and the "
            "pinned size"
        )


def _check_limit(url: str, path: Path, max_bytes: int, actual: int) -> None:
    if actual > max_bytes:
        discard(path)
        raise DownloadError(f"{url}: refused, more than {counted(max_bytes, 'byte')}; check the address")


def _content_length(response: http.client.HTTPResponse) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdigit() else None


def _total_of_range(response: http.client.HTTPResponse, offset: int) -> int | None:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return int(match[2]) if match is not None and int(match[1]) == offset else None


def _strong_etag(response: http.client.HTTPResponse) -> str | None:
    etag = response.headers.get("ETag")
    return etag if etag is not None and etag.startswith('"') else None


def _state_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _write_state(path: Path, url: str, etag: str | None, total: int | None) -> None:
    write_record(_state_path(path), DownloadState(url=redact(url), etag=etag, total=total))


def _read_state(path: Path, url: str) -> DownloadState | None:
    """The state of the bytes at `path`; removes them and returns None if they are not known to belong to `url`."""
    state = None
    with contextlib.suppress(FileNotFoundError, OutsideFileError, RunError):
        state = parse_record(read_outside(_state_path(path), MIB), DownloadState, str(_state_path(path)))
    if state is None or state.url != redact(url) or not path.exists():
        discard(path)
        return None
    return state


def _reason(error: BaseException) -> str:
    return str(getattr(error, "reason", None) or error) or type(error).__name__
