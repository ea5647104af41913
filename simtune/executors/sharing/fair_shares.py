"""How many trials each of several sweeps runs at once on one cluster.

The cluster is divided by the sweeps' priorities, and what a sweep cannot use is divided among the others. Trials are
whole, so shares are rounded: each sweep has at least one trial if there is room for one of each, and the rest of a
share goes to those that have used least so far, in turns. Where there is no room for a trial of each sweep, all of it
goes by turns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

TURN_S = 60.0
"""How far a sweep gets ahead of others, in seconds of one of its trials, before it loses its turn: to start workers for
another sweep costs some 15 seconds."""


@dataclass(frozen=True)
class Demand:
    """What a sweep would use of the cluster.

    Attributes:
        priority: its weight.
        fitting: how many of its trials would fit if no other sweep used the cluster; at least one.
        wanted: how many trials it would run at once; no more than fit.
        granted: how many it may run at the moment.
        used_s: how long it has used the cluster, in seconds of the whole cluster divided by its priority.
    """

    priority: float
    fitting: int
    wanted: int
    granted: int = 0
    used_s: float = 0.0

    @property
    def turn_s(self) -> float:
        """A turn with one trial, in the unit of `used_s`."""
        return TURN_S / (self.fitting * self.priority)


def fair_shares(demands: Mapping[str, Demand]) -> dict[str, int]:
    """The trials at once of each sweep.

    Together they fit on the cluster, none is more than wanted, and none could be larger without another being smaller.

    Args:
        demands: of the sweeps, by their names.
    """
    whole = math.lcm(*(demand.fitting for demand in demands.values()))
    costs = {name: whole // demand.fitting for name, demand in demands.items()}
    entitled = _entitled(demands)
    shares = dict.fromkeys(demands, 0)
    left = whole

    def order(name: str) -> tuple[int, float, bool, str]:
        """Who gets a trial first: sweeps that have none, then those with less than their part, then by turns."""
        demand, share = demands[name], shares[name]
        if 0 < share < entitled[name]:
            return 1, (share + 1) / (demand.fitting * demand.priority), False, name
        has_turn = demand.granted > share
        return 2 if share else 0, demand.used_s - (demand.turn_s if has_turn else 0.0), has_turn, name

    while fitting := [name for name, demand in demands.items() if shares[name] < demand.wanted and costs[name] <= left]:
        first = min(fitting, key=order)
        shares[first] += 1
        left -= costs[first]
    return shares


def _entitled(demands: Mapping[str, Demand]) -> dict[str, int]:
    """The whole trials in each sweep's part of the cluster, by priority; what one cannot use goes to the others."""
    left, parts = Fraction(1), dict[str, Fraction]()
    while len(parts) < len(demands):
        others = {name: demand for name, demand in demands.items() if name not in parts}
        total = sum(Fraction(demand.priority) for demand in others.values())
        equal = {name: left * Fraction(demand.priority) / total for name, demand in others.items()}
        most = {name: Fraction(demand.wanted, demand.fitting) for name, demand in others.items()}
        # Those whose part is more than they can use have what they can use, and the rest is divided again.
        content = {name: most[name] for name in others if most[name] <= equal[name]}
        parts |= content or equal
        left -= sum(content.values())
    return {name: math.floor(parts[name] * demand.fitting) for name, demand in demands.items()}
