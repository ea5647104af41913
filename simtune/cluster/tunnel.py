"""An SSH tunnel from a socket in a folder of this user alone to the job server of a cluster's head.

A port would be open to every user of this computer, and another user's process could take it first and read the token.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from simtune.cluster.ssh import Ssh

_OPEN_WITHIN_S = 30.0
_POLL_S = 0.05
# The path of a socket may have some hundred bytes.
_LONGEST_FOLDER = 60


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
        is_short = len(tempfile.gettempdir()) <= _LONGEST_FOLDER
        self._folder = tempfile.TemporaryDirectory(prefix="simtune-", dir=None if is_short else "/tmp")  # noqa: S108
        self._socket = Path(self._folder.name) / "jobs"

    def command(self) -> list[str]:
        """The `ssh` command of the tunnel."""
        forward = f"{self._socket}:127.0.0.1:{self._remote_port}"
        # Ends when its standard input does, so with this process, however that ends.
        return self._ssh.command("exec cat", options=("-T", "-o", "StreamLocalBindUnlink=yes", "-L", forward))

    def socket(self) -> Path:
        """The socket of this computer that leads to the head; opens the tunnel if it is not open.

        Raises:
            ClusterError: the head cannot be reached.
        """
        if self._process is None or self._process.poll() is not None:
            self._open()
        return self._socket

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
        self._folder.cleanup()

    def _open(self) -> None:
        self._said.seek(0)
        self._said.truncate()
        self._socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(  # noqa: S603
            self.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            # Ctrl-C is this process's to handle: it may still have to ask the head for something.
            start_new_session=True,
        )
        if not self._is_open():
            self.break_off()
            self._said.seek(0)
            raise self._ssh.error(self._said.read().decode(errors="replace"))

    def _is_open(self) -> bool:
        """Waits until the socket accepts connections, which SSH does once it has logged in."""
        until = time.monotonic() + _OPEN_WITHIN_S
        while self._process is not None and self._process.poll() is None and time.monotonic() < until:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1.0)
                probe.connect(str(self._socket))
                return True
            time.sleep(_POLL_S)
        return False
