"""When a Ray head counts as gone: not for a moment, and not when it comes back."""

from __future__ import annotations

import socket
import threading
import time

from simtune.sweep.head_watch import HeadWatch


def test_a_head_is_gone_after_its_time_and_not_where_it_came_back() -> None:
    head = socket.create_server(("127.0.0.1", 0))
    address = head.getsockname()
    now, gone = [100.0], threading.Event()
    watch = HeadWatch(f"127.0.0.1:{address[1]}", 10.0, gone.set, look_s=0.01, clock=lambda: now[0])
    head.close()
    now[0] = 105.0
    time.sleep(0.05)
    head = socket.create_server(address)
    for _ in range(2):
        head.accept()[0].close()
    head.close()
    now[0] = 112.0
    time.sleep(0.05)
    assert not gone.is_set()
    now[0] = 200.0
    assert gone.wait(5)
    watch.stop()


def test_a_watch_that_is_stopped_says_nothing() -> None:
    now, gone = [0.0], threading.Event()
    watch = HeadWatch("[::1]:1", 10.0, gone.set, look_s=0.01, clock=lambda: now[0])
    watch.stop()
    now[0] = 100.0
    assert not gone.wait(0.05)
