"""What becomes of trials when workers come, go and die, without any Ray: real asyncio, real waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import pytest

from simtune.executors.trial_slots import NO_TICKET, Switchboard

T = TypeVar("T")


async def soon(waiting: Awaitable[T]) -> T:
    return await asyncio.wait_for(waiting, timeout=5)


def test_trials_go_to_the_workers_one_after_another_and_every_worker_sees_each_once() -> None:
    async def play() -> list[list[str]]:
        board = Switchboard(max_attempts=1)
        seen: list[list[str]] = [[], []]

        async def worker(rank: int) -> None:
            behind = NO_TICKET
            while (taken := await board.take("slot", rank, behind)) is not None:
                behind, trial = taken
                seen[rank].append(trial)
                if rank == 0:
                    await board.progress("slot", behind, {"phase": "train", "completed": 1, "total": 2})
                    # The other worker has met this one in the exchange of gradients.
                    while trial not in seen[1]:
                        await asyncio.sleep(0)
                    await board.finish("slot", behind)

        workers = [asyncio.create_task(worker(rank)) for rank in (0, 1)]
        for trial in ("a", "b", "c"):
            await board.offer("slot", trial)
            news = await soon(board.news("slot", 0, timeout_s=5))
            while not news.ended:
                news = await soon(board.news("slot", news.number, timeout_s=5))
            assert (news.attempts, news.lost, news.progress["total"]) == (1, False, 2)
        await board.close("slot")
        await soon(asyncio.gather(*workers))
        return seen

    assert asyncio.run(play()) == [["a", "b", "c"], ["a", "b", "c"]]


def test_workers_that_come_back_get_the_same_trial_so_often_and_then_the_next() -> None:
    async def play() -> None:
        board = Switchboard(max_attempts=3)
        await board.offer("slot", "deadly")
        for attempt in (1, 2, 3):
            assert await soon(board.take("slot", 0, NO_TICKET)) == (0, "deadly")
            assert (await board.news("slot", 0, 0.0)).attempts == attempt
        fourth = asyncio.create_task(board.take("slot", 0, NO_TICKET))
        news = await soon(board.news("slot", 3, timeout_s=5))
        assert (news.lost, news.ended, news.attempts) == (True, True, 3)
        assert not fourth.done()
        await board.offer("slot", "harmless")
        assert await soon(fourth) == (1, "harmless")
        assert (await board.news("slot", 0, 0.0)).attempts == 1
        assert await board.takes("slot") == 4

    asyncio.run(play())


def test_slots_know_nothing_of_each_other_and_late_words_of_an_ended_trial_are_dropped() -> None:
    async def play() -> None:
        board = Switchboard(max_attempts=2)
        await board.offer("one", "a")
        await board.offer("two", "b")
        assert await soon(board.take("two", 0, NO_TICKET)) == (0, "b")
        assert await soon(board.take("one", 0, NO_TICKET)) == (0, "a")
        await board.finish("one", 0)
        await board.progress("one", 0, {"phase": "late"})
        assert (await board.news("one", -1, 0.0)).progress == {}
        assert not (await board.news("two", -1, 0.0)).ended
        await board.offer("one", "c")
        # A word of a trial that is not the slot's any more.
        await board.finish("one", 0)
        assert not (await board.news("one", -1, 0.0)).ended
        with pytest.raises(RuntimeError, match="still at c"):
            await board.offer("one", "d")

    asyncio.run(play())


def test_waiting_for_news_ends_in_time() -> None:
    async def play() -> None:
        board = Switchboard(max_attempts=1)
        await board.offer("slot", "a")
        assert (await soon(board.news("slot", 0, timeout_s=0.01))).number == 0

    asyncio.run(play())


def test_a_slot_whose_scheduler_was_lost_is_closed_by_who_takes_up_its_trial() -> None:
    async def play() -> None:
        board = Switchboard(max_attempts=2)
        for slot, trial in (("lost", "a"), ("other", "b")):
            await board.offer(slot, trial)
            assert await soon(board.take(slot, 0, NO_TICKET)) == (0, trial)
            await board.settle(slot, f"room of {slot}")
        assert await board.abandoned("new", "a") == ["room of lost"]
        assert await soon(board.take("lost", 0, NO_TICKET)) is None
        assert not (await board.news("other", -1, 0.0)).ended
        assert await board.room("other") == "room of other"
        assert await board.abandoned("new", "a") == []

    asyncio.run(play())
