"""What happens to trials when workers start, end and die, without Ray: real asyncio, real waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import pytest

from simtune.executors.trial_slots import NO_ASSIGNMENT, TrialSlots

T = TypeVar("T")


async def soon(waiting: Awaitable[T]) -> T:
    return await asyncio.wait_for(waiting, timeout=5)


def test_trials_go_to_the_workers_one_after_another_and_every_worker_sees_each_once() -> None:
    async def play() -> list[list[str]]:
        slots = TrialSlots({}, max_attempts=1)
        seen: list[list[str]] = [[], []]

        async def worker(rank: int) -> None:
            assignment = NO_ASSIGNMENT
            while (found := await slots.next_trial("slot", rank, assignment)) is not None:
                assignment, trial = found
                seen[rank].append(trial)
                if rank == 0:
                    await slots.report("slot", assignment, {"phase": "train", "completed": 1, "total": 2})
                    # The other worker has met this one in the exchange of gradients.
                    while trial not in seen[1]:
                        await asyncio.sleep(0)
                    await slots.finish("slot", assignment)

        workers = [asyncio.create_task(worker(rank)) for rank in (0, 1)]
        for trial in ("a", "b", "c"):
            await slots.assign("slot", trial)
            progress = await soon(slots.wait_for_update("slot", 0, timeout_s=5))
            while not progress.ended:
                progress = await soon(slots.wait_for_update("slot", progress.update, timeout_s=5))
            assert (progress.attempts, progress.lost, progress.values["total"]) == (1, False, 2)
        await slots.close("slot")
        await soon(asyncio.gather(*workers))
        return seen

    assert asyncio.run(play()) == [["a", "b", "c"], ["a", "b", "c"]]


def test_restarted_workers_get_the_same_trial_a_limited_number_of_times_and_then_the_next() -> None:
    async def play() -> None:
        slots = TrialSlots({}, max_attempts=3)
        await slots.assign("slot", "deadly")
        for attempt in (1, 2, 3):
            assert await soon(slots.next_trial("slot", 0, NO_ASSIGNMENT)) == (0, "deadly")
            assert (await slots.wait_for_update("slot", 0, 0.0)).attempts == attempt
        fourth = asyncio.create_task(slots.next_trial("slot", 0, NO_ASSIGNMENT))
        progress = await soon(slots.wait_for_update("slot", 3, timeout_s=5))
        assert (progress.lost, progress.ended, progress.attempts) == (True, True, 3)
        assert not fourth.done()
        await slots.assign("slot", "harmless")
        assert await soon(fourth) == (1, "harmless")
        assert (await slots.wait_for_update("slot", 0, 0.0)).attempts == 1
        assert (await slots.workers_ended("slot"))[0] == "again"

    asyncio.run(play())


def test_workers_that_end_before_they_start_a_trial_are_replaced_a_limited_number_of_times() -> None:
    async def play() -> None:
        slots = TrialSlots({}, max_attempts=3)

        async def verdict(starts: bool = False) -> str:
            await slots.open_workers("slot")
            if starts:
                await soon(slots.next_trial("slot", 0, NO_ASSIGNMENT))
            return (await slots.workers_ended("slot"))[0]

        await slots.assign("slot", "a")
        assert [await verdict() for _ in range(3)] == ["again", "again", "in vain"]
        await slots.end_trial("slot")
        await slots.assign("slot", "b")
        assert [await verdict(starts) for starts in (False, False, True, False, False)] == ["again"] * 5
        assert await verdict() == "in vain"
        await slots.end_trial("slot")
        await slots.assign("slot", "c")
        assert [await verdict(starts=True) for _ in range(3)] == ["again", "again", "lost"]

    asyncio.run(play())


def test_slots_are_independent_and_late_reports_of_an_ended_trial_are_dropped() -> None:
    async def play() -> None:
        slots = TrialSlots({}, max_attempts=2)
        await slots.assign("one", "a")
        await slots.assign("two", "b")
        assert await soon(slots.next_trial("two", 0, NO_ASSIGNMENT)) == (0, "b")
        assert await soon(slots.next_trial("one", 0, NO_ASSIGNMENT)) == (0, "a")
        await slots.finish("one", 0)
        await slots.report("one", 0, {"phase": "late"})
        assert (await slots.wait_for_update("one", -1, 0.0)).values == {}
        assert not (await slots.wait_for_update("two", -1, 0.0)).ended
        await slots.assign("one", "c")
        # Of an assignment that is no longer the slot's.
        await slots.finish("one", 0)
        assert not (await slots.wait_for_update("one", -1, 0.0)).ended
        with pytest.raises(RuntimeError, match="slot one is still running trial c"):
            await slots.assign("one", "d")

    asyncio.run(play())


def test_waiting_for_an_update_ends_in_time() -> None:
    async def play() -> None:
        slots = TrialSlots({}, max_attempts=1)
        await slots.assign("slot", "a")
        assert (await soon(slots.wait_for_update("slot", 0, timeout_s=0.01))).update == 0

    asyncio.run(play())


def test_a_slot_whose_scheduler_was_lost_is_closed_by_the_scheduler_that_continues_its_trial() -> None:
    async def play() -> None:
        slots = TrialSlots({}, max_attempts=2)
        for slot, trial in (("lost", "a"), ("other", "b")):
            await slots.assign(slot, trial)
            assert await soon(slots.next_trial(slot, 0, NO_ASSIGNMENT)) == (0, trial)
            await slots.set_placement_group(slot, f"placement group of {slot}")
        assert await slots.close_abandoned("new", "a") == ["placement group of lost"]
        assert await soon(slots.next_trial("lost", 0, NO_ASSIGNMENT)) is None
        assert (await slots.workers_ended("lost"))[0] == "closed"
        assert not (await slots.wait_for_update("other", -1, 0.0)).ended
        assert await slots.placement_group("other") == "placement group of other"
        assert await slots.close_abandoned("new", "a") == []

    asyncio.run(play())


def test_schedulers_and_workers_ask_for_one_trial_at_a_time() -> None:
    jobs: dict[str, Any] = {"a": "the trial a", "b": "the trial b"}
    assert asyncio.run(TrialSlots(jobs, max_attempts=1).job("b")) == "the trial b"


def test_a_trial_waits_from_the_request_for_workers_until_they_start_and_again_after_a_loss() -> None:
    now = [0.0]

    async def play() -> None:
        slots = TrialSlots({}, max_attempts=3, clock=lambda: now[0])

        async def waited_s() -> float:
            return (await slots.wait_for_update("slot", -1, 0.0)).waited_s

        await slots.assign("slot", "a")
        now[0] = 50.0
        assert await waited_s() == 0
        await slots.expect_workers("slot")
        now[0] = 150.0
        assert await waited_s() == 100
        # Left out: the next trial of the slot waits on its own.
        await slots.end_trial("slot")
        await slots.assign("slot", "b")
        assert await waited_s() == 0
        now[0] = 170.0
        assert await waited_s() == 20
        await slots.set_placement_group("slot", "placement group")
        assert await soon(slots.next_trial("slot", 0, NO_ASSIGNMENT)) == (1, "b")
        now[0] = 500.0
        assert await waited_s() == 0
        # Its host is lost.
        await slots.expect_workers("slot")
        now[0] = 540.0
        assert await waited_s() == 40
        await slots.set_placement_group("slot", "another placement group")
        assert await waited_s() == 0


def test_only_as_many_slots_as_the_limit_says_get_workers_and_those_above_it_close_as_their_trials_end() -> None:
    async def play() -> None:
        slots = TrialSlots(dict.fromkeys("abcde"), max_attempts=2)  # type: ignore[misc]
        names = ("one", "two", "three")
        for name, trial in zip(names, "abc", strict=True):
            await slots.assign(name, trial)
        assert [await slots.may_start_workers(name) for name in names] == [False, False, False]
        await slots.set_limit(2)
        assert [await slots.may_start_workers(name) for name in names] == [True, True, False]
        assert await slots.usage() == (5, 0)
        for name in names[:2]:
            assert (await soon(slots.next_trial(name, 0, NO_ASSIGNMENT))) is not None
            await slots.set_placement_group(name, "its CPUs")
        assert await slots.usage() == (5, 2)
        await slots.set_limit(1)
        # Nothing happens to a trial that runs; workers that were lost in it start again.
        assert [await slots.may_start_workers(name) for name in names] == [True, True, False]
        await slots.finish("one", 0)
        ended = await slots.wait_for_update("one", -1, 0.0)
        assert (ended.ended, ended.closed) == (True, True)
        assert await soon(slots.next_trial("one", 0, 0)) is None
        assert not await slots.assign("one", "d")
        assert await slots.usage() == (4, 1)
        assert not await slots.may_start_workers("three")
        # The last one keeps its workers.
        await slots.finish("two", 0)
        assert not (await slots.wait_for_update("two", -1, 0.0)).closed
        assert await slots.assign("two", "d")
        assert await soon(slots.next_trial("two", 0, 0)) == (1, "d")
        await slots.set_limit(2)
        assert await slots.may_start_workers("three")

    asyncio.run(play())


def test_a_slot_without_a_trial_closes_at_once_if_the_limit_falls() -> None:
    async def play() -> None:
        slots = TrialSlots({"a": None}, max_attempts=2)  # type: ignore[dict-item]
        await slots.set_limit(1)
        await slots.assign("slot", "a")
        assert await slots.may_start_workers("slot")
        assert await soon(slots.next_trial("slot", 0, NO_ASSIGNMENT)) == (0, "a")
        await slots.finish("slot", 0)
        waiting = asyncio.create_task(slots.next_trial("slot", 0, 0))
        await slots.set_limit(0)
        assert await soon(waiting) is None
        assert not await slots.assign("slot", "a")
        assert await slots.assign("new", "a")
        assert not await slots.may_start_workers("new")

    asyncio.run(play())
