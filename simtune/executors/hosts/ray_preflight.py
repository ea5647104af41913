"""Asks hosts of the connected Ray for a report, by a small task pinned to each: before a sweep, and as they join."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray import cloudpickle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from simtune import code_commit
from simtune.errors import first_line
from simtune.executors.hosts import host_probe
from simtune.executors.hosts.host_reports import HostFacts, HostReport, compare_hosts, problem_lines
from simtune.executors.hosts.ray_hosts import alive_nodes, host_names
from simtune.progress import OnProgress
from simtune.storage.files import AnyPath
from simtune.storage.preflight import driver_probes, hosts_seen

LIMIT_S = 60.0
"""Seconds that a host has to answer after another one has, from the start of a process to the last check."""

_FIRST_ANSWER = 3


def report_hosts(
    driver: HostFacts, needs: Mapping[str, object], on_progress: OnProgress, limit_s: float = LIMIT_S
) -> list[HostReport]:
    """The reports of all hosts that are there now, sorted by name; asked at the same time.

    Args:
        driver: what the driver says of itself.
        needs: what a run needs, as `host_checks.check_host` takes it. Hosts without CPUs are not asked for encoders
            and models.
        on_progress: called with the number of hosts that have answered and of all.
        limit_s: seconds after an answer without another, after which the remaining hosts are reported as silent; for
            the first answer three times as many.
    """
    nodes = alive_nodes()
    tasks = {_ask(node, driver, needs): node for node in nodes.values()}
    # One of the hosts is the driver's: if not even that one has answered, it is busy, and others may be, too.
    answered, pending = ray.wait(list(tasks), timeout=_FIRST_ANSWER * limit_s)
    while answered and pending:
        on_progress(len(tasks) - len(pending), len(tasks))
        answered, pending = ray.wait(pending, timeout=limit_s)
    names = host_names(nodes.values())
    # Pending tasks are not cancelled: Ray 2.60 ends the driver if a task ends while it is being cancelled.
    alive = alive_nodes()
    reports = [
        (_answer(task, node, names) if task not in pending else _silent(node, names, limit_s))
        if node["NodeID"] in alive
        else _left(node, names)
        for task, node in tasks.items()
    ]
    return sorted(reports, key=lambda report: report.name)


@dataclass
class _Asked:
    """Hosts that joined at the same time.

    Attributes:
        tasks: those that have not answered yet, with their hosts.
        probes: of the driver, in the storage.
        ends: when a host counts as silent.
        until_answered: removes the probes.
    """

    tasks: dict[Any, Mapping[str, Any]]
    probes: list[AnyPath]
    ends: float
    until_answered: ExitStack


@dataclass
class NewHosts:
    """Checks hosts that join while a sweep runs.

    Attributes:
        driver: what the driver says of itself.
        needs: as `report_hosts` takes it.
        known: ids of the hosts that were checked or are being checked.
        storage: of the run.
    """

    driver: HostFacts
    needs: Mapping[str, Any]
    known: set[str]
    storage: AnyPath
    _asked: list[_Asked] = field(default_factory=list)

    def look(self) -> list[str]:
        """Asks hosts that are new; returns without waiting.

        Returns:
            What is wrong with those that have answered since, or should have: a line each.
        """
        nodes = alive_nodes()
        new = [node for node in nodes.values() if node["NodeID"] not in self.known]
        if new:
            self._ask(new)
        names = host_names(nodes.values())
        lines = [line for asked in self._asked for line in self._problems(asked, nodes, names)]
        self._asked = [asked for asked in self._asked if asked.tasks]
        return lines

    def close(self) -> None:
        """Forgets hosts that have not answered yet."""
        for asked in self._asked:
            asked.until_answered.close()
        self._asked = []

    def _ask(self, new: Sequence[Mapping[str, Any]]) -> None:
        stack = ExitStack()
        probes = stack.enter_context(driver_probes(self.storage))
        self.known |= {node["NodeID"] for node in new}
        needs = {**self.needs, "probes": [str(probe) for probe in probes]}
        tasks = {_ask(node, self.driver, needs): node for node in new}
        self._asked.append(_Asked(tasks, probes, time.monotonic() + _FIRST_ANSWER * LIMIT_S, stack))

    def _problems(
        self, asked: _Asked, nodes: Mapping[str, Mapping[str, object]], names: Mapping[str, str]
    ) -> Iterator[str]:
        done, _ = ray.wait(list(asked.tasks), num_returns=len(asked.tasks), timeout=0)
        reports = [_answer(task, asked.tasks[task], names) for task in done]
        is_over = time.monotonic() > asked.ends
        if is_over:
            silent = [node for task, node in asked.tasks.items() if task not in done]
            reports += [_silent(node, names, _FIRST_ANSWER * LIMIT_S) for node in silent]
        reports = [report for report in reports if report.id in nodes]
        # If the storage does not answer for a moment, the next look asks it again.
        seen = hosts_seen(asked.probes) if reports else None
        for task in [*asked.tasks] if is_over else done:
            del asked.tasks[task]
        yield from problem_lines(compare_hosts(self.driver, reports, seen).problems)
        if not asked.tasks:
            asked.until_answered.close()


def _ask(node: Mapping[str, Any], driver: HostFacts, needs: Mapping[str, Any]) -> Any:
    """Starts the task on a host."""
    # By value, since the host may have another simtune.
    cloudpickle.register_pickle_by_value(host_probe)
    cloudpickle.register_pickle_by_value(code_commit)
    offers = node["Resources"]
    needs = {**needs, "host": node["NodeID"]}
    if not offers.get("CPU"):
        needs |= {"encoders": (), "models": ()}
    # A process for this task alone: a check that never returns must not keep one that trials need.
    task = ray.remote(num_cpus=0, max_calls=1, max_retries=0)(host_probe.report_host)
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    request = {"code": driver.code, "needs": needs, "num_gpus": offers.get("GPU", 0.0)}
    return task.options(scheduling_strategy=there).remote(request)


def _answer(task: object, node: Mapping[str, object], names: Mapping[str, str]) -> HostReport:
    try:
        return _report(node, names, HostFacts(**ray.get(task)))
    except Exception as error:
        reason = getattr(error, "cause", None) or error
        what = f"{type(reason).__name__}: {first_line(reason)[:200]}"
        said = f"could not report ({what}); install the driver's environment there"
        return _report(node, names, None, said)


def _silent(node: Mapping[str, object], names: Mapping[str, str], limit_s: float) -> HostReport:
    said = f"did not answer within {limit_s:g} s; see `ray status`, and restart Ray there or remove the host"
    return _report(node, names, None, said)


def _left(node: Mapping[str, object], names: Mapping[str, str]) -> HostReport:
    said = "left the cluster while it was checked; if it should be there, see whether it runs and can be reached"
    return replace(_report(node, names, None, said), has_left=True)


def _report(
    node: Mapping[str, Any], names: Mapping[str, str], facts: HostFacts | None, silence: str = ""
) -> HostReport:
    offers, name = node["Resources"], names.get(node["NodeID"], node["NodeManagerHostname"])
    return HostReport(node["NodeID"], name, int(offers.get("CPU", 0)), offers.get("GPU", 0.0), facts, silence)
