"""Ends what neither ends nor fails: a call from another thread if the work in a `with` block takes too long."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def called_unless_done(within_s: float, call: Callable[[], object]) -> Iterator[None]:
    """Calls a function in a thread of its own if the block has not ended within some seconds."""
    timer = threading.Timer(within_s, call)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
