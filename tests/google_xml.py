"""Google Cloud Storage's XML interface, made from a server of S3's.

Google made the one to be like the other: paths, listings and uploads in parts are the same. What differs is here, as
Google documents it (cloud.google.com/storage/docs/xml-api): each write of an object has a generation of its own,
conditions compare generations (0: no such object), metadata has other names, and removing nothing is an error. None of
the servers that others have made keeps the conditions of this interface.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs, quote

_MATCH = "HTTP_X_GOOG_IF_GENERATION_MATCH"
_REFUSED = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>%s</Message></Error>"


class GoogleXml:
    """A WSGI application around one that speaks S3; must be called by one thread at a time."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._generations: dict[str, int] = {}
        # As at Google, they grow with time.
        self._next = itertools.count(time.time_ns() // 1000)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        key, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        parts = {"uploadId", "uploads"} & set(parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True))
        wanted = environ.get(_MATCH)
        if wanted is not None and int(wanted) != self._generations.get(key, 0):
            return _refuse(start_response, "412 Precondition Failed", b"PreconditionFailed", b"Not this generation.")
        if method == "DELETE" and not parts and key not in self._generations:
            return _refuse(start_response, "404 Not Found", b"NoSuchKey", b"The specified key does not exist.")

        def answer(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            if status.startswith("200") and (
                (method == "PUT" and not parts) or (method == "POST" and "uploadId" in parts)
            ):
                self._generations[key] = next(self._next)
            elif method == "DELETE" and not parts:
                del self._generations[key]
            renamed = [(name.lower().replace("x-amz-", "x-goog-"), value) for name, value in headers]
            if key in self._generations:
                renamed.append(("x-goog-generation", str(self._generations[key])))
            return start_response(status, renamed, *more)

        return list(self._app(_as_s3(environ), answer))


def _as_s3(environ: dict[str, Any]) -> dict[str, Any]:
    renamed = {name.replace("HTTP_X_GOOG_", "HTTP_X_AMZ_"): value for name, value in environ.items() if name != _MATCH}
    # moto reads addresses as they were sent, and Google's client encodes hyphens, too.
    path = quote(environ["PATH_INFO"].encode("latin-1"))
    address = f"{path}?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else path
    # It finds the service in the signature.
    signature = "AWS4-HMAC-SHA256 Credential=a-test/20260101/us-east-1/s3/aws4_request"
    return renamed | {"HTTP_AUTHORIZATION": signature, "RAW_URI": address, "REQUEST_URI": address}


def _refuse(start_response: Callable[..., Any], status: str, code: bytes, message: bytes) -> list[bytes]:
    body = _REFUSED % (code, message)
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]
