"""Makes the next items of an iterator in a thread while the last one is worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

_WAIT_S = 0.1


class _End:
    """The iterator's end, and what ended it."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """The items in their order, at most `depth` of them made before they are asked for.

    An error of the iterator is raised where its item would have come. The thread ends with this iterator, at the
    latest when it is closed.
    """
    made: queue.Queue[T | _End] = queue.Queue(maxsize=depth)
    closed = threading.Event()

    def put(item: T | _End) -> None:
        while not closed.is_set():
            with suppress(queue.Full):
                made.put(item, timeout=_WAIT_S)
                return

    def make() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                put(item)
                if closed.is_set():
                    return
        except BaseException as caught:
            error = caught
        put(_End(error))

    thread = threading.Thread(target=make, name="batches", daemon=True)
    thread.start()
    try:
        while True:
            item = made.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        closed.set()
        thread.join()
