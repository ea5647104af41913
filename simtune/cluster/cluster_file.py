"""The file that describes a cluster for Ray's launcher, and what it says about reaching the cluster's head."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from simtune.errors import UserError, shown
from simtune.outside_files import MIB, read_outside, text_file_errors

_LARGEST_FILE = MIB
_ACTIVATE = re.compile(r"(?:^|[;&\s])(?:source|\.)\s+(\S+/bin/activate)\b")
_DASHBOARD_PORT = re.compile(r"--dashboard-port[=\s]+(\d+)")
# The names that Ray gives to the keys that it makes, on AWS and on Google Cloud.
_KEYS_OF_RAY = "ray-autoscaler*{region}*.pem"
# The settings of a provider that say where a cluster is.
_PLACE = ("type", "head_ip", "region", "project_id", "subscription_id", "resource_group", "location")
# An SSH server closes the connection after six.
_MOST_KEYS = 5


@dataclass(frozen=True)
class ClusterFile:
    """What a cluster's file says.

    Attributes:
        path: of the file.
        name: of the cluster.
        key: its name on this computer, which no cluster has that is elsewhere, even of the same name.
        provider: `aws`, `gcp`, `local`, ...
        head_address: of a cluster of machines that exist already (`provider.type: local`); None: Ray knows it.
        worker_addresses: of the other machines of such a cluster.
        user: whom SSH logs in as.
        keys: files with the private keys for SSH; empty leaves it to SSH's own settings.
        proxy_command: of SSH; None for a direct connection.
        environment: on each machine, the script that activates the environment that has Ray; empty if Ray needs none.
        dashboard_port: where the head's job server listens.
    """

    path: Path
    name: str
    key: str
    provider: str
    head_address: str | None
    worker_addresses: tuple[str, ...]
    user: str
    keys: tuple[Path, ...]
    proxy_command: str | None
    environment: str
    dashboard_port: int

    @property
    def activate(self) -> str:
        """Shell text that goes before a command on a machine."""
        return f". {self.environment} && " if self.environment else ""

    def command(self, words: str) -> str:
        """A command of simtune on this computer that is about this cluster, as messages name it."""
        return f"`simtune {words} --cluster {shlex.quote(str(self.path))}`"


def read_cluster_file(path: Path) -> ClusterFile:
    """Reads a cluster's file. Ray checks the rest of it against its own schema.

    Raises:
        UserError: names the file and what is wrong in it.
    """
    if not path.exists():
        raise UserError(
            f"{path}: no such file; --cluster names the file that describes the cluster, as `ray up` takes it"
        )
    try:
        with text_file_errors(path, "cluster file", UserError):
            settings = yaml.safe_load(read_outside(path, _LARGEST_FILE).decode())
    # Too deeply nested, and an impossible date.
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{where}: not valid YAML ({getattr(error, 'problem', None) or error})") from None
    if not isinstance(settings, dict):
        raise UserError(f"{path}: not a description of a cluster for `ray up`; {_EXAMPLE}")
    if "apiVersion" in settings:
        raise UserError(f"{path}: a Kubernetes manifest; apply it with `kubectl apply -f {path}`, see docs/clusters.md")
    provider = _section(settings, "provider", path)
    provider_type = _text(provider, "provider.type", path)
    user = _text(_section(settings, "auth", path), "auth.ssh_user", path)
    is_local = provider_type == "local"
    start = "\n".join(_texts(settings, "head_start_ray_commands", path))
    activate, port = _ACTIVATE.search(start), _DASHBOARD_PORT.search(start)
    proxy, name = settings["auth"].get("ssh_proxy_command"), _text(settings, "cluster_name", path)
    return ClusterFile(
        path=path,
        name=name,
        key=_key(name, provider),
        provider=provider_type,
        head_address=_text(provider, "provider.head_ip", path) if is_local else None,
        worker_addresses=_texts(provider, "provider.worker_ips", path) if is_local else (),
        user=user,
        keys=_keys(settings["auth"], provider, path),
        proxy_command=str(proxy) if proxy else None,
        environment=activate[1] if activate else "",
        dashboard_port=int(port[1]) if port else 8265,
    )


def _key(name: str, provider: Mapping[str, object]) -> str:
    # Not by its workers and other settings, which may change while it runs.
    identity = json.dumps([str(provider.get(field) or "") for field in _PLACE])
    return f"{quote(name, safe='')}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


_EXAMPLE = "cluster.yaml in simtune's repository is one"


def _section(settings: Mapping[str, object], name: str, path: Path) -> dict[str, Any]:
    section = settings.get(name)
    if not isinstance(section, dict):
        raise UserError(f"{path}: {name}: expected a section, found {shown(section)}; {_EXAMPLE}")
    return section


def _text(section: Mapping[str, object], dotted: str, path: Path) -> str:
    value = section.get(dotted.rpartition(".")[2])
    if not isinstance(value, str) or not value or value.startswith("-") or not value.isprintable():
        raise UserError(f"{path}: {dotted}: expected a string, found {shown(value)}; {_EXAMPLE}")
    return value


def _texts(section: Mapping[str, object], dotted: str, path: Path) -> tuple[str, ...]:
    value = section.get(dotted.rpartition(".")[2])
    if value is not None and not isinstance(value, list):
        raise UserError(f"{path}: {dotted}: expected a list, found {shown(value)}; {_EXAMPLE}")
    return tuple(map(str, value or ()))


def _keys(auth: Mapping[str, object], provider: Mapping[str, object], path: Path) -> tuple[Path, ...]:
    """The named key; without one, those that Ray has made for the region."""
    if auth.get("ssh_private_key") is None:
        region = provider.get("region")
        own = sorted(Path("~/.ssh").expanduser().glob(_KEYS_OF_RAY.format(region=region))) if region else []
        return tuple(own[:_MOST_KEYS])
    return (Path(_text(auth, "auth.ssh_private_key", path)).expanduser(),)
