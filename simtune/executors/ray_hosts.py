"""The hosts of the connected Ray."""

from __future__ import annotations

import contextlib

import ray

from simtune.executors.placement import Host


def ask_autoscaler(bundles: list[dict[str, float]]) -> None:
    """Asks for hosts that hold all of this at once, instead of what was asked for before; nothing gives them back.

    Without an autoscaler this has no effect.
    """
    from ray.autoscaler.sdk import request_resources

    # A head that does not answer for a moment: trials that wait are a request, too.
    with contextlib.suppress(Exception):
        request_resources(bundles=bundles)


def hosts_for_workers() -> list[Host]:
    """The hosts that are there now and offer CPUs to workers, the largest first."""
    alive = [(node["NodeManagerHostname"], node["Resources"]) for node in ray.nodes() if node["Alive"]]
    hosts = [Host(name, int(offers.get("CPU", 0)), offers.get("GPU", 0.0)) for name, offers in alive]
    return sorted((host for host in hosts if host.num_cpus), key=lambda host: (-host.num_cpus, host.name))


def this_nodes_resource() -> str:
    """The resource that only the driver's machine has.

    Tune's actors ask for it and for no CPU, and Train puts its controllers beside them. So they take nothing that
    workers need, and the loss of another machine does not affect them.
    """
    this_node = ray.get_runtime_context().get_node_id()
    (resources,) = (node["Resources"] for node in ray.nodes() if node["NodeID"] == this_node)
    return str(next(name for name in resources if name.startswith("node:") and name != "node:__internal_head__"))
