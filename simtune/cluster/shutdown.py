"""Giving a cluster back, so that nothing of it goes on."""

from __future__ import annotations

from simtune.cluster.cluster_file import ClusterFile
from simtune.cluster.connection import Connection, Say
from simtune.cluster.launcher import head_address, ray_down
from simtune.cluster.remembered import forget
from simtune.cluster.ssh import Ssh, forget_host
from simtune.cluster.startup import running_submissions
from simtune.cluster.submission import RECORDS, STATE, SUPERVISOR_LOCK
from simtune.errors import ClusterError, cut
from simtune.wording import counted

# The head's supervisor would continue what is stopped now, or when the cluster is started again.
_END_SUPERVISION = (
    f"rm -rf {RECORDS}; cd {STATE} 2> /dev/null && test -e {SUPERVISOR_LOCK} || exit 0; "
    f"exec 9>> {SUPERVISOR_LOCK}; flock -n 9 || kill $(cat {SUPERVISOR_LOCK})"
)


def question_before_stop(cluster: ClusterFile) -> str:
    """What the user has to agree to: which sweeps a shutdown would end."""
    try:
        with Connection(cluster, lambda text: None) as connection:
            running = running_submissions(connection.ask(lambda server: server.list()))
        what = f"{counted(len(running), 'sweep is', 'sweeps are')} running: {', '.join(running)}. " if running else ""
    except ClusterError as error:
        what = f"Could not ask the head for running sweeps ({error}). "
    return f"{what}Shut down cluster {cluster.name}?"


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
        # The head first, or its autoscaler starts Ray again on a worker that stops. The launcher would look for `ray`
        # outside the environment that has it.
        _stop_ray(Ssh(cluster, address), say)
    except ClusterError as error:
        say(f"warning: {error}")
        address = ""
    ray_down(cluster)
    # What the launcher leaves running on machines that exist already.
    for machine in cluster.worker_addresses:
        _stop_ray(Ssh(cluster, machine), say)
    forget(cluster.key)
    if address and cluster.head_address is None:
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
        reason = f": {said}" if said else " and printed nothing"
        say(f"warning: {machine.address}: `ray stop` failed with exit code {done.returncode}{reason}")
