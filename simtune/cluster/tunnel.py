"""An SSH tunnel from a port of this machine's loopback interface to the job server of a cluster's head."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time

from simtune.cluster.ssh import Ssh, prepare_known_hosts
from simtune.errors import ClusterError

_OPEN_WITHIN_S = 30.0
_POLL_S = 0.05
_FORWARD_FAILED = "Address already in use"
_MOST_PORTS = 5


class Tunnel:
    """A tunnel that can be opened again after it broke."""

    def __init__(self, ssh: Ssh, remote_port: int) -> None:
        """Opens nothing yet.

        Args:
            ssh: how the head is reached.
            remote_port: on the head's loopback interface.
        """
        self._ssh, self._remote_port = ssh, remote_port
        self._process: subprocess.Popen[bytes] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 closed by `close`
        self._port = 0

    def command(self, port: int) -> list[str]:
        """The `ssh` command of a tunnel from this port."""
        forward = f"127.0.0.1:{port}:127.0.0.1:{self._remote_port}"
        # Ends when its standard input does, so with this process, however that ends.
        return self._ssh.command("exec cat", options=("-T", "-L", forward))

    def port(self) -> int:
        """The port of this machine that leads to the head; opens the tunnel if it is not open.

        Raises:
            ClusterError: the head cannot be reached.
        """
        if self._process is None or self._process.poll() is not None:
            self._open()
        return self._port

    def break_off(self) -> None:
        """Ends the tunnel, because nothing arrives through it any more."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def close(self) -> None:
        """Ends the tunnel for good."""
        self.break_off()
        self._said.close()

    def _open(self) -> None:
        prepare_known_hosts()
        for _ in range(_MOST_PORTS):
            self._port = _free_port()
            self._said.seek(0)
            self._said.truncate()
            self._process = subprocess.Popen(  # noqa: S603
                self.command(self._port),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                # Ctrl-C is this process's to handle: it may still have to ask the head for something.
                start_new_session=True,
            )
            if self._is_open():
                return
            self.break_off()
            self._said.seek(0)
            said = self._said.read().decode(errors="replace")
            # Another process has taken the port in the meantime.
            if _FORWARD_FAILED not in said:
                raise self._ssh.error(said)
        raise ClusterError(f"no free port on this machine for a tunnel to {self._ssh.address}")

    def _is_open(self) -> bool:
        """Waits until the port accepts connections, which SSH does once it has logged in."""
        until = time.monotonic() + _OPEN_WITHIN_S
        while self._process is not None and self._process.poll() is None and time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1.0):
                return True
            time.sleep(_POLL_S)
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
