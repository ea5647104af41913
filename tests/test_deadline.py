from __future__ import annotations

import threading

from simtune.deadline import deadline


def test_a_block_that_takes_too_long_calls_and_one_that_ends_does_not() -> None:
    called = threading.Event()
    with deadline(0.01, called.set):
        assert called.wait(10)
    never = threading.Event()
    with deadline(0.02, never.set):
        pass
    assert not never.wait(0.05)
