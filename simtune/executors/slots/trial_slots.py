"""Assigns trials to workers that stay alive from one trial to the next.

Starting the processes of a trial costs more than a short trial. So each *slot* is one set of workers that asks here for
one trial after another, while the scheduler assigns trials to slots and waits here for their progress. Plain asyncio,
without Ray: the Ray executor runs one `TrialSlots` as an actor.

Every assignment of a trial to a slot has a number that grows within the slot. Workers that were lost and restarted ask
without a previous assignment and get the same trial again, a limited number of times. If they were lost because their
host was, this does not count.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from simtune.executors.base import Job
from simtune.executors.slots.slot_progress import Loss, Progress, Worker, WorkerHost

NO_ASSIGNMENT = -1
Verdict = Literal["again", "lost", "cannot start", "closed"]
"""Of a trial whose workers have ended: others may start it; they were lost too often; none could start it; or its slot
was closed, because its scheduler was taken for lost."""


@dataclass
class _Slot:
    assignment: int = NO_ASSIGNMENT
    trial: str = ""
    progress: Progress = field(default_factory=lambda: Progress(ended=True))
    start: str = ""
    hosts: dict[int, WorkerHost] = field(default_factory=dict)
    has_started: bool = False
    num_failed_starts: int = 0
    waits_since: float | None = None
    placement_group: Any = None
    has_workers: bool = False
    is_placed: bool = False
    closed: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    restarting: asyncio.Lock = field(default_factory=asyncio.Lock)

    def update(self, **changes: Any) -> None:
        self.progress = replace(self.progress, **changes, update=self.progress.update + 1)
        self.changed.notify_all()

    def close(self) -> None:
        self.closed, self.has_workers, self.is_placed = True, False, False
        self.changed.notify_all()


class TrialSlots:
    """The slots of a sweep, by name. Schedulers call `assign` to `close`, workers `next_trial` to `finish`.

    Only as many slots as the limit says get workers. If it falls, slots are closed as their trials end.
    """

    def __init__(
        self,
        jobs: Mapping[str, Job],
        max_failures: int,
        is_lost: Callable[[WorkerHost], Awaitable[bool]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Makes slots.

        Args:
            jobs: the trials, by their ids.
            max_failures: how often the workers of an assignment may be lost, not counting those lost with their host.
            is_lost: whether a host is lost on which workers have just been lost.
            clock: in seconds.
        """
        self._clock = clock
        self._jobs = jobs
        self._max_failures = max_failures
        self._is_lost = is_lost
        self._slots: dict[str, _Slot] = {}
        self._limit = 0
        self._ended: set[str] = set()
        self._failed_on: dict[str, WorkerHost] = {}
        self._to_repeat: list[str] = []

    async def job(self, trial: str) -> Job:
        """The trial of an id, which its scheduler and its workers ask for."""
        return self._jobs[trial]

    async def set_limit(self, limit: int) -> None:
        """Sets how many slots may have workers; closes those above it that have no trial at the moment."""
        self._limit = limit
        for slot in list(self._slots.values()):
            async with slot.changed:
                if slot.progress.ended and self._is_above_limit(slot):
                    slot.close()

    async def usage(self) -> tuple[int, int, dict[str, int]]:
        """How many trials have not ended, how many slots have their CPUs and GPUs, and the workers on each host."""
        placed = [slot for slot in self._slots.values() if slot.is_placed]
        on_hosts = Counter(host.id for slot in placed for host in slot.hosts.values())
        return len(self._jobs) - len(self._ended), len(placed), dict(on_hosts)

    async def may_start_workers(self, slot_name: str) -> bool:
        """Whether the slot may have workers now; if so, it counts as one that has them until it is closed."""
        slot = self._slot(slot_name)
        if not slot.has_workers:
            await self._close_unused()
            slot.has_workers = not slot.closed and self._num_with_workers() < self._limit
        return slot.has_workers

    async def _close_unused(self) -> None:
        """Closes slots with workers that get no trial, because others already have as many trials as may run.

        The scheduler may give a trial to a slot whose workers have left, while another one keeps its workers.
        """
        slots = list(self._slots.values())
        if sum(not slot.progress.ended and not slot.closed for slot in slots) < self._limit:
            return
        for slot in slots:
            async with slot.changed:
                if slot.has_workers and slot.progress.ended:
                    slot.close()

    async def assign(self, slot_name: str, trial: str) -> bool:
        """Assigns a trial to a slot whose previous one has ended; false if the slot is closed."""
        slot = self._slot(slot_name)
        async with slot.changed:
            if slot.closed:
                return False
            if not slot.progress.ended:
                raise RuntimeError(f"slot {slot_name} is still running trial {slot.trial}")
            slot.assignment += 1
            slot.trial, slot.progress, slot.num_failed_starts = trial, Progress(), 0
            self._ended.discard(trial)
            if slot.waits_since is not None:
                # The trial before has waited, too.
                slot.waits_since = self._clock()
            slot.changed.notify_all()
        return True

    async def wait_for_update(self, slot_name: str, after: int, timeout_s: float) -> Progress:
        """The progress of the slot's trial once it has more than `after` updates or has ended, or after `timeout_s`."""
        slot = self._slot(slot_name)
        async with slot.changed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(
                    slot.changed.wait_for(lambda: slot.progress.update > after or slot.progress.ended), timeout_s
                )
            since = slot.waits_since
            return slot.progress if since is None else replace(slot.progress, waited_s=self._clock() - since)

    async def open_workers(self, slot_name: str) -> Any:
        """Records that new workers are opened; returns what the last ones occupy, see `placement_group`."""
        slot = self._slot(slot_name)
        slot.has_started = False
        return slot.placement_group

    async def workers_ended(self, slot_name: str) -> tuple[Verdict, Progress]:
        """What follows for the slot's trial when its workers have ended, with the progress of the trial.

        Workers that end before they start a trial may have been on a host that was lost a moment before. Where they end
        so again and again, none would ever start it.
        """
        slot = self._slot(slot_name)
        async with slot.restarting:
            await self._record_loss(slot)
        slot.num_failed_starts = 0 if slot.has_started else slot.num_failed_starts + 1
        if slot.closed:
            return "closed", slot.progress
        if slot.progress.lost:
            return "lost", slot.progress
        return "cannot start" if slot.num_failed_starts > self._max_failures else "again", slot.progress

    async def expect_workers(self, slot_name: str) -> None:
        """Records that workers were asked for: the first ones of a slot, or others instead of lost ones."""
        slot = self._slot(slot_name)
        slot.waits_since, slot.is_placed = self._clock(), False

    async def placement_group(self, slot_name: str) -> Any:
        """What the slot's last workers occupy; None if there were none so far."""
        return self._slot(slot_name).placement_group

    async def running(self) -> dict[str, tuple[int, tuple[WorkerHost, ...]]]:
        """The trials that have not ended: how often workers have started each, and on which hosts the last ones are."""
        return {
            slot.trial: (slot.progress.attempts, tuple(slot.hosts.values()))
            for slot in self._slots.values()
            if not slot.progress.ended and not slot.closed
        }

    async def try_elsewhere(self, slot_name: str, assignment: int, host: WorkerHost) -> bool:
        """Notes that a trial has failed on a host and is to be tried on another one; false if it was before."""
        slot = self._slot(slot_name)
        async with slot.changed:
            if assignment != slot.assignment or slot.progress.ended or slot.trial in self._failed_on:
                return False
            self._failed_on[slot.trial] = host
            self._to_repeat.append(slot.trial)
            slot.update(failed_on=host.name)
            return True

    async def failed_on(self, trial: str) -> str:
        """The id of the host on which a trial has failed and is not to be tried again; empty if there is none."""
        return self._failed_on[trial].id if trial in self._failed_on else ""

    async def take_trials_to_repeat(self) -> list[str]:
        """The trials that are to be tried on another host, each once."""
        trials, self._to_repeat = self._to_repeat, []
        return trials

    async def close_abandoned(self, slot_name: str, trial: str) -> list[Any]:
        """Closes the other slots to which a trial is assigned, whose schedulers must be lost.

        Returns:
            The placement groups of these slots.
        """
        placement_groups = []
        for name, slot in list(self._slots.items()):
            if name != slot_name and slot.trial == trial and not slot.closed:
                placement_groups.append(slot.placement_group)
                await self.close(name)
        return placement_groups

    async def end_trial(self, slot_name: str) -> None:
        """Ends the slot's trial on behalf of the scheduler."""
        slot = self._slot(slot_name)
        async with slot.changed:
            self._end(slot)

    async def close(self, slot_name: str) -> None:
        """Shuts down the slot's workers."""
        slot = self._slot(slot_name)
        async with slot.changed:
            slot.close()

    async def next_trial(self, slot_name: str, worker: Worker, previous: int) -> tuple[int, str] | None:
        """Waits for a worker's next trial.

        Args:
            slot_name: the worker's slot.
            worker: who asks.
            previous: the assignment that this worker has finished, or `NO_ASSIGNMENT`.

        Returns:
            The number of the assignment and its trial; None if the slot is closed.
        """
        slot = self._slot(slot_name)
        async with slot.restarting:
            if worker.start != slot.start:
                await self._record_loss(slot)
                slot.start, slot.hosts = worker.start, {}
            slot.hosts[worker.rank] = worker.host
        async with slot.changed:
            await slot.changed.wait_for(lambda: slot.closed or (not slot.progress.ended and slot.assignment > previous))
            if slot.closed:
                return None
            if worker.rank == 0:
                slot.has_started = True
                slot.update(attempts=slot.progress.attempts + 1)
            return slot.assignment, slot.trial

    async def _record_loss(self, slot: _Slot) -> None:
        """Records that workers have started a trial and ended before it has, and finds out whether their host is lost.

        Ends the trial if that was once too often.
        """
        progress, hosts = slot.progress, list(dict.fromkeys(slot.hosts.values()))
        if progress.ended or progress.attempts == len(progress.losses):
            return
        lost = await asyncio.gather(*map(self._is_lost, hosts))
        gone = [host.name for host, is_lost in zip(hosts, lost, strict=True) if is_lost]
        names = ", ".join(gone or [host.name for host in hosts])
        async with slot.changed:
            loss = Loss(names, bool(gone), slot.progress.values)
            slot.update(losses=(*slot.progress.losses, loss))
            if slot.progress.num_failures > self._max_failures:
                self._end(slot, lost=True)

    async def set_placement_group(self, slot_name: str, placement_group: object) -> None:
        """Records that workers have started, and what they occupy, so that it can be freed without their scheduler."""
        slot = self._slot(slot_name)
        slot.placement_group, slot.is_placed, slot.waits_since = placement_group, not slot.closed, None

    async def report(self, slot_name: str, assignment: int, values: Mapping[str, object]) -> None:
        """Reports progress of the first worker; ignored if the assignment has ended."""
        slot = self._slot(slot_name)
        async with slot.changed:
            if assignment == slot.assignment and not slot.progress.ended:
                slot.update(values=values)

    async def finish(self, slot_name: str, assignment: int) -> None:
        """Ends an assignment whose results, or the record of its failure, are on disk; ignored if it has ended."""
        slot = self._slot(slot_name)
        async with slot.changed:
            if assignment == slot.assignment and not slot.progress.ended:
                self._end(slot)

    def _end(self, slot: _Slot, lost: bool = False) -> None:
        """Ends the slot's trial, and with it the slot if there are more than may have workers."""
        if not slot.progress.failed_on:
            self._ended.add(slot.trial)
        above_limit = self._is_above_limit(slot)
        slot.update(ended=True, lost=lost, closed=above_limit)
        if above_limit:
            slot.close()

    def _is_above_limit(self, slot: _Slot) -> bool:
        return slot.has_workers and self._num_with_workers() > self._limit

    def _num_with_workers(self) -> int:
        return sum(slot.has_workers for slot in self._slots.values())

    def _slot(self, name: str) -> _Slot:
        return self._slots.setdefault(name, _Slot())
