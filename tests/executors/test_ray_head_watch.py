"""When Ray counts as lost: not for a moment, not if it comes back, but also if it merely stops answering."""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from simtune.executors.ray_head_watch import HeadWatch, Limits

LONG = 600.0


@pytest.fixture
def lost() -> queue.Queue[str]:
    return queue.Queue()


@pytest.fixture
def head() -> Iterator[socket.socket]:
    """A head that answers whoever says hello, and may be closed."""
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=answer, args=(server,), daemon=True).start()
    yield server
    server.close()


def answer(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.recv(64)
            connection.send(b"x")


def address_of(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


def test_a_head_is_lost_after_its_limit_and_not_if_it_came_back(
    head: socket.socket, lost: queue.Queue[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = HeadWatch(
        {"head": address_of(head)}, Limits(unreachable_s=0.5, unresponsive_s=LONG), lost.put, check_s=0.02
    )
    looks = iter(["cannot be reached"] * 3 + [""] + ["cannot be reached"] * 3)
    seen = threading.Event()

    def check(address: tuple[str, int]) -> str:
        found = next(looks, None)
        if found is None:
            seen.set()
        return found or ""

    # Three checks each, at most 0.06 s apart: less than the limit, and the head answered between them.
    monkeypatch.setattr(watch, "_check", check)
    assert seen.wait(30)
    assert lost.empty()
    monkeypatch.undo()
    address = address_of(head)
    head.shutdown(socket.SHUT_RDWR)
    head.close()
    assert lost.get(timeout=30) == f"head at {address} cannot be reached"
    watch.stop()


def test_a_stopped_head_accepts_connections_and_does_not_answer(lost: queue.Queue[str]) -> None:
    # As a stopped process: the system takes connections for it.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        watch = HeadWatch(
            {"head": address_of(silent)}, Limits(unreachable_s=LONG, unresponsive_s=0.2), lost.put, check_s=0.05
        )
        assert "does not answer" in lost.get(timeout=30)
        watch.stop()


def test_a_head_that_closes_the_connection_counts_as_alive(lost: queue.Queue[str]) -> None:
    # As with TLS: the server closes or resets the connection after a greeting that is not TLS.
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        watch = HeadWatch({"head": address_of(server)}, Limits(0.2, 0.2), lost.put, check_s=0.05)
        for number in range(10):
            connection, _ = server.accept()
            with connection:
                connection.recv(8 if number % 2 else 64)
        watch.stop()
    assert lost.empty()


def test_the_death_of_a_process_is_known_immediately(head: socket.socket, lost: queue.Queue[str]) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        watch = HeadWatch({"head": address_of(head)}, Limits(LONG, LONG), lost.put, [process.pid], check_s=LONG)
        process.kill()
        assert str(process.pid) in lost.get(timeout=30)
        watch.stop()


def test_a_ray_without_a_worker_is_lost_and_one_that_is_slow_is_not(
    head: socket.socket, lost: queue.Queue[str]
) -> None:
    answers = iter([False, False, True])
    slow = HeadWatch({"head": address_of(head)}, Limits(LONG, LONG, 0.4), lost.put, (), lambda: next(answers), 0.02)
    never = HeadWatch({"head": address_of(head)}, Limits(LONG, LONG, 0.4), lost.put, (), lambda: False, 0.02)
    assert "no worker" in lost.get(timeout=30)
    never.stop()
    slow.stop()
    assert lost.empty()


def test_a_watch_that_is_stopped_says_nothing(lost: queue.Queue[str]) -> None:
    watch = HeadWatch({"head": "[::1]:1"}, Limits(0.1, 0.1), lost.put, check_s=0.03)
    watch.stop()
    time.sleep(0.2)
    assert lost.empty()
