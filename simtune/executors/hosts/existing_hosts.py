"""Hosts that exist already, for Ray's autoscaler: `provider.type: local` of a cluster file, as it should be.

Ray 2.60 has such a provider, but its autoscaler v2 does not work with it:

- All hosts have one type with one `min_workers`, and the head counts as one of them: a worker too few is started.
- A host is its address. When it was lost and is started again, the autoscaler finds the dead node of that address in
  Ray's list, takes the host for stopped, and begins again, for ever.
- The hosts are those that were there when the autoscaler started.

Here the head has a type of its own, every start of a host has a new name, and the cluster file is read again when it
changes. The head uses this; what runs on a laptop (`ray up`, `ray down`) is Ray's own.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from pathlib import Path
from typing import Any

import yaml
from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

_LOG = logging.getLogger(__name__)
# What `ray up` calls the type of all hosts.
_RAYS_TYPE = "local.cluster.node"
_WORKER = "existing.host"
_ADDRESSES = ("head_ip", "worker_ips")


def autoscaler_config(cluster: dict[str, Any], path: Path) -> dict[str, Any]:
    """What the autoscaler is given for a cluster of existing hosts.

    Args:
        cluster: what `ray up` has sent to the head.
        path: of the file that has it.
    """
    given = cluster["available_node_types"][_RAYS_TYPE]
    return {
        **cluster,
        "provider": {
            "type": "external",
            "module": f"{__name__}.{ExistingHosts.__name__}",
            "cluster_file": str(path),
            "head_node_type": cluster["head_node_type"],
            **{name: cluster["provider"][name] for name in _ADDRESSES},
        },
        "available_node_types": {
            # The head was started as a node of this type.
            cluster["head_node_type"]: {**given, "min_workers": 0, "max_workers": 0},
            _WORKER: given,
        },
        # They are among the others already, and would be added to those once more.
        "setup_commands": [],
    }


def write_autoscaler_config(path: Path) -> Path | None:
    """Writes what the autoscaler is given beside the file of the cluster.

    Args:
        path: of what `ray up` has sent to the head.

    Returns:
        The new file's path; None if the cluster's hosts are not existing ones.
    """
    cluster = yaml.safe_load(path.read_text())
    if cluster["provider"]["type"] != "local" or _RAYS_TYPE not in cluster["available_node_types"]:
        return None
    written = path.with_name(f"{path.stem}_existing_hosts.json")
    new = written.with_suffix(".new")
    new.write_text(json.dumps(autoscaler_config(cluster, path)))
    new.replace(written)
    return written


class ExistingHosts(NodeProvider):
    """Starts Ray on hosts that exist, for Ray's autoscaler.

    A node is one start of a host: its name is the host's address and the time. The head is there from the beginning.
    """

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        # It would complain of two fields, of its own making, whenever the file is read: every five seconds.
        logging.getLogger("ray.autoscaler._private.util").setLevel(logging.ERROR)
        self._file = Path(provider_config["cluster_file"])
        self._changed = self._file.stat().st_mtime_ns
        self._workers: list[str] = provider_config["worker_ips"]
        head = provider_config["head_ip"]
        self._host_of = {head: head}
        self._tags = {
            head: {
                TAG_RAY_NODE_KIND: NODE_KIND_HEAD,
                TAG_RAY_USER_NODE_TYPE: provider_config["head_node_type"],
                TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
            }
        }
        self._last_started: dict[str, int] = {}
        # The autoscaler starts hosts in threads.
        self._lock = threading.RLock()

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        with self._lock:
            self._read_changes()
            return [node for node, tags in self._tags.items() if tag_filters.items() <= tags.items()]

    def is_running(self, node_id: str) -> bool:
        return node_id in self._tags

    def is_terminated(self, node_id: str) -> bool:
        return not self.is_running(node_id)

    def node_tags(self, node_id: str) -> dict[str, str]:
        with self._lock:
            return dict(self._tags.get(node_id, {}))

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        with self._lock:
            if node_id in self._tags:
                self._tags[node_id].update(tags)

    def internal_ip(self, node_id: str) -> str:
        return socket.gethostbyname(self._host_of[node_id])

    def external_ip(self, node_id: str) -> str:
        return self.internal_ip(node_id)

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> None:
        """Names new nodes on hosts that have none, at most `count`; those first that were not tried for longest."""
        with self._lock:
            used = {self._host_of[node] for node in self._tags}
            free = [host for host in self._workers if host not in used]
            for host in sorted(free, key=lambda host: self._last_started.get(host, 0))[:count]:
                self._last_started[host] = time.time_ns()
                node = f"{host}_{self._last_started[host]}"
                self._host_of[node] = host
                self._tags[node] = dict(tags)

    def terminate_node(self, node_id: str) -> None:
        """Gives the host back. Whatever still runs on it ends when it is started again."""
        with self._lock:
            self._tags.pop(node_id, None)

    def _read_changes(self) -> None:
        """Reads the cluster's file again if it has changed: hosts are added without a restart of the head."""
        try:
            changed = self._file.stat().st_mtime_ns
            if changed != self._changed and write_autoscaler_config(self._file) is not None:
                self._workers = yaml.safe_load(self._file.read_text())["provider"]["worker_ips"]
                self._changed = changed
        except (OSError, yaml.YAMLError, LookupError, TypeError):
            _LOG.exception("%s cannot be read; the hosts stay as they are", self._file)
