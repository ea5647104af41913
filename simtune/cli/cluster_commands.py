"""`simtune cluster`: start a cluster, show what it does, give it back."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from simtune.cli.cluster_options import DEFAULT_CLUSTER_FILE, ClusterFileOption, connected
from simtune.terminal import say
from simtune.wording import counted

app = typer.Typer(help="Start a Ray cluster, show what it does, and give it back.", invoke_without_command=True)

_RAY_STARTS_WITHIN_S = 60.0


@app.command()
def up(
    cluster: ClusterFileOption = DEFAULT_CLUSTER_FILE,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start Ray again where it runs; running sweeps continue afterwards.")
    ] = False,
) -> None:
    """Create the machines of a cluster, or bring a running cluster up to date."""
    from simtune.cluster.cluster_file import read_cluster_file
    from simtune.cluster.launcher import head_address, ray_up
    from simtune.cluster.launcher_config import launcher_config
    from simtune.cluster.remembered import continue_on_new_head
    from simtune.ray_token import ensure_token

    file = read_cluster_file(cluster)
    # The token is among the files that the machines get.
    if changed := ensure_token():
        say(changed, err=True)
    config = launcher_config(cluster, Path.cwd())
    ray_up(file, config, restart)
    with connected(cluster, patience_s=_RAY_STARTS_WITHIN_S) as connection:
        continue_on_new_head(connection, lambda text: say(text, err=True))
    say(f"cluster {file.name} is up, head {head_address(file)}; next: `simtune submit SWEEP --cluster {cluster}`")


@app.command()
def down(
    cluster: ClusterFileOption = DEFAULT_CLUSTER_FILE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
) -> None:
    """Give the machines of a cluster back. What is in its storage stays."""
    from simtune.cluster.cluster_file import read_cluster_file
    from simtune.cluster.shutdown import running_submissions, stop_cluster

    file = read_cluster_file(cluster)
    if not yes:
        running = running_submissions(file)
        what = f"{counted(len(running), 'sweep is', 'sweeps are')} running: {', '.join(running)}. " if running else ""
        typer.confirm(f"{what}Give all machines of cluster {file.name} back?", abort=True, err=True)
    stop_cluster(file, lambda text: say(text, err=True))
    say(f"cluster {file.name} is down; what is in its storage stays")


@app.command()
def status(cluster: ClusterFileOption = DEFAULT_CLUSTER_FILE) -> None:
    """Show the machines of a cluster and the sweeps that were submitted to it."""
    from simtune.cli.screen import Screen
    from simtune.cluster.tables import submissions_table

    with connected(cluster) as connection:
        version, jobs = connection.ask(lambda server: (server.ray_version(), server.list()))
        say(f"cluster {connection.cluster.name}: head {connection.ssh.address}, Ray {version}")
        say(connection.shell(f"{connection.cluster.activate}ray status").decode(errors="replace").strip())
        Screen().print(submissions_table(jobs, connection.records()))


@app.command(hidden=True)
def supervise(
    ray_start: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND]", help="Starts Ray, now and whenever it is gone.")
    ] = None,
    port: Annotated[int, typer.Option(help="Of Ray's job server on this machine.")] = 8265,
    background: Annotated[
        bool, typer.Option("--background", help="Return at once, and go on in the background.")
    ] = False,
) -> None:
    """On the head: continue sweeps after Ray was started again. `cluster.yaml` starts this, and Ray with it."""
    from simtune.cluster.supervisor import run_supervisor, start_supervisor

    if not background:
        run_supervisor(port, ray_start or ())
        return
    if ray_start and (code := subprocess.run(ray_start, check=False).returncode):  # noqa: S603
        raise typer.Exit(code)
    say(f"supervising submissions; log: {start_supervisor(port, ray_start or ())}")
