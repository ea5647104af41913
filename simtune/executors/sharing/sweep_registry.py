"""The sweeps that use a cluster at the moment, and how many trials each may run at once.

Plain Python, without Ray: drivers run one `SweepRegistry` as an actor, and report to it every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto

from simtune.executors.sharing.fair_shares import Demand, fair_shares

FORGOTTEN_AFTER_S = 30.0
"""A sweep whose driver has not reported for so long counts no more."""

_PATIENCE_S = 120.0
_GIVES_WAY_S = 600.0


@dataclass(frozen=True)
class Usage:
    """What a driver reports of its sweep.

    Attributes:
        fitting: how many of its trials the hosts that are there now hold if no other sweep uses them.
        wanted: how many trials it would run at once.
        held: how many trials have their CPUs and GPUs.
    """

    fitting: int
    wanted: int
    held: int


class Placing(Enum):
    """What a sweep takes from others to run its first trial."""

    BESIDE = auto()
    """Its share. That need not be enough if its workers are larger than what is free on any one host."""
    ALONE = auto()
    """All, in its turn, so that hosts become free as a whole."""
    GIVES_WAY = auto()
    """Nothing for a while, since something else occupies what its workers need. They start if that changes."""


@dataclass
class _Sweep:
    demand: Demand
    held: int
    reported: float
    placing: Placing
    since: float

    def report(self, usage: Usage, now: float, held_by_others: float) -> None:
        """Takes what its driver reports; `held_by_others` is their part of the cluster."""
        before = self.demand
        used_s = before.used_s + (now - self.reported) * self.held / before.fitting / before.priority
        self.held, self.reported = usage.held, now
        self._find_place(usage, now, held_by_others)
        fitting = 1 if self.placing == Placing.ALONE else max(1, usage.fitting)
        wanted = 0 if self.placing == Placing.GIVES_WAY else min(usage.wanted, usage.fitting, fitting)
        self.demand = replace(before, fitting=fitting, wanted=wanted, used_s=used_s)

    def _find_place(self, usage: Usage, now: float, held_by_others: float) -> None:
        if usage.held or not usage.wanted or not usage.fitting:
            self.placing, self.since = Placing.BESIDE, now
        elif self.placing == Placing.GIVES_WAY:
            if now - self.since > _GIVES_WAY_S:
                self.placing, self.since = Placing.BESIDE, now
        elif not self.demand.granted or held_by_others + 1 / self.demand.fitting > 1:
            # Others have yet to leave what is its own.
            self.since = now
        elif now - self.since > _PATIENCE_S:
            self.placing = Placing.ALONE if self.placing == Placing.BESIDE else Placing.GIVES_WAY
            self.since = now


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
        now = self._clock()
        for other in [other for other, sweep in self._sweeps.items() if now - sweep.reported > FORGOTTEN_AFTER_S]:
            del self._sweeps[other]
        is_new = name not in self._sweeps
        sweep = self._sweeps.setdefault(name, self._new(priority, now))
        others = (other for other in self._sweeps.values() if other is not sweep)
        sweep.report(usage, now, sum(other.held / other.demand.fitting for other in others))
        shares = fair_shares({other: sweep.demand for other, sweep in self._sweeps.items()})
        for other, share in shares.items():
            self._sweeps[other].demand = replace(self._sweeps[other].demand, granted=share)
        if is_new and usage.held:
            # The registry before this one was lost. Others have not reported yet.
            return usage.held
        if usage.fitting and sweep.placing != Placing.GIVES_WAY:
            return shares[name]
        # Its workers wait; without any host, they are what an autoscaler acts on.
        return min(1, usage.wanted)

    def leave(self, name: str) -> None:
        """Forgets a sweep that needs nothing more for now."""
        self._sweeps.pop(name, None)

    def _new(self, priority: float, now: float) -> _Sweep:
        """A sweep that has just come: it has the next turn, but no claim to what others used before."""
        others = [sweep.demand for sweep in self._sweeps.values()]
        used_s = min((demand.used_s - demand.turn_s for demand in others), default=0.0)
        return _Sweep(Demand(priority, fitting=1, wanted=0, used_s=used_s), 0, now, Placing.BESIDE, now)
