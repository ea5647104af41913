"""SSH to the head of a cluster: its options, commands that run there, and what a failure means."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simtune.cluster.cluster_file import ClusterFile
from simtune.errors import ClusterError, cut


class NoAnswerError(ClusterError):
    """Nothing answers, or not in time; the same may be tried again."""


SSH_FAILED = 255
"""SSH's own exit code where it failed, and not the command on the other machine."""
_CONNECT_S = 10
# Notices after 15 s that nothing arrives any more.
_ALIVE_EVERY_S, _ALIVE_TIMES = 5, 3


def known_hosts() -> Path:
    """The keys of heads that were reached before, apart from the user's own list: heads come and go."""
    return Path("~/.simtune/known_hosts").expanduser()


@dataclass(frozen=True)
class Ssh:
    """How one machine of a cluster is reached.

    Attributes:
        cluster: the cluster's file.
        address: of the machine.
    """

    cluster: ClusterFile
    address: str

    def command(self, *words: str, options: Sequence[str] = ()) -> list[str]:
        """An `ssh` command; with `words` it runs them there, in a shell.

        Raises:
            ClusterError: there is no `ssh` here.
        """
        program = shutil.which("ssh")
        if program is None:
            raise ClusterError("ssh: not found; install the OpenSSH client, which connects to the cluster", True)
        known_hosts().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = {
            # Never a question: nobody may be there to answer.
            "BatchMode": "yes",
            "ConnectTimeout": str(_CONNECT_S),
            "ServerAliveInterval": str(_ALIVE_EVERY_S),
            "ServerAliveCountMax": str(_ALIVE_TIMES),
            "ExitOnForwardFailure": "yes",
            # The first connection to a head learns its key; another key at this address is refused later.
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": str(known_hosts()),
            "LogLevel": "ERROR",
        }
        if self.cluster.keys:
            settings["IdentitiesOnly"] = "yes"
        if self.cluster.proxy_command:
            settings["ProxyCommand"] = self.cluster.proxy_command
        pairs = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        keys = [word for key in self.cluster.keys for word in ("-i", str(key))]
        # The user's shell on the other machine may be any; bash is what Ray's launcher needs there too.
        remote = [shlex.join(["bash", "-c", *words])] if words else []
        return [program, *options, *pairs, *keys, f"{self.cluster.user}@{self.address}", *remote]

    def simtune(self, *words: str) -> str:
        """A shell text that runs `simtune` in the environment that Ray runs in."""
        return self.cluster.activate + shlex.join(["simtune", *words])

    def run(self, script: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Runs a shell text on the machine and waits for its end.

        Args:
            script: for bash.
            data: for its standard input.

        Raises:
            ClusterError: the machine cannot be reached. Whether the script succeeded is for the caller to see.
        """
        done = subprocess.run(self.command(script), input=data, capture_output=True, check=False)  # noqa: S603
        if done.returncode == SSH_FAILED:
            raise self.error(done.stderr.decode(errors="replace"))
        return done

    def error(self, said: str) -> ClusterError:
        """What a failure of `ssh` means, from what it said."""
        lines = [line.strip() for line in said.splitlines() if line.strip(" @")]
        reason = cut(lines[-1]) if lines else "no reason given"
        where = f"{self.cluster.path}: {self.cluster.user}@{self.address}"
        if re.search("IDENTIFICATION HAS CHANGED|Host key verification failed", said):
            return ClusterError(
                f"{where}: a different machine answers at this address than before. If the head was recreated, forget "
                f"its old key: ssh-keygen -R {self.address} -f {known_hosts()}",
                wrong_input=True,
            )
        if re.search("Permission denied|Too many authentication failures|no such identity|bad permissions", said):
            keys = ", ".join(map(str, self.cluster.keys)) or "none given, so ssh's defaults"
            return ClusterError(
                f"{where}: SSH refused the login ({reason}). Check auth.ssh_user and "
                f"auth.ssh_private_key (now: {keys})",
                wrong_input=True,
            )
        return NoAnswerError(
            f"{where}: SSH cannot reach this machine ({reason}). Check that it is on and accepts "
            "connections to its port 22 from this computer"
        )


def forget_host(address: str) -> None:
    """Removes a machine's key from the list of known heads, because the machine is given back."""
    path = known_hosts()
    if path.exists() and (program := shutil.which("ssh-keygen")):
        subprocess.run(  # noqa: S603
            [program, "-R", address, "-f", os.fspath(path)], capture_output=True, check=False
        )
