"""Calls a function from another thread if the work in a `with` block has not ended by a deadline.

Nothing in a block that hangs can look at a clock: a program that does not start, or a collective operation that waits
forever.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def deadline(within_s: float, call: Callable[[], object]) -> Iterator[None]:
    """Calls a function in a thread of its own if the block has not ended within some seconds."""
    timer = threading.Timer(within_s, call)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
