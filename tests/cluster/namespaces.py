"""Hosts on one Linux machine: each in namespaces of its own, with an sshd, on a network that leads nowhere else.

A host has its own /tmp, /run, /dev/shm and home folder (/home), and sees the rest of this machine. `/mnt` is the same
folder on all of them, as a file server would give it. Everything ends with the process that has made them.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

LAPTOP = "laptop"
PATH = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_TOOLS = ("ip", "nsenter", "setpriv", "sshd", "ssh-keygen", "unshare")
# Ends when this process does, however it does.
_WITH_THIS_PROCESS = ("setpriv", "--pdeathsig", "KILL")
_NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid")
# What lies in /tmp and has to be seen all the same is bound to /run/seen first, and back once /tmp is empty.
_START_HOST = r"""
set -e
mount --make-rprivate /
hostname "$NAME"
mount --bind "$SHARED" /mnt
mount --bind "$OWN/home" /home
mount --bind "$OWN/run" /run
for file in passwd hosts resolv.conf; do mount --bind "/run/$file" "/etc/$file"; done
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
number=0
for path in $SEEN; do number=$((number + 1)); mkdir -p /run/seen/$number; mount --bind "$path" /run/seen/$number; done
mount -t tmpfs -o mode=1777 tmpfs /tmp
number=0
for path in $SEEN; do number=$((number + 1)); mkdir -p "$path"; mount --bind /run/seen/$number "$path"; done
ip link set lo up
until ip -o addr show eth0 2>/dev/null | grep -q 'inet '; do sleep 0.05; done
exec "$(command -v sshd)" -D -e -f /run/sshd_config
"""


def reason_for_no_hosts() -> str:
    """Why there are to be no such hosts on this machine; empty if there are."""
    if os.environ.get("TEST_ON_HOSTS") != "1":
        return "makes hosts of this machine, 10 minutes for all of them; set TEST_ON_HOSTS=1"
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    if missing := [tool for tool in _TOOLS if shutil.which(tool, path=PATH) is None]:
        return f"needs {', '.join(missing)}"
    command = ["unshare", *_NAMESPACES, "--fork", "true"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"cannot make namespaces: {made.stderr.strip()}" if made.returncode else ""


class Hosts:
    """Hosts that can be cut off, healed, switched off and on. Leave the context to remove them."""

    def __init__(self, folder: Path, subnet: str = "10.199.0") -> None:
        """Makes a network without hosts.

        Args:
            folder: for the hosts' files and the shared folder (`shared`).
            subnet: the first three numbers of the hosts' addresses; no one outside sees them.
        """
        self.folder, self.shared = folder, folder / "shared"
        self._subnet = subnet
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.shared.mkdir(parents=True)
        for key in ("host_key", "user_key"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key))
        # Holds the network: a bridge, to which every host has a cable.
        command = [*_WITH_THIS_PROCESS, "unshare", "--net", "sleep", "infinity"]
        self._switch = subprocess.Popen(command, start_new_session=True)
        _wait(lambda: not _same_network(self._switch.pid, os.getpid()), "a network")
        self._on_switch("ip", "link", "add", "bridge", "type", "bridge")
        self._on_switch("ip", "link", "set", "bridge", "up")

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *error: object) -> None:
        for host in list(self._processes):
            self.switch_off(host)
        self._switch.kill()
        self._switch.wait()

    def address(self, host: str) -> str:
        return f"{self._subnet}.{100 if host == LAPTOP else 10 + int(host.removeprefix('h'))}"

    def switch_on(self, host: str) -> None:
        """Starts `laptop`, `h1`, `h2`, ... with empty folders."""
        own = self.folder / host
        shutil.rmtree(own, ignore_errors=True)
        self._write_files(host, own)
        seen = [path for path in (sys.prefix, str(Path(__file__).parents[2])) if Path(path).is_relative_to("/tmp")]  # noqa: S108
        environment = {"NAME": host, "OWN": str(own), "SHARED": str(self.shared), "SEEN": " ".join(seen), "PATH": PATH}
        new = ["unshare", *_NAMESPACES]
        with (self.folder / f"{host}.log").open("wb") as log:
            self._processes[host] = subprocess.Popen(
                [*_WITH_THIS_PROCESS, *new, "--fork", "--kill-child", "--mount-proc", "bash", "-c", _START_HOST],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _wait(lambda: bool(self._first_process(host)), f"the first process of {host}")
        pid = str(self._first_process(host))
        self._on_switch("ip", "link", "add", f"to-{host}", "type", "veth", "peer", "name", "eth0", "netns", pid)
        self.heal(host)
        inside = ["nsenter", "--target", pid, "--net", "ip"]
        _run(*inside, "link", "set", "eth0", "up")
        _run(*inside, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
        # To nobody; but Ray takes the address from which packets to the world would leave.
        _run(*inside, "route", "add", "default", "via", f"{self._subnet}.1")
        _wait(lambda: ":22 " in self.run(host, "ss -Hltn").stdout, f"the sshd of {host} ({self.folder}/{host}.log)")

    def switch_off(self, host: str) -> None:
        """Pulls the plug: silence first, then every process ends."""
        self.cut(host)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._first_process(host), signal.SIGKILL)
        self._processes.pop(host).wait()
        with contextlib.suppress(subprocess.CalledProcessError):
            self._on_switch("ip", "link", "del", f"to-{host}")

    def cut(self, host: str) -> None:
        """Packets from and to the host vanish, as when a switch dies."""
        self._on_switch("ip", "link", "set", f"to-{host}", "nomaster")

    def heal(self, host: str) -> None:
        """Packets flow again."""
        self._on_switch("ip", "link", "set", f"to-{host}", "master", "bridge", "up")

    def run(self, host: str, command: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Runs a line of bash on a host, as root in its home folder; the caller looks at the exit code."""
        words = self.command(host, command)
        return subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False)

    def start(self, host: str, command: str, log: Path) -> subprocess.Popen[bytes]:
        """Starts a line of bash on a host; it goes on when this returns."""
        with log.open("ab") as file:
            return subprocess.Popen(self.command(host, command), stdin=subprocess.DEVNULL, stdout=file, stderr=file)

    def command(self, host: str, command: str) -> list[str]:
        """The words that run a line of bash on a host."""
        pid = str(self._first_process(host))
        environment = [f"PATH={PATH}", "HOME=/home", "USER=root", "LANG=C.UTF-8", "TERM=dumb"]
        enter = ["nsenter", "--target", pid, *_NAMESPACES]
        return [*enter, "env", "-i", *environment, "bash", "-c", f"cd; {command}"]

    def _write_files(self, host: str, own: Path) -> None:
        run, ssh = own / "run", own / "home/.ssh"
        for folder in (run / "sshd", ssh):
            folder.mkdir(parents=True, mode=0o700)
        users = Path("/etc/passwd").read_text().splitlines()
        users = [line for line in users if not line.startswith("root:")]
        names = [LAPTOP, *(f"h{number}" for number in range(1, 20))]
        files = {
            "passwd": "\n".join(["root:x:0:0:root:/home:/bin/bash", *users, ""]),
            "hosts": "".join(f"{address} {name}\n" for name, address in self._addresses(names).items()),
            "resolv.conf": "",
            "sshd_config": f"ListenAddress {self.address(host)}\nHostKey /run/host_key\nUsePAM no\nUseDNS no\n"
            "AuthorizedKeysFile /run/user_key.pub\nPasswordAuthentication no\nStrictModes no\nPidFile none\n"
            f"PrintMotd no\nPrintLastLog no\nMaxStartups 100\nSetEnv PATH={PATH}\n",
        }
        for name, text in files.items():
            (run / name).write_text(text)
        for name in ("host_key", "user_key.pub"):
            shutil.copy(self.folder / name, run / name)
        if host == LAPTOP:
            shutil.copy(self.folder / "user_key", ssh / "id_ed25519")

    def _addresses(self, names: list[str]) -> dict[str, str]:
        return {"localhost": "127.0.0.1", **{name: self.address(name) for name in names}}

    def _first_process(self, host: str) -> int:
        """The host's process number 1, as this machine counts; 0 if there is none."""
        outer = self._processes[host].pid
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
            return int(children[0]) if children else 0
        return 0

    def _on_switch(self, *words: str) -> None:
        _run("nsenter", "--target", str(self._switch.pid), "--net", *words)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, shlex.join(words), done.stdout, done.stderr)


def _same_network(one: int, other: int) -> bool:
    return Path(f"/proc/{one}/ns/net").readlink() == Path(f"/proc/{other}/ns/net").readlink()


def _wait(ready, what: str, limit_s: float = 20.0) -> None:
    until = time.monotonic() + limit_s
    while not ready():
        if time.monotonic() > until:
            raise TimeoutError(f"{what} did not come up within {limit_s:.0f} s")
        time.sleep(0.02)
