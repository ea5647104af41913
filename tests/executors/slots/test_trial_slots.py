"""What happens to trials when workers start, end and die, without Ray: real asyncio, real waiting."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from simtune.executors.slots.slot_progress import Loss, Worker, WorkerHost
from simtune.executors.slots.trial_slots import NO_ASSIGNMENT, TrialSlots

T = TypeVar("T")


async def soon(waiting: Awaitable[T]) -> T:
    return await asyncio.wait_for(waiting, timeout=5)


async def never(host: WorkerHost) -> bool:
    return False


def new_slots(max_failures: int, lost: Callable[[WorkerHost], Awaitable[bool]] = never) -> TrialSlots:
    return TrialSlots({}, max_failures, lost)


def worker(rank: int = 0, start: str = "first", host: str = "h1") -> Worker:
    return Worker(rank, start, WorkerHost(f"id of {host}", host, f"{host}:8076"))


def test_trials_go_to_the_workers_one_after_another_and_every_worker_sees_each_once() -> None:
    async def play() -> list[list[str]]:
        slots = new_slots(max_failures=0)
        seen: list[list[str]] = [[], []]

        async def work(rank: int) -> None:
            assignment = NO_ASSIGNMENT
            while (found := await slots.next_trial("slot", worker(rank), assignment)) is not None:
                assignment, trial = found
                seen[rank].append(trial)
                if rank == 0:
                    await slots.report("slot", assignment, {"phase": "train", "completed": 1, "total": 2})
                    # The other worker has met this one in the exchange of gradients.
                    while trial not in seen[1]:
                        await asyncio.sleep(0)
                    await slots.finish("slot", assignment)

        workers = [asyncio.create_task(work(rank)) for rank in (0, 1)]
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
        slots = new_slots(max_failures=2)
        await slots.assign("slot", "deadly")
        for attempt in (1, 2, 3):
            assert await soon(slots.next_trial("slot", worker(start=f"start {attempt}"), NO_ASSIGNMENT)) == (
                0,
                "deadly",
            )
            assert (await slots.wait_for_update("slot", 0, 0.0)).attempts == attempt
        fourth = asyncio.create_task(slots.next_trial("slot", worker(start="start 4"), NO_ASSIGNMENT))
        progress = await soon(slots.wait_for_update("slot", 6, timeout_s=5))
        assert (progress.lost, progress.ended, progress.attempts) == (True, True, 3)
        assert not fourth.done()
        await slots.assign("slot", "harmless")
        assert await soon(fourth) == (1, "harmless")
        assert (await slots.wait_for_update("slot", 0, 0.0)).attempts == 1
        assert (await slots.workers_ended("slot"))[0] == "again"

    asyncio.run(play())


def test_workers_that_end_before_they_start_a_trial_are_replaced_a_limited_number_of_times() -> None:
    starts = itertools.count()

    async def play() -> None:
        slots = new_slots(max_failures=2)

        async def verdict(begins: bool = False) -> str:
            await slots.open_workers("slot")
            if begins:
                await soon(slots.next_trial("slot", worker(start=f"start {next(starts)}"), NO_ASSIGNMENT))
            return (await slots.workers_ended("slot"))[0]

        await slots.assign("slot", "a")
        assert [await verdict() for _ in range(3)] == ["again", "again", "cannot start"]
        await slots.end_trial("slot")
        await slots.assign("slot", "b")
        assert [await verdict(begins) for begins in (False, False, True, False, False)] == ["again"] * 5
        assert await verdict() == "cannot start"
        await slots.end_trial("slot")
        await slots.assign("slot", "c")
        assert [await verdict(begins=True) for _ in range(3)] == ["again", "again", "lost"]

    asyncio.run(play())


def test_slots_are_independent_and_late_reports_of_an_ended_trial_are_dropped() -> None:
    async def play() -> None:
        slots = new_slots(max_failures=1)
        await slots.assign("one", "a")
        await slots.assign("two", "b")
        assert await soon(slots.next_trial("two", worker(), NO_ASSIGNMENT)) == (0, "b")
        assert await soon(slots.next_trial("one", worker(), NO_ASSIGNMENT)) == (0, "a")
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
        slots = new_slots(max_failures=0)
        await slots.assign("slot", "a")
        assert (await soon(slots.wait_for_update("slot", 0, timeout_s=0.01))).update == 0

    asyncio.run(play())


def test_a_slot_whose_scheduler_was_lost_is_closed_by_the_scheduler_that_continues_its_trial() -> None:
    async def play() -> None:
        slots = new_slots(max_failures=1)
        for slot, trial in (("lost", "a"), ("other", "b")):
            await slots.assign(slot, trial)
            assert await soon(slots.next_trial(slot, worker(), NO_ASSIGNMENT)) == (0, trial)
            await slots.set_placement_group(slot, f"placement group of {slot}")
        assert await slots.close_abandoned("new", "a") == ["placement group of lost"]
        assert await soon(slots.next_trial("lost", worker(), NO_ASSIGNMENT)) is None
        assert (await slots.workers_ended("lost"))[0] == "closed"
        assert not (await slots.wait_for_update("other", -1, 0.0)).ended
        assert await slots.placement_group("other") == "placement group of other"
        assert await slots.close_abandoned("new", "a") == []

    asyncio.run(play())


def test_schedulers_and_workers_ask_for_one_trial_at_a_time() -> None:
    jobs: dict[str, Any] = {"a": "the trial a", "b": "the trial b"}
    assert asyncio.run(TrialSlots(jobs, 0, never).job("b")) == "the trial b"


def test_workers_lost_with_their_host_cost_no_try_and_those_lost_on_a_living_host_do() -> None:
    async def is_lost(host: WorkerHost) -> bool:
        return host.name != "h9"

    async def play() -> None:
        slots = new_slots(max_failures=1, lost=is_lost)
        await slots.assign("slot", "a")
        for number in range(5):
            assert await soon(slots.next_trial("slot", worker(0, f"start {number}", f"h{number}"), NO_ASSIGNMENT))
            await slots.report("slot", 0, {"phase": "train", "completed": number, "total": 9})
        progress = await slots.wait_for_update("slot", -1, 0.0)
        assert [(loss.host, loss.with_host, loss.values["completed"]) for loss in progress.losses] == [
            (f"h{number}", True, number) for number in range(4)
        ]
        assert (progress.attempts, progress.num_failures, progress.lost) == (5, 0, False)
        # The first loss of a process alone is allowed, the second is not; then nobody gets the trial any more.
        for start in ("sixth", "seventh"):
            assert await soon(slots.next_trial("slot", worker(0, start, "h9"), NO_ASSIGNMENT)) == (0, "a")
        verdict, progress = await soon(slots.workers_ended("slot"))
        assert (verdict, progress.ended, progress.lost, progress.num_failures) == ("lost", True, True, 2)
        assert progress.losses[-1].host == "h9"

    asyncio.run(play())


def test_a_loss_counts_once_whoever_of_the_new_workers_asks_first_and_names_the_host_that_is_lost() -> None:
    async def is_lost(host: WorkerHost) -> bool:
        await asyncio.sleep(0)
        return host.name == "h2"

    async def play() -> None:
        slots = new_slots(max_failures=0, lost=is_lost)
        await slots.assign("slot", "a")
        before = [worker(0, "first", "h1"), worker(1, "first", "h2")]
        after = [worker(1, "second", "h3"), worker(0, "second", "h1")]
        for each in (before, after):
            found = await soon(asyncio.gather(*(slots.next_trial("slot", one, NO_ASSIGNMENT) for one in each)))
            assert found == [(0, "a"), (0, "a")]
        _, progress = await slots.workers_ended("slot")
        assert progress.losses == (Loss("h2", True, {}), Loss("h3, h1", False, {}))
        assert (progress.attempts, progress.lost) == (2, True)

    asyncio.run(play())


def test_workers_that_end_between_two_trials_are_no_loss() -> None:
    async def play() -> None:
        slots = new_slots(max_failures=0)
        await slots.assign("slot", "a")
        assert await soon(slots.next_trial("slot", worker(), NO_ASSIGNMENT)) == (0, "a")
        assert await slots.running() == {"a": (1, (worker().host,))}
        await slots.finish("slot", 0)
        assert await slots.running() == {}
        await slots.assign("slot", "b")
        assert (await soon(slots.workers_ended("slot")))[1].losses == ()
        assert await soon(slots.next_trial("slot", worker(start="second"), NO_ASSIGNMENT)) == (1, "b")
        assert not (await slots.wait_for_update("slot", -1, 0.0)).lost

    asyncio.run(play())


def test_a_trial_is_tried_on_another_host_once() -> None:
    async def play() -> None:
        slots = new_slots(max_failures=0)
        for slot, host, first in (("one", "h1", True), ("two", "h2", False)):
            await slots.assign(slot, "a")
            assert await soon(slots.next_trial(slot, worker(host=host), NO_ASSIGNMENT)) == (0, "a")
            assert await slots.try_elsewhere(slot, 0, worker(host=host).host) is first
            assert (await slots.wait_for_update(slot, -1, 0.0)).failed_on == ("h1" if first else "")
            await slots.finish(slot, 0)
            assert await slots.failed_on("a") == "id of h1"
            assert await slots.take_trials_to_repeat() == (["a"] if first else [])
        assert await slots.failed_on("b") == ""

    asyncio.run(play())


def test_a_trial_waits_from_the_request_for_workers_until_they_start_and_again_after_a_loss() -> None:
    now = [0.0]

    async def play() -> None:
        slots = TrialSlots({}, 2, never, clock=lambda: now[0])

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
        assert await soon(slots.next_trial("slot", worker(), NO_ASSIGNMENT)) == (1, "b")
        now[0] = 500.0
        assert await waited_s() == 0
        # Its host is lost.
        await slots.expect_workers("slot")
        now[0] = 540.0
        assert await waited_s() == 40
        await slots.set_placement_group("slot", "another placement group")
        assert await waited_s() == 0

    asyncio.run(play())


def test_only_as_many_slots_as_the_limit_says_get_workers_and_those_above_it_close_as_their_trials_end() -> None:
    async def play() -> None:
        slots = TrialSlots(dict.fromkeys("abcde"), 1, never)  # type: ignore[misc]
        names = ("one", "two", "three")
        for name, trial in zip(names, "abc", strict=True):
            await slots.assign(name, trial)
        assert [await slots.may_start_workers(name) for name in names] == [False, False, False]
        await slots.set_limit(2)
        assert [await slots.may_start_workers(name) for name in names] == [True, True, False]
        assert await slots.usage() == (5, 0, {})
        for name in names[:2]:
            assert (await soon(slots.next_trial(name, worker(), NO_ASSIGNMENT))) is not None
            await slots.set_placement_group(name, "its CPUs")
        assert await slots.usage() == (5, 2, {worker().host.id: 2})
        await slots.set_limit(1)
        # Nothing happens to a trial that runs; workers that were lost in it start again.
        assert [await slots.may_start_workers(name) for name in names] == [True, True, False]
        await slots.finish("one", 0)
        ended = await slots.wait_for_update("one", -1, 0.0)
        assert (ended.ended, ended.closed) == (True, True)
        assert await soon(slots.next_trial("one", worker(), 0)) is None
        assert not await slots.assign("one", "d")
        assert await slots.usage() == (4, 1, {worker().host.id: 1})
        assert not await slots.may_start_workers("three")
        # The last one keeps its workers.
        await slots.finish("two", 0)
        assert not (await slots.wait_for_update("two", -1, 0.0)).closed
        assert await slots.assign("two", "d")
        assert await soon(slots.next_trial("two", worker(), 0)) == (1, "d")
        await slots.set_limit(2)
        assert await slots.may_start_workers("three")

    asyncio.run(play())


def test_a_trial_that_is_tried_on_another_host_has_not_ended() -> None:
    async def play() -> None:
        slots = TrialSlots(dict.fromkeys("ab"), 0, never)  # type: ignore[misc]
        await slots.set_limit(1)
        await slots.assign("slot", "a")
        assert await slots.may_start_workers("slot")
        assert await soon(slots.next_trial("slot", worker(), NO_ASSIGNMENT)) == (0, "a")
        assert await slots.try_elsewhere("slot", 0, worker().host)
        await slots.finish("slot", 0)
        assert (await slots.usage())[0] == 2
        await slots.assign("slot", "a")
        assert await soon(slots.next_trial("slot", worker(), 0)) == (1, "a")
        await slots.finish("slot", 1)
        assert (await slots.usage())[0] == 1

    asyncio.run(play())


def test_a_slot_without_a_trial_closes_at_once_if_the_limit_falls() -> None:
    async def play() -> None:
        slots = TrialSlots({"a": None}, 1, never)  # type: ignore[dict-item]
        await slots.set_limit(1)
        await slots.assign("slot", "a")
        assert await slots.may_start_workers("slot")
        assert await soon(slots.next_trial("slot", worker(), NO_ASSIGNMENT)) == (0, "a")
        await slots.finish("slot", 0)
        waiting = asyncio.create_task(slots.next_trial("slot", worker(), 0))
        await slots.set_limit(0)
        assert await soon(waiting) is None
        assert not await slots.assign("slot", "a")
        assert await slots.assign("new", "a")
        assert not await slots.may_start_workers("new")

    asyncio.run(play())


def test_a_slot_that_keeps_its_workers_gives_way_if_the_next_trial_comes_to_another_one() -> None:
    async def play() -> None:
        slots = TrialSlots(dict.fromkeys("abcd"), 1, never)  # type: ignore[misc]
        await slots.set_limit(2)
        for name, trial in (("one", "a"), ("two", "b")):
            await slots.assign(name, trial)
            assert await slots.may_start_workers(name)
            assert (await soon(slots.next_trial(name, worker(), NO_ASSIGNMENT))) is not None
        # Half of the cluster goes to another sweep.
        await slots.set_limit(1)
        await slots.finish("one", 0)
        await slots.finish("two", 0)
        waiting = asyncio.create_task(slots.next_trial("two", worker(), 0))
        # Tune takes any of its actors.
        assert await slots.assign("new", "c")
        assert await slots.may_start_workers("new")
        assert await soon(waiting) is None
        assert not await slots.assign("two", "d")
        # As long as trials may be missing for slots, they keep their workers.
        await slots.set_limit(3)
        for name, trial in (("third", "d"), ("fourth", "a")):
            await slots.assign(name, trial)
            assert await slots.may_start_workers(name)
        await slots.finish("new", 0)
        assert await slots.may_start_workers("third")
        assert await slots.assign("new", "b")

    asyncio.run(play())
