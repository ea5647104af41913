"""Two lines on the terminal for a host that is lost: what ran there, then where that continues or that it is back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from simtune.executors.hosts.ray_hosts import alive_nodes, host_names
from simtune.executors.ray_tune_callbacks import LooksAround
from simtune.executors.slots.slot_progress import WorkerHost
from simtune.progress import Display

Running = Mapping[str, tuple[int, tuple[WorkerHost, ...]]]
"""Trials by id: how often workers have started each, and on which hosts the last ones are."""

_MOST_NAMED = 3


@dataclass(frozen=True)
class _LostHost:
    """A lost host.

    Attributes:
        machine: its hostname and address, which it keeps when it is started again.
        starts: of the trials whose workers were lost with it, how often workers had started each.
    """

    name: str
    machine: tuple[str, str]
    starts: dict[str, int]


class ReportLostHosts(LooksAround):
    """Reports hosts that are lost, and what becomes of their trials."""

    def __init__(self, running: Callable[[], Running], labels: Mapping[str, str], display: Display) -> None:
        """Knows the hosts that are there now.

        Args:
            running: the trials that run now.
            labels: what users call trials, by their ids.
            display: where hosts are reported.
        """
        super().__init__()
        self._find_running = running
        self._labels = labels
        self._display = display
        self._hosts = alive_nodes()
        self._running: Running = {}
        self._lost: list[_LostHost] = []

    def on_experiment_end(self, trials: list[Any], **info: object) -> None:
        self.look()

    def look(self) -> None:
        """Compares the hosts and trials with those of the last look."""
        hosts, running = alive_nodes(), self._find_running()
        names = host_names(self._hosts.values())
        for id_ in self._hosts.keys() - hosts.keys():
            # Workers that were restarted since are on other hosts now.
            starts = _starts_on(id_, running) | _starts_on(id_, self._running)
            self._lost.append(_LostHost(names[id_], _machine(self._hosts[id_]), starts))
            ran = f" {self._list(starts)} ran there" if starts else " no trial ran there"
            self._display.warn(f"host {names[id_]} is lost;{ran}" + " and will continue elsewhere" * bool(starts))
        back = {_machine(hosts[id_]) for id_ in hosts.keys() - self._hosts.keys()}
        self._lost = [lost for lost in self._lost if not self._is_over(lost, running, back)]
        self._hosts, self._running = hosts, running

    def _is_over(self, lost: _LostHost, running: Running, back: set[tuple[str, str]]) -> bool:
        """Whether a loss has been made good, which is reported then."""
        if not lost.starts:
            if lost.machine in back:
                self._display.note(f"host {lost.name} is back")
            return lost.machine in back
        if any(trial in running and running[trial][0] <= starts for trial, starts in lost.starts.items()):
            return False
        hosts = dict.fromkeys(host.name for trial in lost.starts for host in running.get(trial, (0, ()))[1])
        where = f"continues on {', '.join(hosts)}" if hosts else "has ended"
        self._display.note(f"{self._list(lost.starts)} {where} after the loss of {lost.name}")
        return True

    def _list(self, trials: Iterable[str]) -> str:
        labels = [self._labels[trial] for trial in trials]
        more = len(labels) - _MOST_NAMED
        return "; ".join(labels[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _machine(node: Mapping[str, Any]) -> tuple[str, str]:
    return node["NodeManagerHostname"], node["NodeManagerAddress"]


def _starts_on(host: str, running: Running) -> dict[str, int]:
    """The trials with workers on the host of an id, and how often workers have started each."""
    return {trial: starts for trial, (starts, hosts) in running.items() if any(each.id == host for each in hosts)}
