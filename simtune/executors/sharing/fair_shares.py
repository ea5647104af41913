"""How many trials each of several sweeps runs at once on one cluster.

The cluster is divided by the sweeps' priorities, and what a sweep cannot use is divided among the others. Trials are
whole, so shares are rounded: each sweep has at least one trial if there is room for one of each, and the rest of a
share goes to those that have used least so far, in turns. Where there is no room for a trial of each sweep, all of it
goes by turns.

A trial takes its CPUs and GPUs of hosts, not a part of the cluster: what is left of a host beside a large worker, and
hosts that are too small for it, are there for the trials of others.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from simtune.executors.placement import Host, WorkerResources

TURN_S = 60.0
"""How far a sweep gets ahead of others, in seconds of one of its trials, before it loses its turn: to start workers for
another sweep costs some 15 seconds."""


@dataclass(frozen=True)
class Demand:
    """What a sweep would use of the cluster.

    Attributes:
        priority: its weight.
        each: what one of its trials takes.
        wanted: how many trials it would run at once; no more than fit if no other sweep uses the cluster.
        granted: how many it may run at the moment.
        used_s: how long it has used the cluster, in seconds of the whole cluster divided by its priority.
        alone: whether it wants all hosts to be without other sweeps, to place one trial.
    """

    priority: float
    each: WorkerResources
    wanted: int
    granted: int = 0
    used_s: float = 0.0
    alone: bool = False


def part_of(each: WorkerResources, hosts: Sequence[Host]) -> Fraction:
    """The part of the hosts' CPUs or GPUs, whichever is larger, that one trial takes; at most 1."""
    num_cpus, num_gpus = sum(host.num_cpus for host in hosts), sum(int(host.num_gpus) for host in hosts)
    cpus = Fraction(each.workers * each.cpus_per_worker, max(1, num_cpus))
    return min(Fraction(1), max(cpus, each.workers * _gpus_of(each) / max(1, num_gpus)))


def fair_shares(demands: Mapping[str, Demand], hosts: Sequence[Host]) -> dict[str, int]:
    """The trials at once of each sweep.

    Together they fit on the hosts, none is more than wanted, and none could be larger without another being smaller.

    Args:
        demands: of the sweeps, by their names.
        hosts: of the cluster.
    """
    parts = {name: Fraction(1) if demand.alone else part_of(demand.each, hosts) for name, demand in demands.items()}
    entitled = _entitled(demands, parts)
    shares = dict.fromkeys(demands, 0)
    room = _Room(hosts)

    def order(name: str) -> tuple[int, float, bool, str]:
        """Who gets a trial first: sweeps that have none, then those with less than their part, then by turns."""
        demand, share = demands[name], shares[name]
        if 0 < share < entitled[name]:
            return 1, (share + 1) * float(parts[name]) / demand.priority, False, name
        has_turn = demand.granted > share
        ahead_s = turn_s(demand, parts[name]) if has_turn else 0.0
        return 2 if share else 0, demand.used_s - ahead_s, has_turn, name

    waiting = {name for name, demand in demands.items() if demand.wanted}
    while waiting:
        first = min(waiting, key=order)
        if not room.take(demands[first]):
            # Nor does another one of its trials fit later.
            waiting.remove(first)
            continue
        shares[first] += 1
        if shares[first] == demands[first].wanted:
            waiting.remove(first)
    return shares


def turn_s(demand: Demand, part: Fraction) -> float:
    """A turn with one trial, in the unit of `used_s`."""
    return TURN_S * float(part) / demand.priority


class _Room:
    """What is left of hosts, of which those with as much left are one entry."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._left = Counter((Fraction(int(host.num_gpus)), host.num_cpus) for host in hosts)
        self._is_untouched = True

    def take(self, demand: Demand) -> bool:
        """Takes what a trial needs, each worker where it leaves least; false if there is no room for it."""
        left, each = self._left.copy(), demand.each
        gpus, cpus = _gpus_of(each), each.cpus_per_worker
        for _ in range(each.workers):
            fitting = [host for host, number in left.items() if number and host[0] >= gpus and host[1] >= cpus]
            if not fitting or (demand.alone and not self._is_untouched):
                return False
            host = min(fitting)
            left[host] -= 1
            left[host[0] - gpus, host[1] - cpus] += 1
        self._left = Counter() if demand.alone else +left
        self._is_untouched = False
        return True


def _gpus_of(each: WorkerResources) -> Fraction:
    """What a worker takes of a host's GPUs: its part of one, as large as it can be with as many workers on a GPU."""
    gpus = each.gpus_per_worker
    return Fraction(int(gpus)) if gpus >= 1 or not gpus else Fraction(1, int(1 / gpus + 1e-9))


def _entitled(demands: Mapping[str, Demand], parts: Mapping[str, Fraction]) -> dict[str, int]:
    """The whole trials in each sweep's part of the cluster, by priority; what one cannot use goes to the others."""
    left, found = Fraction(1), dict[str, Fraction]()
    while len(found) < len(demands):
        others = {name: demand for name, demand in demands.items() if name not in found}
        total = sum(Fraction(demand.priority) for demand in others.values())
        equal = {name: left * Fraction(demand.priority) / total for name, demand in others.items()}
        most = {name: demand.wanted * parts[name] for name, demand in others.items()}
        # Those whose part is more than they can use have what they can use, and the rest is divided again.
        content = {name: most[name] for name in others if most[name] <= equal[name]}
        found |= content or equal
        left -= sum(content.values())
    return {name: math.floor(found[name] / parts[name]) for name in demands}
