"""The content of objects of any size: large ones are sent and received in parts, several at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simtune.storage.object_client import bucket_client
from simtune.storage.object_requests import in_background, repeated, result_of

if TYPE_CHECKING:
    from obstore import GetOptions

# The stores take 10,000 parts of at least 5 MiB.
PART_BYTES = 2**23
_MAX_PARTS = 10_000
_PARTS_AT_ONCE = 8
# More than this may take longer, on a slow line, than a store may take to answer.
_QUICK_BYTES = 2**20


def receive(scheme: str, bucket: str, key: str, take: Callable[[bytes], object]) -> Mapping[str, Any]:
    """Passes an object's bytes to a function, in order.

    Args:
        scheme: key of `PROVIDERS`.
        bucket: of the object.
        key: of the object.
        take: called with each part; never twice with the same one.

    Returns:
        Size, ETag and version, as the client has them.

    Raises:
        Exception: of the client; among others if the object is replaced while it is read.
    """
    client = bucket_client(scheme, bucket)

    def small() -> tuple[Mapping[str, Any], bytes | None]:
        answer = client.get(key)
        # The answer with a large body is dropped unread.
        return answer.meta, bytes(answer.bytes()) if answer.meta["size"] <= PART_BYTES else None

    def part(start: int) -> bytes:
        options: GetOptions = {"range": (start, min(start + PART_BYTES, meta["size"])), "if_match": meta["e_tag"]}
        return bytes(client.get(key, options=options).bytes())

    meta, data = repeated(small)
    if data is not None:
        take(data)
    else:
        _in_order([partial(part, start) for start in range(0, meta["size"], PART_BYTES)], take)
    return meta


def _in_order(works: Iterable[Callable[[], bytes]], take: Callable[[bytes], object]) -> None:
    """Passes what functions return to another function, in order; a few calls are ahead."""
    ahead: deque[Future[bytes]] = deque()
    ended = threading.Event()
    try:
        for work in works:
            ahead.append(in_background(work, ended))
            if len(ahead) == _PARTS_AT_ONCE:
                take(result_of(ahead.popleft()))
        while ahead:
            take(result_of(ahead.popleft()))
    finally:
        # After an error or a signal nobody waits for the other parts.
        ended.set()


def send(scheme: str, bucket: str, key: str, source: bytes | Path, size: int, attributes: dict[str, str]) -> None:
    """Writes or replaces an object.

    Args:
        scheme: key of `PROVIDERS`.
        bucket: of the object.
        key: of the object.
        source: the bytes, or a file that has them.
        size: number of bytes.
        attributes: its content type and metadata.

    Raises:
        Exception: of the client.
        OSError: the file cannot be read.
    """
    client = bucket_client(scheme, bucket, large=size > _QUICK_BYTES)
    repeated(
        lambda: client.put(
            key,
            source,
            attributes=attributes,
            use_multipart=size > PART_BYTES,
            chunk_size=max(PART_BYTES, -(-size // _MAX_PARTS)),
            max_concurrency=_PARTS_AT_ONCE,
        )
    )
