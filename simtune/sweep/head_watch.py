"""Ends a driver whose Ray is gone.

Without its head (the GCS process) a cluster schedules nothing. Ray's own client tries to reach it for a minute and then
aborts in the middle of a call, without a word of what to do; where nothing is asked of the head, or where it is stopped
and not dead, the driver waits for ever. Without the raylet of its own machine a driver is aborted by Ray at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from simtune.secrets import redact_command
from simtune.sweep.lease import release_all

_LOOK_S = 1.0
# What a client of HTTP/2 says first: the server, and not only the system that queues its connections, answers it.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@dataclass(frozen=True)
class Limits:
    """How long a head may be away, and how long it may be there without an answer, in seconds."""

    gone_s: float
    silent_s: float


class HeadWatch:
    """A thread that looks whether the head answers and Ray's processes here live; it calls `lost` where they do not."""

    def __init__(
        self,
        address: str,
        limits: Limits,
        lost: Callable[[str], None],
        processes: Sequence[int] = (),
        look_s: float = _LOOK_S,
    ) -> None:
        """Starts to look.

        Args:
            lost: is told what was lost, once.
            processes: of this machine's Ray, by their numbers; the death of one is the end of all.
            look_s: seconds between two looks.
        """
        host, _, port = address.rpartition(":")
        self._address, self._limits, self._lost = (host.strip("[]"), int(port)), limits, lost
        self._look_s = look_s
        self._wake, self._stop = os.pipe()
        self._processes = {os.pidfd_open(process): process for process in processes if hasattr(os, "pidfd_open")}
        self._thread = threading.Thread(target=self._watch, name="head watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Looks no longer; what ends from here on is meant to."""
        os.close(self._stop)
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _watch(self) -> None:
        away_s = 0.0
        last = time.monotonic()
        while True:
            ended = select.select([self._wake, *self._processes], [], [], self._look_s)[0]
            if self._wake in ended:
                return
            if ended:
                self._lost(f"a process of Ray's (number {self._processes[ended[0]]}) has ended")
                return
            answer, reason = self._look()
            now = time.monotonic()
            # A driver that was stopped itself (Ctrl-Z) has not been looking all the time.
            away_s = 0.0 if answer else away_s + min(now - last, 3 * self._look_s)
            last = now
            if reason and away_s >= (self._limits.gone_s if reason == "is gone" else self._limits.silent_s):
                self._lost(f"Ray's head at {self._address[0]}:{self._address[1]} {reason}")
                return

    def _look(self) -> tuple[bool, str]:
        """Whether the head answers, and otherwise what is wrong."""
        try:
            with socket.create_connection(self._address, timeout=self._look_s) as connection:
                connection.sendall(_HELLO)
                return (True, "") if connection.recv(1) else (False, "does not answer")
        except ConnectionRefusedError:
            return False, "is gone"
        except TimeoutError:
            return False, "does not answer"
        except OSError:
            return False, "is gone"


def end_driver(lost: str, with_children: bool) -> None:
    """Ends this process with exit code 1 and says how to go on: its main thread may be in a call that never returns.

    Args:
        lost: what of Ray was lost.
        with_children: also the processes it has started, which are a local Ray's.
    """
    again = " ".join(["simtune", *redact_command(sys.argv[1:])])
    with contextlib.suppress(OSError, ValueError):
        show_cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""
        sys.stderr.write(
            f"{show_cursor}error: {lost}, and nothing can run without it. What is finished is kept: run `{again}` to "
            "continue\n"
        )
        sys.stderr.flush()
    # Ray's own client may end this process at any moment, so what is said comes first.
    children = psutil.Process().children(recursive=True) if with_children else []
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.kill()
    release_all(within_s=5.0)
    os._exit(1)
