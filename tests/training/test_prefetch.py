"""Items made in a thread: the same items and errors, and no thread is left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from simtune.training.prefetch import prefetch


def threads() -> int:
    return sum(thread.name == "batches" for thread in threading.enumerate())


def test_items_come_in_order_and_the_thread_ends() -> None:
    with closing(prefetch(iter(range(100)), depth=3)) as items:
        assert list(items) == list(range(100))
    assert threads() == 0


def test_no_more_than_asked_for_is_made_and_leaving_early_ends_it() -> None:
    made = []

    def endless() -> Iterator[int]:
        for number in range(10**9):
            made.append(number)
            yield number

    with closing(prefetch(endless(), depth=2)) as items:
        assert [next(items), next(items)] == [0, 1]
        # Two in the queue, one being made, and one that was just taken.
        assert len(made) <= 6
    assert threads() == 0


def test_an_error_is_raised_where_its_item_would_have_come() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no second item")

    items = prefetch(broken(), depth=4)
    assert next(items) == 1
    with pytest.raises(ValueError, match="no second item"):
        next(items)
    assert threads() == 0
