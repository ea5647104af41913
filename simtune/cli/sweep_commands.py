"""Commands that take a sweep file: write one, plan it, run it, or run a part of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from simtune.cli.number_options import amount, count, node_type, num_nodes
from simtune.cli.number_options import seed as seed_number
from simtune.cli.options import (
    ExecutorChoice,
    ExecutorOption,
    JsonOption,
    Overrides,
    RetrainOption,
    RetryChoice,
    RetryOption,
    StorageOption,
    SweepFile,
    display_for,
    executor_for,
    run_stages,
    sweep_settings,
)
from simtune.cli.screen import Screen
from simtune.terminal import say, say_json
from simtune.wording import counted

app = typer.Typer()
_PANEL = "Sweeps"


@app.command(rich_help_panel=_PANEL)
def new(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="quickstart or paper.")] = "quickstart",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write (NAME.yaml by default).")
    ] = None,
) -> None:
    """Write a commented sweep file to start from: quickstart (minutes on a laptop) or paper (the full study)."""
    from simtune.config.builtin_sweeps import write_sweep_file

    path = output or Path(f"{name}.yaml")
    write_sweep_file(name, path)
    say(f"{path}: written; edit it, see what it costs with `simtune plan {path}`, run it with `simtune run {path}`")


@app.command(rich_help_panel=_PANEL)
def run(
    sweep: SweepFile,
    overrides: Overrides = None,
    storage: StorageOption = None,
    executor: ExecutorOption = ExecutorChoice.local,
    retry: RetryOption = None,
    retrain: RetrainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Embed, select, train what is missing, score and report. Run it again to continue or to grow a sweep."""
    with sweep_settings(sweep, overrides, storage) as settings:
        from simtune.cli.results_screen import show_results
        from simtune.sweep.run import run_sweep

        with display_for(as_json) as display, executor_for(executor) as worker:
            only_failed = retry is RetryChoice.failed
            outcome = run_sweep(settings, worker, display, sys.argv[1:], only_failed=only_failed, retrain=retrain)
    if as_json:
        say_json(
            {
                "run": str(outcome.run_directory),
                "report": str(outcome.report),
                "num_run": outcome.num_run,
                "num_failed": outcome.num_failed,
                "results": outcome.results.to_pylist(),
            }
        )
    else:
        show_results(outcome.run_directory, outcome.results)
        Screen().print_path("report", outcome.report)
    if outcome.num_failed:
        failed = counted(outcome.num_failed, "trial has", "trials have")
        say(f"{failed} no result; see {outcome.run_directory}/results.md", err=True)
        raise typer.Exit(1)


@app.command(rich_help_panel=_PANEL)
def plan(
    sweep: SweepFile,
    overrides: Overrides = None,
    storage: StorageOption = None,
    nodes: Annotated[
        int | None,
        typer.Option(
            parser=num_nodes, metavar="N", help="Also the wall time, hours and price on a cluster of N nodes."
        ),
    ] = None,
    spot_loss: Annotated[
        float,
        typer.Option(parser=amount, metavar="RATE", help="With --nodes: expected losses of a node in an hour."),
    ] = 0.0,
    node: Annotated[
        dict[str, Any] | None,
        typer.Option(
            "--node-type",
            parser=node_type,
            metavar="cpus=N,gpus=N,vram=X,price=X",
            help="With --nodes: what a node has and costs in an hour; by default it has what one trial needs.",
        ),
    ] = None,
    trial_minutes: Annotated[
        float | None,
        typer.Option(
            parser=amount,
            metavar="M",
            help="With --nodes: mean minutes of a trial, instead of those of the run's finished trials.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the trials, which of them are done, and what the others will cost in tokens and disk space. Runs nothing."""
    if nodes is None and (spot_loss or node or trial_minutes is not None):
        raise typer.BadParameter("--spot-loss, --node-type and --trial-minutes need --nodes")
    with sweep_settings(sweep, overrides, storage) as settings:
        from simtune.planning.plan import plan_sweep

        with display_for(as_json) as display:
            costs = plan_sweep(settings, display)
        on_cluster = None
        if nodes is not None:
            from simtune.planning.cluster_plan import NodeType, plan_cluster

            on_cluster = plan_cluster(settings, costs, nodes, NodeType(**(node or {})), spot_loss, trial_minutes)
    if as_json:
        say_json(costs.to_dict() | ({"cluster": on_cluster.to_dict()} if on_cluster else {}))
    else:
        from simtune.planning.plan_tables import plan_table

        Screen().print(plan_table(costs))
        if on_cluster is not None:
            from simtune.planning.cluster_tables import cluster_tables

            for table in cluster_tables(on_cluster):
                Screen().print(table)
    for warning in (costs.disk.warning, on_cluster and on_cluster.memory_warning):
        if warning:
            say(f"warning: {warning}", err=True)


@app.command(rich_help_panel=_PANEL)
def embed(
    sweep: SweepFile,
    overrides: Overrides = None,
    storage: StorageOption = None,
    executor: ExecutorOption = ExecutorChoice.local,
) -> None:
    """Embed the tasks of a sweep. Chooses and trains nothing."""
    with sweep_settings(sweep, overrides, storage) as settings:
        run_stages(settings, executor, with_subsets=False)


@app.command(rich_help_panel=_PANEL)
def train(
    sweep: SweepFile,
    arm: Annotated[str, typer.Option(help="A strategy, full, or untuned.")],
    size: Annotated[
        int | None, typer.Option(parser=count, metavar="N", help="Number of tasks (not for full and untuned).")
    ] = None,
    seed: Annotated[int, typer.Option(parser=seed_number, metavar="N", help="Seed.")] = 0,
    overrides: Overrides = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train and score one trial in this process, where a debugger can stop. Reuses nothing and keeps nothing."""
    with sweep_settings(sweep, overrides, storage, arm) as settings:
        from simtune.evaluation.metric_registry import METRICS
        from simtune.sweep.train_one import train_one

        with display_for(as_json) as display:
            metrics = train_one(settings, arm, size, seed, display)
    if as_json:
        say_json(metrics)
    else:
        for suite, scores in metrics.items():
            means = scores["overall"]["values"]
            values = "  ".join(f"{METRICS[name].title} {value:.4f}" for name, value in means.items())
            say(f"{suite}: {values}" if len(metrics) > 1 else values)
