"""Ends a driver whose Ray is gone.

Without its head (the GCS process) a cluster schedules nothing. Ray's own client tries to reach it for a minute and then
aborts in the middle of a call, without a word of what to do; where nothing is asked of the head, or where it is stopped
and not dead, the driver waits for ever. Without the raylet of its own machine a driver is aborted by Ray at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import psutil

from simtune.drivers.lease import release_all_leases
from simtune.redaction import redact_command

_LOOK_S = 1.0
_GONE, _SILENT = "is gone", "does not answer"
# What a client of HTTP/2 says first: the server, and not only the system that queues its connections, answers it.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@dataclass(frozen=True)
class Limits:
    """How long a head may be away, be there without an answer, and have no worker that has started, in seconds."""

    gone_s: float
    silent_s: float
    start_s: float = 300.0


class HeadWatch:
    """A thread that looks whether Ray's servers answer and its processes here live, and calls `lost` where not."""

    def __init__(
        self,
        servers: Mapping[str, str],
        limits: Limits,
        lost: Callable[[str], None],
        processes: Sequence[int] = (),
        ready: Callable[[], bool] = lambda: True,
        look_s: float = _LOOK_S,
    ) -> None:
        """Starts to look.

        Args:
            servers: addresses (host:port) of what everything depends on, by name.
            lost: is told what was lost, once.
            processes: of this machine's Ray, by their numbers; the death of one is the end of all.
            ready: whether a worker has started. Ray itself would start workers that fail again without end.
            look_s: seconds between two looks.
        """
        self._servers = {f"{name} at {address}": _host_and_port(address) for name, address in servers.items()}
        self._limits, self._lost = limits, lost
        self._look_s, self._ready = look_s, ready
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
        away_s = dict.fromkeys(self._servers, 0.0)
        starting_s, ready = 0.0, False
        last = time.monotonic()
        while True:
            ended = select.select([self._wake, *self._processes], [], [], self._look_s)[0]
            if self._wake in ended:
                return
            if ended:
                self._lost(f"a process of Ray's (number {self._processes[ended[0]]}) has ended")
                return
            problems = {name: self._look(address) for name, address in self._servers.items()}
            # A driver that was stopped itself (Ctrl-Z) has not been looking all the time.
            passed_s = min(time.monotonic() - last, 3 * self._look_s * len(problems))
            last = time.monotonic()
            for name, problem in problems.items():
                away_s[name] = away_s[name] + passed_s if problem else 0.0
                if problem and away_s[name] >= (self._limits.gone_s if problem == _GONE else self._limits.silent_s):
                    self._lost(f"{name} {problem}")
                    return
            ready = ready or (not any(problems.values()) and self._ready())
            starting_s += 0.0 if ready else passed_s
            if starting_s >= self._limits.start_s:
                self._lost(f"no worker of Ray's has started in {self._limits.start_s:.0f} s")
                return

    def _look(self, address: tuple[str, int]) -> str:
        """What is wrong with a server; empty where it answers."""
        try:
            connection = socket.create_connection(address, timeout=self._look_s)
        except TimeoutError:
            return _SILENT
        except OSError:
            return _GONE
        with connection:
            try:
                connection.sendall(_HELLO)
                connection.recv(1)
            except TimeoutError:
                return _SILENT
            except OSError:
                # A server that wants TLS ends the connection, which is an answer too.
                return ""
            return ""


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def end_driver(lost: str, with_children: bool, clean_up: Callable[[], None] = lambda: None) -> None:
    """Ends this process with exit code 1 and says how to go on: its main thread may be in a call that never returns.

    Args:
        lost: what of Ray was lost.
        with_children: also the processes it has started, which are a local Ray's.
        clean_up: what else to do last.
    """
    again = shlex.join(["simtune", *redact_command(sys.argv[1:])])
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
    release_all_leases(within_s=5.0)
    clean_up()
    os._exit(1)
