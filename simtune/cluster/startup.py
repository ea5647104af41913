"""Starting a cluster, or bringing it up to date, so that nothing that runs on it is stopped unasked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from simtune.cluster.cluster_file import ClusterFile
from simtune.cluster.connection import Connection, Say
from simtune.cluster.launcher import ray_up
from simtune.cluster.ray_jobs import RayJob
from simtune.cluster.remembered import continue_on_new_head
from simtune.cluster.ssh import NoAnswerError
from simtune.cluster.submission import id_of
from simtune.errors import ClusterError
from simtune.wording import counted

RAY_ANSWERS_WITHIN_S = 60.0
# Ray's head process, even where its dashboard is slow; a process that is dead and not yet collected has no program.
_RAY_RUNS = (
    'for program in /proc/[0-9]*/exe; do case "$(readlink "$program")" in */gcs_server*) echo runs; exit;; esac; done'
)
# With the limits of the start commands in the cluster's file.
_START_SUPERVISOR = "ulimit -n 65536; umask 077; {simtune}"


@dataclass(frozen=True)
class Head:
    """What a cluster's head does before it is started.

    Attributes:
        has_ray: whether Ray runs on it.
        submissions: jobs of submissions that are running.
        problem: why the head could not say which are; empty if it could.
    """

    has_ray: bool
    submissions: tuple[str, ...] = ()
    problem: str = ""


def look_at_head(cluster: ClusterFile, restart: bool) -> Head:
    """Sees whether Ray runs on a cluster's head, and which sweeps do.

    Args:
        cluster: its file.
        restart: whether Ray is to be started again, so that it need not answer now.

    Raises:
        ClusterError: there is a head that SSH does not reach; Ray runs there and does not answer, or has another token.
    """
    with Connection(cluster, lambda text: None, patience_s=RAY_ANSWERS_WITHIN_S) as connection:
        try:
            ssh = connection.ssh
        except ClusterError:
            # There is none; if it is the cloud that refuses to answer, the launcher says why.
            return Head(False)
        if not ssh.run(_RAY_RUNS).stdout.strip():
            return Head(False)
        try:
            return Head(True, running_submissions(connection.ask(lambda jobs: jobs.list())))
        except ClusterError as error:
            if restart:
                return Head(True, problem=str(error))
            if isinstance(error, NoAnswerError):
                raise ClusterError(
                    f"{cluster.path}: {ssh.address}: Ray is running on this head, but its job server did not "
                    f"answer within {RAY_ANSWERS_WITHIN_S:.0f} s. Try again, or restart Ray with "
                    f"{cluster.command('cluster up --restart')}"
                ) from error
            raise


def running_submissions(jobs: tuple[RayJob, ...]) -> tuple[str, ...]:
    """The ids of the jobs of submissions that run."""
    return tuple(job.id for job in jobs if id_of(job.id) and not job.is_over)


def question_before_start(head: Head, cluster: ClusterFile, restart: bool) -> str:
    """What the user has to agree to, because it may interrupt sweeps; empty if nothing can."""
    running = f"{counted(len(head.submissions), 'sweep is', 'sweeps are')} running: {', '.join(head.submissions)}. "
    if head.problem:
        return f"Cannot tell which sweeps are running ({head.problem}). Restart Ray on cluster {cluster.name}?"
    if not head.submissions:
        return ""
    if restart:
        return f"{running}A restart interrupts them; they continue afterwards. Restart Ray on {cluster.name}?"
    if cluster.head_address is None:
        return (
            f"{running}If the head's settings or the SSH key have changed since the head was created, Ray creates "
            f"another head, which ends them. Update cluster {cluster.name}?"
        )
    return ""


def start_cluster(
    cluster: ClusterFile,
    config: Mapping[str, object],
    keep_ray: bool,
    say: Say,
    agree: Callable[[str], bool],
) -> str:
    """Starts a cluster, or brings it up to date; returns the head's address.

    Args:
        cluster: its file.
        config: what `launcher_config` made of it.
        keep_ray: whether Ray runs on the head and goes on; False: it is started there.
        say: gets lines on what is done.
        agree: asks the user a question.

    Raises:
        ClusterError: the launcher has failed, or Ray does not answer afterwards.
    """
    if keep_ray and cluster.head_address is not None:
        # For machines that exist, the launcher knows from a file of this computer alone whether it has started a head,
        # and would start Ray again on one that another computer has started.
        config = {**config, "head_start_ray_commands": []}
    ray_up(cluster, config, restart=not keep_ray)
    with Connection(cluster, say, patience_s=RAY_ANSWERS_WITHIN_S) as connection:
        connection.ask(lambda jobs: jobs.ray_version())
        if keep_ray:
            # It may have ended, and its code may be older.
            script = _START_SUPERVISOR.format(simtune=connection.ssh.simtune("cluster", "supervise", "--again"))
            say(connection.shell(script).decode(errors="replace").strip())
        continue_on_new_head(connection, say, agree)
        return connection.ssh.address
