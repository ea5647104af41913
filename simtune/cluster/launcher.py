"""Ray's cluster launcher, called as the command that it is: `ray up`, `ray down`, `ray get-head-ip`."""

from __future__ import annotations

import ipaddress
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from simtune.cluster.cluster_file import ClusterFile
from simtune.errors import ClusterError, cut
from simtune.storage.files import write_text
from simtune.wording import last_line

_STANDARD_ERROR = 2
# A host name or an address.
_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")


def ray_command(*words: str) -> list[str]:
    """The `ray` command of the environment that this process runs in."""
    return [sys.executable, "-m", "ray.scripts.scripts", *words]


def ray_up(cluster: ClusterFile, config: Mapping[str, object], restart: bool) -> None:
    """Creates or updates a cluster; shows what the launcher prints.

    Args:
        cluster: its file.
        config: what `launcher_config` made of it.
        restart: whether Ray is stopped and started again on machines where it runs already.

    Raises:
        ClusterError: the launcher has failed.
    """
    path = Path("~/.simtune/launched").expanduser() / f"{cluster.key}.yaml"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_text(path, yaml.safe_dump(dict(config), sort_keys=False))
    _shown("up", "-y", "--log-style", "pretty", *([] if restart else ["--no-restart"]), str(path))


def ray_down(cluster: ClusterFile) -> None:
    """Gives the machines of a cluster back; shows what the launcher prints.

    Raises:
        ClusterError: the launcher has failed.
    """
    _shown("down", "-y", "--log-style", "pretty", str(cluster.path))


def head_address(cluster: ClusterFile) -> str:
    """The address of a cluster's head.

    Raises:
        ClusterError: there is no head.
    """
    if cluster.head_address is not None:
        return cluster.head_address
    done = subprocess.run(  # noqa: S603
        ray_command("get-head-ip", str(cluster.path)), capture_output=True, text=True, check=False, env=_environment()
    )
    last = last_line(done.stdout)
    if done.returncode == 0 and (_is_address(last) or _ADDRESS.fullmatch(last)):
        return last
    reason = cut(last_line(done.stderr or done.stdout) or "no reason given")
    raise ClusterError(
        f"{cluster.path}: no head of cluster {cluster.name!r} is running ({reason})"
        f". Start it with {cluster.command('cluster up')}",
        wrong_input=True,
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _shown(*words: str) -> None:
    """Runs a command of the launcher, which writes to this command's own standard error."""
    done = subprocess.run(  # noqa: S603
        ray_command(*words), stdout=_STANDARD_ERROR, check=False, env=_environment()
    )
    if done.returncode:
        raise ClusterError(f"`ray {' '.join(words)}` failed with exit code {done.returncode}; its output is above")


def _environment() -> dict[str, str]:
    # Neither the launcher nor what it starts is to read modules from the working directory.
    return {**os.environ, "PYTHONSAFEPATH": "1", "RAY_AUTH_MODE": "token"}
