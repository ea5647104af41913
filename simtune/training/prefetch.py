"""Makes the next items of an iterator in a thread while the last one is being used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

_WAIT_S = 0.1


class _End:
    """The end of the items: exhausted, or an error."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetch(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """The items in order; up to `depth` of them are made before they are needed.

    An error of the iterator is raised at the position of the item that failed. The thread ends when this iterator is
    exhausted or closed.
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
