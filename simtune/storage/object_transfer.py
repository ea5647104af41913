"""The content of objects of any size: large ones are sent and received in parts, several at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from simtune.storage.object_client import bucket_client
from simtune.storage.object_requests import repeated

# The stores take 10,000 parts of at least 5 MiB.
PART_BYTES = 2**23
_MAX_PARTS = 10_000
_PARTS_AT_ONCE = 8


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
        options = {"range": (start, min(start + PART_BYTES, meta["size"])), "if_match": meta["e_tag"]}
        return repeated(lambda: bytes(client.get(key, options=options).bytes()))

    meta, data = repeated(small)
    for block in [data] if data is not None else _at_once(part, range(0, meta["size"], PART_BYTES)):
        take(block)
    return meta


def _at_once(work: Callable[[int], bytes], starts: range) -> Iterator[bytes]:
    """What a function returns for each number, in order; a few calls are ahead."""
    ahead: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(_PARTS_AT_ONCE) as pool:
        try:
            for start in starts:
                ahead.append(pool.submit(work, start))
                if len(ahead) == _PARTS_AT_ONCE:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def send(scheme: str, bucket: str, key: str, source: bytes | Path, size: int, attributes: Mapping[str, str]) -> None:
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
    parts = size > PART_BYTES
    client = bucket_client(scheme, bucket, parts=parts)
    repeated(
        lambda: client.put(
            key,
            source,
            attributes=attributes,
            use_multipart=parts,
            chunk_size=max(PART_BYTES, -(-size // _MAX_PARTS)),
            max_concurrency=_PARTS_AT_ONCE,
        )
    )
