"""The trials of a sweep on the hosts of a cluster, simulated event by event: when they end, and what losses repeat.

What is simulated is what executors do. A slot has the workers of one trial. It takes the next trial once the driver has
recorded the last one, and starts its workers once. The driver does one thing at a time. A lost host ends the attempts
of its slots: when the driver has noticed, their trials continue at their newest checkpoints in the next free slots, and
later another host takes the place of the lost one. Answers that a trial has given are kept.

No clock and no file is read: the same inputs give the same schedule.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from simtune.errors import ConfigError
from simtune.wording import counted

# Without checkpoints, a trial that takes several times as long as a host lasts would never end.
_MOST_RESTARTS = 1000


@dataclass(frozen=True)
class TrialWork:
    """What a trial computes, in seconds of one slot."""

    train_s: float
    evaluate_s: float


@dataclass(frozen=True)
class Cluster:
    """Hosts, all alike, and how trials are placed on them.

    Attributes:
        hosts: number of hosts.
        workers_per_host: workers that fit on a host.
        workers_per_trial: on one host or over several.
        most_slots: how many trials run at once at most; None: as many as fit.
        losses_per_hour: expected losses of a host in an hour; losses are a Poisson process.
        replaced_s: seconds from the loss of a host until another one is there in its place.
    """

    hosts: int
    workers_per_host: int
    workers_per_trial: int = 1
    most_slots: int | None = None
    losses_per_hour: float = 0.0
    replaced_s: float = 0.0

    @property
    def num_slots(self) -> int:
        """How many trials run at once."""
        fitting = self.hosts * self.workers_per_host // self.workers_per_trial
        return fitting if self.most_slots is None else min(fitting, self.most_slots)


@dataclass(frozen=True)
class Overheads:
    """Seconds that trials cost beside their work.

    Attributes:
        open_s: of the driver, to open a slot.
        start_s: from a slot that is open until its workers take their first trial.
        around_s: of every attempt at a trial: its model is loaded, its results are scored and written.
        driver_s: of the driver, to record that a trial has ended.
        notice_s: from the loss of a host until the driver has noticed it.
    """

    open_s: float = 0.0
    start_s: float = 0.0
    around_s: float = 0.0
    driver_s: float = 0.0
    notice_s: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """What a simulation found.

    Attributes:
        wall_s: from the start of the first trial until the driver has recorded the last one.
        occupied_s: by trial: how long it occupied slots, with the starts of workers and repeated work.
        repeated_s: work that was repeated after losses, over all trials.
        num_losses: hosts that were lost while they worked on a trial.
    """

    wall_s: float
    occupied_s: tuple[float, ...]
    repeated_s: float
    num_losses: int


def simulate(
    trials: Sequence[TrialWork],
    cluster: Cluster,
    overheads: Overheads,
    checkpoint_s: float | None = None,
    seed: int = 0,
) -> Schedule:
    """Simulates the trials of a sweep.

    Args:
        trials: in the order in which they start.
        cluster: that they run on.
        overheads: beside their own work.
        checkpoint_s: seconds of training between two checkpoints; None: a lost trial starts again from its beginning.
        seed: of the losses.

    Raises:
        ConfigError: a trial does not fit on the cluster, or is lost so often that it does not end.
    """
    if cluster.num_slots < 1:
        raise ConfigError(
            f"a trial of {counted(cluster.workers_per_trial, 'worker')} does not fit: {counted(cluster.hosts, 'host')} "
            f"with {counted(cluster.workers_per_host, 'worker')} each"
        )
    return _Simulation(trials, cluster, overheads, checkpoint_s).run(seed)


@dataclass
class _Slot:
    """The workers of a trial.

    Attributes:
        hosts: where they are.
        num_lost: how many of these hosts are lost now.
        is_open: whether its workers run.
        is_queued: whether it is among the free slots.
        trial: that it works on; None without one.
        taken: when it took its trial.
        works_from: when the trial's own work begins.
        attempt: counts trials and losses, so that the end of an attempt that was lost is ignored.
    """

    number: int
    hosts: range
    num_lost: int = 0
    is_open: bool = False
    is_queued: bool = False
    trial: int | None = None
    taken: float = 0.0
    works_from: float = 0.0
    attempt: int = 0


@dataclass
class _Saved:
    """What a trial has on disk: seconds of training in its newest checkpoint, and of answers."""

    train_s: float = 0.0
    evaluate_s: float = 0.0
    restarts: int = 0


class _Simulation:
    """The state of a simulation. An event is a function that is called at its time."""

    def __init__(
        self, trials: Sequence[TrialWork], cluster: Cluster, overheads: Overheads, checkpoint_s: float | None
    ) -> None:
        self._trials, self._cluster, self._overheads = trials, cluster, overheads
        self._checkpoint_s = checkpoint_s
        per_host, per_trial = cluster.workers_per_host, cluster.workers_per_trial
        self._slots = [
            _Slot(number, range(number * per_trial // per_host, ((number + 1) * per_trial - 1) // per_host + 1))
            for number in range(cluster.num_slots)
        ]
        self._slots_of_host: dict[int, list[_Slot]] = {}
        for slot in self._slots:
            for host in slot.hosts:
                self._slots_of_host.setdefault(host, []).append(slot)
        self._waiting = deque(range(len(trials)))
        self._saved = [_Saved() for _ in trials]
        self._occupied_s = [0.0] * len(trials)
        self._repeated_s = 0.0
        self._num_losses = 0
        self._num_left = len(trials)
        self._now = self._driver_free_at = self._wall_s = 0.0
        # Numbers of free slots: the lowest first, so that no more are opened than needed.
        self._free: list[int] = []
        # The second number keeps events of the same time in the order in which they were planned.
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._num_planned = 0

    def run(self, seed: int) -> Schedule:
        if self._cluster.losses_per_hour > 0:
            for host in self._slots_of_host:
                # A host has the same losses in a cluster of any size.
                self._plan_loss(host, random.Random(f"{seed} {host}"))
        for slot in self._slots:
            self._set_free(slot)
        while self._num_left:
            self._start_trials()
            self._now, _, event = heapq.heappop(self._events)
            event()
        return Schedule(self._wall_s, tuple(self._occupied_s), self._repeated_s, self._num_losses)

    def _plan(self, at: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at, self._num_planned, event))
        self._num_planned += 1

    def _done_by_driver(self, seconds: float) -> float:
        """When the driver will have done something that takes it so long."""
        self._driver_free_at = max(self._driver_free_at, self._now) + seconds
        return self._driver_free_at

    def _set_free(self, slot: _Slot) -> None:
        if slot.trial is None and not slot.num_lost and not slot.is_queued:
            slot.is_queued = True
            heapq.heappush(self._free, slot.number)

    def _start_trials(self) -> None:
        while self._waiting and self._free:
            slot = self._slots[heapq.heappop(self._free)]
            slot.is_queued = False
            if not slot.num_lost:
                self._start(slot, self._waiting.popleft())

    def _start(self, slot: _Slot, trial: int) -> None:
        slot.trial, slot.taken = trial, self._now
        slot.attempt += 1
        opened = self._now
        if not slot.is_open:
            # What a slot has on the driver's host outlives the hosts of its workers.
            opened = self._done_by_driver(self._overheads.open_s) if slot.attempt == 1 else self._now
            opened += self._overheads.start_s
            slot.is_open = True
        slot.works_from = opened + self._overheads.around_s
        work, saved = self._trials[trial], self._saved[trial]
        left_s = (work.train_s - saved.train_s) + (work.evaluate_s - saved.evaluate_s)
        self._plan(slot.works_from + left_s, partial(self._end, slot, trial, slot.attempt))

    def _end(self, slot: _Slot, trial: int, attempt: int) -> None:
        if slot.attempt != attempt:
            return
        self._occupied_s[trial] += self._now - slot.taken
        slot.trial = None
        self._num_left -= 1
        self._wall_s = self._done_by_driver(self._overheads.driver_s)
        self._plan(self._wall_s, partial(self._set_free, slot))

    def _plan_loss(self, host: int, chance: random.Random) -> None:
        after_s = 3600 * chance.expovariate(self._cluster.losses_per_hour)
        self._plan(self._now + after_s, partial(self._lose, host, chance))

    def _lose(self, host: int, chance: random.Random) -> None:
        working = [(slot, slot.trial) for slot in self._slots_of_host[host] if slot.trial is not None]
        self._num_losses += bool(working)
        for slot, trial in working:
            self._interrupt(slot, trial)
        for slot in self._slots_of_host[host]:
            slot.num_lost += 1
            slot.is_open = False
        self._plan(self._now + self._cluster.replaced_s, partial(self._replace, host, chance))

    def _replace(self, host: int, chance: random.Random) -> None:
        for slot in self._slots_of_host[host]:
            slot.num_lost -= 1
            self._set_free(slot)
        self._plan_loss(host, chance)

    def _interrupt(self, slot: _Slot, trial: int) -> None:
        """Ends the attempt of a slot whose host is lost; its trial is the next to start when that is noticed."""
        work, saved = self._trials[trial], self._saved[trial]
        worked_s = max(0.0, self._now - slot.works_from)
        trained_s = min(worked_s, work.train_s - saved.train_s)
        kept_s = self._checkpointed(trained_s)
        saved.train_s += kept_s
        saved.evaluate_s += worked_s - trained_s
        saved.restarts += 1
        if saved.restarts > _MOST_RESTARTS:
            raise ConfigError(
                f"a trial of {(work.train_s + work.evaluate_s) / 3600:.1f} h was lost "
                f"{counted(_MOST_RESTARTS, 'time')} and did not end: a host is lost every "
                f"{1 / self._cluster.losses_per_hour:.2g} h. Save checkpoints more often",
                field="resources.checkpoint_minutes",
            )
        self._repeated_s += trained_s - kept_s
        self._occupied_s[trial] += self._now - slot.taken
        slot.trial = None
        slot.attempt += 1
        self._plan(self._now + self._overheads.notice_s, partial(self._waiting.appendleft, trial))

    def _checkpointed(self, trained_s: float) -> float:
        """How much of an attempt's training its newest checkpoint has."""
        if self._checkpoint_s is None:
            return 0.0
        return trained_s // self._checkpoint_s * self._checkpoint_s if self._checkpoint_s else trained_s
