"""Hands trials to workers that stay open from one trial to the next.

Starting the processes of a trial costs more than a short trial. So each *slot* is one set of workers that asks here for
trial after trial, and whoever schedules puts trials in and waits here for what becomes of them. Plain asyncio, without
Ray: the Ray executor runs one as an actor.

A trial put into a slot is a *ticket*, a number that grows. Workers that were lost and started again ask with no ticket
behind them and are given the same trial once more, a limited number of times.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

NO_TICKET = -1


@dataclass
class Event:
    """What a scheduler is told of a ticket.

    Attributes:
        number: counts the news of a ticket, from 1.
        ended: the workers are done with it, or lost too often.
        attempts: how often workers have taken it.
        lost: its workers were lost more often than is allowed.
        progress: the last values its first worker sent.
    """

    number: int = 0
    ended: bool = False
    attempts: int = 0
    lost: bool = False
    progress: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Slot:
    ticket: int = NO_TICKET
    trial: str = ""
    news: Event = field(default_factory=lambda: Event(ended=True))
    takes: int = 0
    room: Any = None
    closed: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)


class Switchboard:
    """The slots of a sweep."""

    def __init__(self, max_attempts: int) -> None:
        self._max_attempts = max_attempts
        self._slots: dict[str, _Slot] = {}

    async def offer(self, slot: str, trial: str) -> int:
        """Puts a trial into a slot whose last one has ended; returns its ticket."""
        place = self._slot(slot)
        async with place.changed:
            if not place.news.ended:
                raise RuntimeError(f"slot {slot} is still at {place.trial}")
            place.ticket += 1
            place.trial, place.news = trial, Event()
            place.changed.notify_all()
        return place.ticket

    async def news(self, slot: str, after: int, timeout_s: float) -> Event:
        """What is new of the slot's ticket beyond event number `after`, or the last again after `timeout_s`."""
        place = self._slot(slot)
        async with place.changed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(
                    place.changed.wait_for(lambda: place.news.number > after or place.news.ended), timeout_s
                )
            return place.news

    async def take(self, slot: str, rank: int, behind: int) -> tuple[int, str] | None:
        """The next ticket and its trial for a worker that has ticket `behind` behind it; None when the slot closes."""
        place = self._slot(slot)
        async with place.changed:
            while True:
                await place.changed.wait_for(lambda: place.closed or (not place.news.ended and place.ticket > behind))
                if place.closed:
                    return None
                if rank == 0:
                    if place.news.attempts == self._max_attempts:
                        self._tell(place, ended=True, lost=True)
                        continue
                    place.takes += 1
                    self._tell(place, attempts=place.news.attempts + 1)
                return place.ticket, place.trial

    async def takes(self, slot: str) -> int:
        """How often the slot's first worker took a trial so far."""
        return self._slot(slot).takes

    async def settle(self, slot: str, room: Any) -> None:
        """The slot's workers say what they occupy, to be given back where those who asked for it are lost."""
        self._slot(slot).room = room

    async def room(self, slot: str) -> Any:
        """What the slot's last workers occupied; None where none came so far."""
        return self._slot(slot).room

    async def abandoned(self, slot: str, trial: str) -> list[Any]:
        """Closes the other slots that this trial was put into, whose scheduler must be lost; what they occupied."""
        rooms = []
        for name, place in list(self._slots.items()):
            if name != slot and place.trial == trial and not place.closed:
                rooms.append(place.room)
                await self.close(name)
        return rooms

    async def progress(self, slot: str, ticket: int, values: dict[str, Any]) -> None:
        """News of the first worker."""
        place = self._slot(slot)
        async with place.changed:
            if ticket == place.ticket and not place.news.ended:
                self._tell(place, progress=values)

    async def finish(self, slot: str, ticket: int) -> None:
        """The first worker is done: the trial's results, or why there are none, are on disk."""
        place = self._slot(slot)
        async with place.changed:
            if ticket == place.ticket and not place.news.ended:
                self._tell(place, ended=True)

    async def give_up(self, slot: str) -> None:
        """Ends the slot's ticket from the scheduler's side."""
        place = self._slot(slot)
        async with place.changed:
            self._tell(place, ended=True)

    async def close(self, slot: str) -> None:
        """Sends the slot's workers home."""
        place = self._slot(slot)
        async with place.changed:
            place.closed = True
            place.changed.notify_all()

    def _slot(self, slot: str) -> _Slot:
        return self._slots.setdefault(slot, _Slot())

    def _tell(self, place: _Slot, **changes: Any) -> None:
        place.news = Event(**{**vars(place.news), **changes, "number": place.news.number + 1})
        place.changed.notify_all()
