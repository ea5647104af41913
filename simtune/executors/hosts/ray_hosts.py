"""The hosts of the connected Ray."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import ray
from ray._private import state

from simtune.executors.placement import Host, WorkerResources
from simtune.executors.ray_head_watch import host_and_port
from simtune.executors.slots.slot_progress import Worker, WorkerHost
from simtune.ray_head import HELLO

# Longer than Ray needs to notice a loss (see `ray_start_hook`).
_NOTICED_WITHIN_S = 30.0
_ANSWER_S = 2.0
# It decides every five seconds.
_DECIDES_WITHIN_S = 30.0
NODE_ID = "ray.io/node-id"
"""The label that Ray gives each host."""


def ask_autoscaler(bundles: list[dict[str, float]]) -> None:
    """Asks for hosts that hold all of this at once, instead of what was asked for before; nothing gives them back.

    Without an autoscaler this has no effect.
    """
    from ray.autoscaler.sdk import request_resources

    # A head that does not answer for a moment: trials that wait are a request, too.
    with contextlib.suppress(Exception):
        request_resources(bundles=bundles)


def has_autoscaler() -> bool:
    """Whether an autoscaler can add hosts: `ray up` and KubeRay start one of the second version, `ray start` none."""
    from ray.autoscaler.v2.utils import is_autoscaler_v2

    # Internal to Ray: where a release has moved it, or the head does not answer, hosts are not waited for.
    with contextlib.suppress(Exception):
        return bool(is_autoscaler_v2(fetch_from_server=True))
    return False


def is_refused_by_autoscaler() -> bool:
    """Whether the autoscaler says that no hosts of its types hold what was last asked for; takes some seconds."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply

    client = GcsClient(ray.get_runtime_context().gcs_address)

    def decided() -> Any:
        reply = client.get_cluster_status(timeout_s=_ANSWER_S)
        return GetClusterStatusReply.FromString(reply).autoscaling_state

    ends, first = time.monotonic() + _DECIDES_WITHIN_S, None
    while time.monotonic() < ends:
        # A head that does not answer for a moment, as in `ask_autoscaler`.
        with contextlib.suppress(Exception):
            now = decided()
            first = now.autoscaler_state_version if first is None else first
            # It may have begun with the next one before it was asked.
            if now.autoscaler_state_version >= first + 2:
                return bool(now.infeasible_cluster_resource_constraints)
        time.sleep(1.0)
    return False


def alive_nodes() -> dict[str, Mapping[str, Any]]:
    """What Ray says of the hosts that are there now, by their ids."""
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def host_names(nodes: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What users call hosts, by their ids: their name, with the id where several have the same."""
    names = {node["NodeID"]: str(node["NodeManagerHostname"]) for node in nodes}
    counts = Counter(names.values())
    return {id_: f"{name} ({id_[:8]})" if counts[name] > 1 else name for id_, name in names.items()}


def hosts_for_workers(without: str = "") -> list[Host]:
    """The hosts that are there now and offer CPUs to workers, the largest first; without that of an id."""
    nodes = [node for id_, node in alive_nodes().items() if id_ != without]
    offers = [(node["NodeManagerHostname"], node["Resources"]) for node in nodes]
    hosts = [Host(name, int(each.get("CPU", 0)), each.get("GPU", 0.0)) for name, each in offers]
    return sorted((host for host in hosts if host.num_cpus), key=lambda host: (-host.num_cpus, host.name))


def hosts_by_id() -> tuple[dict[str, Host], dict[str, Host]]:
    """The hosts that are there now and offer CPUs to workers, by their ids, and what nobody uses of each."""
    nodes, unused = alive_nodes(), state.available_resources_per_node()
    hosts, free = dict[str, Host](), dict[str, Host]()
    for id_, node in nodes.items():
        if offers := int(node["Resources"].get("CPU", 0)):
            name, left = node["NodeManagerHostname"], unused.get(id_, {})
            hosts[id_] = Host(name, offers, node["Resources"].get("GPU", 0.0))
            free[id_] = Host(name, int(left.get("CPU", 0)), left.get("GPU", 0.0))
    return hosts, free


def fits_elsewhere(resources: WorkerResources, without: str) -> bool:
    """Whether a trial fits on the hosts that are there now, without that of an id."""
    return sum(map(resources.workers_on, hosts_for_workers(without))) >= resources.workers


def this_node() -> dict[str, str]:
    """The label that only the driver's machine has."""
    return {NODE_ID: ray.get_runtime_context().get_node_id()}


def this_nodes_resource() -> str:
    """The resource that only the driver's machine has.

    Tune's actors ask for it and for no CPU, and Train puts its controllers beside them. So they take nothing that
    workers need, and the loss of another machine does not affect them.
    """
    this_node = ray.get_runtime_context().get_node_id()
    (resources,) = (node["Resources"] for node in ray.nodes() if node["NodeID"] == this_node)
    return str(next(name for name in resources if name.startswith("node:") and name != "node:__internal_head__"))


def this_worker(rank: int) -> Worker:
    """The worker of this rank, in whose process this is."""
    nodes = alive_nodes()
    id_ = ray.get_runtime_context().get_node_id()
    host = WorkerHost(
        id=id_,
        name=host_names(nodes.values())[id_],
        address=f"{nodes[id_]['NodeManagerAddress']}:{nodes[id_]['NodeManagerPort']}",
    )
    # Workers that start together share a placement group, which is a new one at each start.
    return Worker(rank, str(ray.get_runtime_context().get_placement_group_id()), host)


async def is_lost(host: WorkerHost) -> bool:
    """Whether a host is lost, and not only the workers that have just been lost on it.

    Ray may notice the loss of a process sooner than that of its host, so the host itself is asked.
    """
    ends = time.monotonic() + _NOTICED_WITHIN_S
    while time.monotonic() < ends:
        if host.id not in alive_nodes():
            return True
        if await _answers(host.address):
            return False
        await asyncio.sleep(0.5)
    return True


async def _answers(address: str) -> bool:
    """Whether a server of Ray's is alive: only the server itself answers this, not its operating system."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_connection(*host_and_port(address))
            try:
                writer.write(HELLO)
                # A server with TLS closes the connection, which is an answer too.
                with contextlib.suppress(ConnectionError):
                    await reader.read(1)
            finally:
                writer.close()
    except OSError:
        return False
    return True
