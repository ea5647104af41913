"""What a user reads of lost hosts: two lines each. A Ray that is made up says which hosts there are."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest
from displays import RecordingDisplay

from simtune.executors.hosts import lost_hosts, ray_hosts
from simtune.executors.hosts.lost_hosts import ReportLostHosts, Running
from simtune.executors.hosts.ray_hosts import is_lost
from simtune.executors.slots.slot_progress import WorkerHost

LABELS = {trial: f"random, seed {trial}" for trial in "abcde"}


class MadeUpHosts:
    """Hosts by id, each with its name; a host that is started again has another id."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names = {"1": "h1", "2": "h2", "3": "h3"}
        self.running: Running = {}
        self.display = RecordingDisplay()
        monkeypatch.setattr(lost_hosts, "alive_nodes", self.nodes)
        self.report = ReportLostHosts(lambda: self.running, LABELS, self.display)

    def nodes(self) -> dict[str, dict[str, Any]]:
        return {
            id_: {"NodeID": id_, "NodeManagerHostname": name, "NodeManagerAddress": f"10.0.0.{name[1:]}"}
            for id_, name in self.names.items()
        }

    def runs(self, **trials: tuple[int, str]) -> None:
        self.running = {
            trial: (starts, (WorkerHost(id_, self.names.get(id_, "?"), f"{id_}:1"),))
            for trial, (starts, id_) in trials.items()
        }

    def look(self) -> list[str]:
        """What is reported now."""
        self.report.look()
        said = [*self.display.warnings, *self.display.notes]
        self.display.warnings, self.display.notes = [], []
        return said


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> MadeUpHosts:
    return MadeUpHosts(monkeypatch)


def test_a_lost_host_is_reported_with_what_ran_there_and_once_more_when_all_of_that_continues(
    hosts: MadeUpHosts,
) -> None:
    hosts.runs(a=(1, "2"), b=(1, "2"), c=(1, "1"))
    assert hosts.look() == []
    del hosts.names["2"]
    assert hosts.look() == ["host h2 is lost; random, seed a; random, seed b ran there and will continue elsewhere"]
    hosts.runs(a=(2, "3"), b=(1, "2"), c=(1, "1"))
    assert hosts.look() == []
    hosts.runs(a=(2, "3"), b=(2, "1"), c=(1, "1"))
    assert hosts.look() == ["random, seed a; random, seed b continues on h3, h1 after the loss of h2"]
    hosts.names["4"] = "h2"
    assert hosts.look() == []


def test_workers_that_were_restarted_before_the_loss_was_seen_are_named_all_the_same(hosts: MadeUpHosts) -> None:
    hosts.runs(a=(3, "2"))
    hosts.look()
    del hosts.names["2"]
    hosts.runs(a=(4, "3"))
    assert hosts.look() == [
        "host h2 is lost; random, seed a ran there and will continue elsewhere",
        "random, seed a continues on h3 after the loss of h2",
    ]


def test_an_idle_host_is_reported_when_it_is_lost_and_when_it_is_back_under_another_id(hosts: MadeUpHosts) -> None:
    hosts.runs(a=(1, "1"))
    hosts.look()
    del hosts.names["2"]
    assert hosts.look() == ["host h2 is lost; no trial ran there"]
    assert hosts.look() == []
    hosts.names["5"] = "h2"
    assert hosts.look() == ["host h2 is back"]
    assert hosts.look() == []


def test_of_many_trials_some_are_named(hosts: MadeUpHosts) -> None:
    hosts.runs(**dict.fromkeys("abcde", (1, "2")))
    hosts.look()
    del hosts.names["2"]
    (line,) = hosts.look()
    assert "seed c; and 2 more ran there" in line
    hosts.running = {}
    assert "has ended after the loss of h2" in hosts.look()[0]


def test_a_host_is_lost_once_ray_says_so_and_not_while_its_raylet_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_hosts, "_NOTICED_WITHIN_S", 1.5)
    monkeypatch.setattr(ray_hosts, "_ANSWER_S", 0.2)
    alive = {"h"}
    monkeypatch.setattr(ray_hosts, "alive_nodes", lambda: alive)
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = WorkerHost("h", "h", f"127.0.0.1:{server.getsockname()[1]}")
        # It accepts connections and answers none, as the system of a stopped process does: its time runs out.
        assert asyncio.run(is_lost(host))

        def answer() -> None:
            while True:
                connection, _ = server.accept()
                with connection:
                    if not connection.recv(1):
                        return
                    connection.sendall(b"x")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert not asyncio.run(is_lost(host))
        alive.clear()
        assert asyncio.run(is_lost(host))
        socket.create_connection(server.getsockname()).close()
        thread.join(5)
