"""The sweeps that use a cluster at the moment, and how many trials each may run at once.

Plain Python, without Ray: drivers run one `SweepRegistry` as an actor, and report to it every few seconds.

A large trial may find no host with room for it although its share has, because trials of others are on every host. The
rule for it: for two minutes it waits beside the others, who use all CPUs that its share does not take. If the hosts
would have room for it without the other sweeps, these then start no further trials until it is placed, so that hosts
become free; this ends if it is not placed two minutes after they are. If the hosts would have no room for it even then,
because something else is there, it takes nothing from others. Its workers go on waiting and start as soon as they can.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from simtune.executors.placement import Host, WorkerResources, num_fitting
from simtune.executors.sharing.fair_shares import Demand, fair_shares, part_of, turn_s

FORGOTTEN_AFTER_S = 30.0
"""A sweep whose driver has not reported for so long counts no more."""

_PATIENCE_S = 120.0
_GIVES_WAY_S = 600.0


@dataclass(frozen=True)
class Usage:
    """What a driver reports of its sweep, and of the cluster.

    Attributes:
        each: what one of its trials takes.
        wanted: how many trials it would run at once.
        held: how many trials have their CPUs and GPUs.
        held_on: how many of their workers are on each host, by its id.
        hosts: those that are there now, by their ids.
        free: what nobody uses of them, likewise.
    """

    each: WorkerResources
    wanted: int
    held: int
    hosts: Mapping[str, Host]
    free: Mapping[str, Host]
    held_on: Mapping[str, int] = field(default_factory=dict)


class Placing(Enum):
    """What a sweep takes from others to run its first trial."""

    BESIDE = auto()
    """Its share. That need not be enough if its workers are larger than what is free on any one host."""
    ALONE = auto()
    """All, in its turn, so that hosts become free as a whole."""
    GIVES_WAY = auto()
    """Nothing for a while, since it was not placed even then. Its workers start if that changes."""
    WITHOUT_ROOM = auto()
    """Nothing, as long as its workers would not fit even without the other sweeps."""


@dataclass
class _Sweep:
    demand: Demand
    usage: Usage
    reported: float
    placing: Placing
    since: float

    def report(self, usage: Usage, now: float, others: list[_Sweep]) -> None:
        """Takes what its driver reports."""
        before, hosts = self.demand, list(usage.hosts.values())
        part = float(part_of(usage.each, hosts))
        used_s = before.used_s + (now - self.reported) * usage.held * part / before.priority
        self.usage, self.reported = usage, now
        fitting = num_fitting(usage.each, hosts)
        self._find_place(fitting, now, others)
        alone = self.placing == Placing.ALONE
        wanted = min(usage.wanted, fitting, 1 if alone else fitting)
        if self.placing in (Placing.GIVES_WAY, Placing.WITHOUT_ROOM):
            wanted = 0
        self.demand = replace(before, each=usage.each, wanted=wanted, used_s=used_s, alone=alone)

    def _find_place(self, fitting: int, now: float, others: list[_Sweep]) -> None:
        usage = self.usage
        if usage.held or not usage.wanted or not fitting:
            self._enter(Placing.BESIDE, now)
        elif self.placing == Placing.WITHOUT_ROOM:
            if self._has_room(others):
                self._enter(Placing.BESIDE, now)
        elif self.placing == Placing.GIVES_WAY:
            if now - self.since > _GIVES_WAY_S:
                self._enter(Placing.BESIDE, now)
        elif not self.demand.granted or any(other.usage.held > other.demand.granted for other in others):
            # Others have yet to leave what is its own.
            self.since = now
        elif now - self.since > _PATIENCE_S:
            if not self._has_room(others):
                self._enter(Placing.WITHOUT_ROOM, now)
            else:
                self._enter(Placing.ALONE if self.placing == Placing.BESIDE else Placing.GIVES_WAY, now)

    def _enter(self, placing: Placing, now: float) -> None:
        self.placing, self.since = placing, now

    def _has_room(self, others: list[_Sweep]) -> bool:
        """Whether a trial would fit on the hosts without the other sweeps."""
        left = []
        for id_, free in self.usage.free.items():
            held = [(other.usage.held_on.get(id_, 0), other.usage.each) for other in others]
            cpus = sum(number * each.cpus_per_worker for number, each in held)
            gpus = sum(number * each.gpus_per_worker for number, each in held)
            left.append(Host(free.name, free.num_cpus + cpus, round(free.num_gpus + gpus, 4)))
        return num_fitting(self.usage.each, left) > 0


class SweepRegistry:
    """Divides the cluster among the sweeps that have reported lately."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Knows no sweep yet.

        Args:
            clock: monotonic, in seconds.
        """
        self._clock = clock
        self._sweeps: dict[str, _Sweep] = {}

    def report(self, name: str, priority: float, usage: Usage) -> int:
        """Reports what a sweep uses and would use.

        Args:
            name: unique to the sweep's driver.
            priority: the sweep's weight.
            usage: at the moment.

        Returns:
            How many trials it may run at once.
        """
        now, hosts = self._clock(), list(usage.hosts.values())
        for other in [other for other, sweep in self._sweeps.items() if now - sweep.reported > FORGOTTEN_AFTER_S]:
            del self._sweeps[other]
        is_new = name not in self._sweeps
        sweep = self._sweeps.setdefault(name, self._new(priority, usage, now))
        sweep.report(usage, now, [other for other in self._sweeps.values() if other is not sweep])
        shares = fair_shares({other: sweep.demand for other, sweep in self._sweeps.items()}, hosts)
        for other, share in shares.items():
            self._sweeps[other].demand = replace(self._sweeps[other].demand, granted=share)
        if is_new and usage.held:
            # The registry before this one was lost. Others have not reported yet.
            return usage.held
        if num_fitting(usage.each, hosts) and sweep.placing in (Placing.BESIDE, Placing.ALONE):
            return shares[name]
        # Its workers wait; without any host, they are what an autoscaler acts on.
        return min(1, usage.wanted)

    def leave(self, name: str) -> None:
        """Forgets a sweep that needs nothing more for now."""
        self._sweeps.pop(name, None)

    def _new(self, priority: float, usage: Usage, now: float) -> _Sweep:
        """A sweep that has just come: it has the next turn, but no claim to what others used before."""
        hosts = list(usage.hosts.values())
        others = [sweep.demand for sweep in self._sweeps.values()]
        used_s = min((demand.used_s - turn_s(demand, part_of(demand.each, hosts)) for demand in others), default=0.0)
        return _Sweep(Demand(priority, usage.each, wanted=0, used_s=used_s), usage, now, Placing.BESIDE, now)
