"""Ends a driver whose Ray head is gone.

Without its head (the GCS process) a cluster schedules nothing. Ray's own client tries to reach it for a minute and then
aborts in the middle of a call, without a word of what to do; where nothing is asked of the head the driver waits for
ever.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable

import psutil

_LOOK_S = 1.0


class HeadWatch:
    """A thread that looks whether something listens at the head's address, and calls `gone` where nothing does."""

    def __init__(
        self,
        address: str,
        gone_after_s: float,
        gone: Callable[[], None],
        look_s: float = _LOOK_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        host, _, port = address.rpartition(":")
        self._address, self._gone_after_s, self._gone = (host.strip("[]"), int(port)), gone_after_s, gone
        self._look_s, self._clock = look_s, clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="head watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _watch(self) -> None:
        seen = self._clock()
        while not self._stop.wait(self._look_s):
            if self._answers():
                seen = self._clock()
            elif self._clock() - seen >= self._gone_after_s:
                self._gone()
                return

    def _answers(self) -> bool:
        try:
            socket.create_connection(self._address, timeout=self._look_s).close()
        except OSError:
            return False
        return True


def end_driver(address: str, with_children: bool) -> None:
    """Ends this process with exit code 1 and says how to go on: its main thread may be in a call that never returns.

    Args:
        with_children: also the processes it has started, which are a local Ray's.
    """
    show_cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""
    sys.stderr.write(
        f"{show_cursor}error: Ray's head at {address} is gone, and nothing can run without it. What is finished is "
        "kept: run the same command again to continue\n"
    )
    sys.stderr.flush()
    if with_children:
        for child in psutil.Process().children(recursive=True):
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
    os._exit(1)
