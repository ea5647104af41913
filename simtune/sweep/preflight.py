"""Before a cluster trains: every host has the driver's code, reaches the storage, and has what a sweep names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from simtune.config import Sweep
from simtune.errors import RunError
from simtune.executors.base import Executor
from simtune.executors.hosts.host_probe import report_host
from simtune.executors.hosts.host_reports import (
    HostFacts,
    HostProblem,
    HostReport,
    Preflight,
    compare_hosts,
    problem_lines,
)
from simtune.executors.hosts.tables import hosts_table
from simtune.hub import commit_of
from simtune.progress import Display
from simtune.storage.files import as_path
from simtune.storage.preflight import driver_probes, hosts_seen
from simtune.sweep.memory_estimate import largest_need, memory_need

# A tokenizer has at least one piece for each byte.
_FEWEST_PIECES = 256


def check_hosts(sweeps: Sequence[Sweep], executor: Executor, display: Display, trains: bool = True) -> None:
    """Refuses a cluster with a host on which work of a sweep would fail; other executors have nothing to check.

    Args:
        sweeps: the settings of all grid points.
        executor: where the sweep will run.
        display: where a table of the hosts is shown.
        trains: whether workers will need models and the storage, too; else only encoders.

    Raises:
        RunError: something is wrong with a host; one line for each problem, with its hosts and its remedy.
        SimtuneError: the storage does not work on the driver's own host.
    """
    if not executor.has_hosts:
        return
    preflight = ask_hosts(sweeps, executor, display, trains)
    display.table(hosts_table(preflight))
    for line in preflight.warnings:
        display.warn(line)
    refuse_problems(preflight)


def ask_hosts(sweeps: Sequence[Sweep], executor: Executor, display: Display, trains: bool = True) -> Preflight:
    """Asks all hosts of a cluster and compares them with the driver; for the arguments see `check_hosts`.

    Raises:
        SimtuneError: the storage does not work on the driver's own host.
    """
    (storage,) = {sweep.storage for sweep in sweeps}
    with display.stage("check hosts") as on_progress, ExitStack() as stack:
        probes = stack.enter_context(driver_probes(as_path(storage))) if trains else []
        needs = {"probes": [str(probe) for probe in probes], "host": "driver", **_names(sweeps, trains)}
        driver = HostFacts(**report_host({"code": "", "needs": needs, "num_gpus": 0}))
        reports = executor.report_hosts(driver, needs, on_progress)
        preflight = compare_hosts(driver, reports, hosts_seen(probes) if probes else None)
        if trains:
            preflight = replace(preflight, problems=(*preflight.problems, *_small_gpus(sweeps, reports)))
        return preflight


def refuse_problems(preflight: Preflight) -> None:
    """Refuses hosts with problems.

    Raises:
        RunError: a host has one; one line for each different problem, with its hosts and its remedy.
    """
    if preflight.problems:
        raise RunError("\n".join(["hosts are not ready, so nothing was started:", *problem_lines(preflight.problems)]))


def _small_gpus(sweeps: Sequence[Sweep], reports: Sequence[HostReport]) -> Iterator[HostProblem]:
    """The hosts with a GPU that cannot hold what training keeps of a model, whatever the batches."""
    # The tokenizers are not known yet: with few pieces, a new model is a little smaller than it will be.
    need = largest_need(memory_need(sweep, _FEWEST_PIECES) for sweep in sweeps)
    if need is None or need.gpu_share == 0:
        return
    for report in reports:
        gpu_bytes = report.facts.gpu_bytes if report.facts is not None else None
        if gpu_bytes is not None and (reason := need.too_large(gpu_bytes)):
            yield HostProblem(report.name, reason)


def _names(sweeps: Sequence[Sweep], trains: bool) -> dict[str, Any]:
    """The encoders and pretrained models that hosts must have, each with the commit that the driver has."""
    encoders = {(sweep.embedding.encoder, sweep.embedding.revision) for sweep in sweeps}
    models = {(sweep.model.name, sweep.model.revision) for sweep in sweeps if sweep.model.init == "pretrained"}
    return {
        "encoders": [(name, commit_of(name, revision) or revision) for name, revision in sorted(encoders, key=str)],
        "models": [(name, commit_of(name, revision) or revision) for name, revision in sorted(models, key=str)]
        if trains
        else [],
    }
