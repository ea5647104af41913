"""Giving a cluster back, so that nothing of it goes on."""

from __future__ import annotations

from simtune.cluster.cluster_file import ClusterFile
from simtune.cluster.connection import Connection, Say
from simtune.cluster.launcher import head_address, ray_down
from simtune.cluster.remembered import forget
from simtune.cluster.ssh import Ssh, forget_host
from simtune.cluster.submission import RECORDS, id_of
from simtune.errors import ClusterError, cut

# The head's supervisor would continue what is stopped now, or when the cluster is started again.
_END_SUPERVISION = (
    f"rm -rf {RECORDS}; cd $(dirname {RECORDS}) 2> /dev/null && test -e supervisor.lock || exit 0; "
    "exec 9>> supervisor.lock; flock -n 9 || kill $(cat supervisor.lock)"
)


def running_submissions(cluster: ClusterFile) -> list[str]:
    """The ids of jobs that run on a cluster; empty also where it cannot be asked."""
    try:
        with Connection(cluster, lambda text: None) as connection:
            jobs = connection.ask(lambda server: server.list())
    except ClusterError:
        return []
    return [job.id for job in jobs if id_of(job.id) and not job.is_over]


def stop_cluster(cluster: ClusterFile, say: Say) -> None:
    """Stops Ray on a cluster and gives its machines back.

    Args:
        cluster: its file.
        say: gets lines on what could not be done.

    Raises:
        ClusterError: the launcher has failed.
    """
    try:
        address = head_address(cluster)
        Ssh(cluster, address).run(_END_SUPERVISION)
    except ClusterError as error:
        say(f"warning: {error}")
        address = ""
    ray_down(cluster)
    # What the launcher leaves running on machines that exist already: it stops Ray on the head alone, and without the
    # environment that has Ray.
    for machine in cluster.addresses:
        _stop_ray(Ssh(cluster, machine), say)
    forget(cluster.name)
    if address and not cluster.addresses:
        # Another machine may get its address.
        forget_host(address)


def _stop_ray(machine: Ssh, say: Say) -> None:
    environment = machine.cluster.environment
    # Ray was never started where the environment is not.
    there = f"test -e {environment} || exit 0; " if environment else ""
    try:
        done = machine.run(f"{there}{machine.cluster.activate}ray stop")
    except ClusterError as error:
        say(f"warning: {error}")
        return
    if done.returncode:
        said = cut(done.stderr.decode(errors="replace").strip())
        say(f"warning: {machine.address}: `ray stop` has failed with exit code {done.returncode}: {said}")
