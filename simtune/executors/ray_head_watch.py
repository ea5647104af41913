"""Ends a driver whose Ray is lost.

Without its head (the GCS process) a cluster schedules nothing. Ray's own client tries to reach the head for a minute,
then aborts in the middle of a call, without saying what to do. If nothing is requested from the head, or if it is
stopped but not dead, the driver waits forever. If the raylet of its own machine ends, Ray aborts a driver immediately.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from simtune.drivers.run_lease import release_all_leases
from simtune.ray_head import HELLO, RAY_IS_LOST
from simtune.redaction import command_again

_CHECK_S = 1.0
_UNREACHABLE, _UNRESPONSIVE = "cannot be reached", "does not answer"


@dataclass(frozen=True)
class Limits:
    """How long Ray may be in trouble before it counts as lost, in seconds.

    Attributes:
        unreachable_s: without a server at the address.
        unresponsive_s: without an answer of the server.
        start_s: without a worker that has started.
    """

    unreachable_s: float
    unresponsive_s: float
    start_s: float = 300.0


# The head of a cluster may be restarted, and Ray's own processes wait a minute for it.
LIMITS = {
    "local": Limits(unreachable_s=4.0, unresponsive_s=30.0),
    "cluster": Limits(unreachable_s=45.0, unresponsive_s=60.0),
}


class HeadWatch:
    """A thread that checks that Ray's servers answer and its local processes live, and calls `lost` if not."""

    def __init__(
        self,
        servers: Mapping[str, str],
        limits: Limits,
        lost: Callable[[str], None],
        processes: Sequence[int] = (),
        ready: Callable[[], bool] = lambda: True,
        check_s: float = _CHECK_S,
    ) -> None:
        """Starts to check.

        Args:
            servers: addresses (host:port) of the servers that everything depends on, by name.
            limits: how long Ray may be in trouble.
            lost: called once with a description of what was lost.
            processes: ids of the local Ray's processes, all of which are needed.
            ready: whether a worker has started. Ray itself would restart failing workers forever.
            check_s: seconds between two checks.
        """
        self._servers = {f"{name} at {address}": host_and_port(address) for name, address in servers.items()}
        self._limits, self._lost = limits, lost
        self._check_s, self._ready = check_s, ready
        self._wake, self._stop = os.pipe()
        self._processes = {os.pidfd_open(process): process for process in processes if hasattr(os, "pidfd_open")}
        self._thread = threading.Thread(target=self._watch, name="head watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the checks, because Ray is about to be stopped."""
        os.close(self._stop)
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _watch(self) -> None:
        failing_s = dict.fromkeys(self._servers, 0.0)
        starting_s, ready = 0.0, False
        last = time.monotonic()
        while True:
            ended = select.select([self._wake, *self._processes], [], [], self._check_s)[0]
            if self._wake in ended:
                return
            if ended:
                self._lost(f"process {self._processes[ended[0]]}, a part of Ray, has ended")
                return
            problems = {name: self._check(address) for name, address in self._servers.items()}
            # The driver itself may have been stopped (Ctrl-Z) since the last check.
            passed_s = min(time.monotonic() - last, 3 * self._check_s * len(problems))
            last = time.monotonic()
            for name, problem in problems.items():
                failing_s[name] = failing_s[name] + passed_s if problem else 0.0
                limits = self._limits
                limit_s = limits.unreachable_s if problem == _UNREACHABLE else limits.unresponsive_s
                if problem and failing_s[name] >= limit_s:
                    self._lost(f"{name} {problem}")
                    return
            ready = ready or (not any(problems.values()) and self._ready())
            starting_s += 0.0 if ready else passed_s
            if starting_s >= self._limits.start_s:
                self._lost(f"Ray has started no worker within {self._limits.start_s:.0f} s")
                return

    def _check(self, address: tuple[str, int]) -> str:
        """What is wrong with a server; empty if it answers."""
        try:
            connection = socket.create_connection(address, timeout=self._check_s)
        except TimeoutError:
            return _UNRESPONSIVE
        except OSError:
            return _UNREACHABLE
        with connection:
            try:
                connection.sendall(HELLO)
                connection.recv(1)
            except TimeoutError:
                return _UNRESPONSIVE
            except OSError:
                # A server with TLS closes the connection, which is an answer too.
                return ""
            return ""


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of `host:port`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def end_driver(
    lost: str, kill_workers: Callable[[], None] = lambda: None, clean_up: Callable[[], None] = lambda: None
) -> None:
    """Ends this process with exit code 75, even if its main thread is in a call that never returns; says what to do.

    Args:
        lost: a description of what was lost.
        kill_workers: called before the leases are released, after which nothing may be written.
        clean_up: called last.
    """
    with contextlib.suppress(OSError, ValueError):
        show_cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""
        sys.stderr.write(
            f"{show_cursor}error: {lost}, and nothing can run without it. Finished results are kept; run "
            f"`{command_again()}` to continue\n"
        )
        sys.stderr.flush()
    # Ray's client may end this process at any moment, so the message comes first.
    kill_workers()
    release_all_leases(within_s=5.0)
    clean_up()
    os._exit(RAY_IS_LOST)
