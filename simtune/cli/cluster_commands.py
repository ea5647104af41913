"""`simtune cluster`: start a cluster, show what it does, give it back."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from simtune.cli.cluster_options import DEFAULT_CLUSTER_FILE, ClusterFileOption, connected
from simtune.terminal import say

app = typer.Typer(help="Start a Ray cluster, show its state, and shut it down.", invoke_without_command=True)

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]


@app.command()
def up(
    cluster: ClusterFileOption = DEFAULT_CLUSTER_FILE,
    restart: Annotated[
        bool, typer.Option("--restart", help="Restart Ray where it is running; running sweeps continue afterwards.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """Start a cluster, or bring a running one up to date."""
    from simtune.cluster.cluster_file import read_cluster_file
    from simtune.cluster.launcher_config import launcher_config
    from simtune.cluster.startup import look_at_head, question_before_start, start_cluster
    from simtune.ray_token import ensure_token

    file, config = read_cluster_file(cluster), launcher_config(cluster, Path.cwd())
    # Before a token is made or sent: where Ray runs, it has to be the one that Ray has.
    head = look_at_head(file, restart)
    if not yes and (question := question_before_start(head, file, restart)):
        typer.confirm(question, abort=True, err=True)
    if changed := ensure_token():
        say(changed, err=True)
    address = start_cluster(
        file, config, head.has_ray and not restart, lambda text: say(text, err=True), lambda text: yes or _agrees(text)
    )
    say(f"cluster {file.name} is up, head {address}; next: {file.command('submit SWEEP')}")


@app.command()
def down(cluster: ClusterFileOption = DEFAULT_CLUSTER_FILE, yes: YesOption = False) -> None:
    """Shut a cluster down and give its machines back. Its storage is kept."""
    from simtune.cluster.cluster_file import read_cluster_file
    from simtune.cluster.shutdown import question_before_stop, stop_cluster

    file = read_cluster_file(cluster)
    if not yes:
        typer.confirm(question_before_stop(file), abort=True, err=True)
    stop_cluster(file, lambda text: say(text, err=True))
    say(f"cluster {file.name} is down; its storage is kept")


def _agrees(question: str) -> bool:
    """Whether the user agrees; nobody does where nobody can answer."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        say("", err=True)
        return False


@app.command()
def status(cluster: ClusterFileOption = DEFAULT_CLUSTER_FILE) -> None:
    """Show the machines of a cluster and the sweeps that were submitted to it."""
    from simtune.cli.screen import Screen
    from simtune.cluster.tables import submissions_table

    with connected(cluster) as connection:
        version, jobs = connection.ask(lambda server: (server.ray_version(), server.list()))
        say(f"cluster {connection.cluster.name}: head {connection.ssh.address}, Ray {version}")
        start = connection.cluster.command("cluster up")
        supervisor = "runs" if connection.is_supervised() else f"does not run; {start} starts it"
        say(f"supervisor, which continues interrupted sweeps: {supervisor}")
        say(connection.shell(f"{connection.cluster.activate}ray status").decode(errors="replace").strip())
        Screen().print(submissions_table(jobs, connection.records()))


@app.command(hidden=True)
def supervise(
    ray_start: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMMAND]", help="Command that starts Ray, now and whenever it has ended."),
    ] = None,
    port: Annotated[int, typer.Option(help="Port of Ray's job server on this machine.")] = 8265,
    background: Annotated[
        bool, typer.Option("--background", help="Return at once and keep running in the background.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Restart the supervisor of this head as it was last started.")
    ] = False,
) -> None:
    """On the head: continue sweeps after Ray was started again. `cluster.yaml` starts this, and Ray with it."""
    from simtune.cluster.supervisor_process import run_supervisor, start_supervisor, start_supervisor_again

    if again:
        log = start_supervisor_again()
        say(
            "no supervisor has been started on this head yet" if log is None else f"supervising submissions; log: {log}"
        )
        return
    if not background:
        run_supervisor(port, ray_start or ())
        return
    if ray_start and (code := subprocess.run(ray_start, check=False).returncode):  # noqa: S603
        raise typer.Exit(code)
    say(f"supervising submissions; log: {start_supervisor(port, ray_start or ())}")
