"""Hosts that join while a sweep runs are asked as they join; a Ray that is made up says which hosts there are."""

from __future__ import annotations

import errno
import itertools
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from displays import RecordingDisplay
from test_host_reports import DRIVER

from simtune.executors.hosts import ray_hosts, ray_preflight
from simtune.executors.hosts.host_reports import HostFacts
from simtune.executors.hosts.ray_preflight import NewHosts
from simtune.executors.ray_tune_callbacks import WarnOfNewHosts
from simtune.storage.preflight import check_from_host


class MadeUpRay:
    """Nodes by name; a task is the name of its node, and ends when `answers` has what the node says."""

    def __init__(self, *nodes: str) -> None:
        self.nodes_alive = list(nodes)
        self.answers: dict[str, HostFacts | Exception] = {}
        self.asked: dict[str, dict[str, Any]] = {}

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": name, "NodeManagerHostname": name, "Alive": True, "Resources": {"CPU": 2.0}}
            for name in self.nodes_alive
        ]

    def ask(self, node: dict[str, Any], driver: HostFacts, needs: dict[str, Any]) -> str:
        self.asked[node["NodeID"]] = needs
        return node["NodeID"]

    def wait(self, tasks: list[str], num_returns: int = 1, timeout: float = 0) -> tuple[list[str], list[str]]:
        done = [task for task in tasks if task in self.answers]
        return done, [task for task in tasks if task not in done]

    def get(self, task: str) -> dict[str, Any]:
        answer = self.answers[task]
        if isinstance(answer, Exception):
            raise answer
        return asdict(answer)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> MadeUpRay:
    found = MadeUpRay("h1")
    monkeypatch.setattr(ray_preflight, "ray", found)
    monkeypatch.setattr(ray_hosts, "ray", found)
    monkeypatch.setattr(ray_preflight, "_ask", found.ask)
    return found


def test_a_host_that_joins_is_asked_once_and_its_problems_are_reported_once(made_up: MadeUpRay, tmp_path: Path) -> None:
    hosts = NewHosts(DRIVER, {"encoders": [], "models": []}, {"h1"}, tmp_path)
    assert hosts.look() == []
    assert made_up.asked == {}
    made_up.nodes_alive += ["h2", "h3"]
    assert hosts.look() == []
    assert made_up.asked.keys() == {"h2", "h3"}
    (probe,) = made_up.asked["h2"]["probes"]
    check_from_host([Path(probe)], "h2")
    made_up.answers["h2"] = replace(DRIVER, host="h2", code="b" * 64)
    (line,) = hosts.look()
    assert line.startswith("host h2: a different simtune is installed there")
    made_up.answers["h3"] = DRIVER
    # It says that it has written a file, which the driver does not see.
    (line,) = hosts.look()
    assert line.startswith("host h3: storage: the driver does not see the files")
    assert hosts.look() == []
    assert len(made_up.asked) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_new_host_that_never_answers_is_reported_and_one_that_leaves_is_not(
    made_up: MadeUpRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = NewHosts(DRIVER, {"encoders": [], "models": []}, {"h1"}, tmp_path)
    made_up.nodes_alive += ["h2", "h3"]
    assert hosts.look() == []
    made_up.nodes_alive.remove("h3")
    monkeypatch.setattr(ray_preflight.time, "monotonic", lambda: 1e9)
    (line,) = hosts.look()
    assert line.startswith("host h2: did not answer within 180 s")
    assert hosts.look() == []
    assert list(tmp_path.iterdir()) == []


def test_a_storage_that_does_not_answer_for_a_moment_neither_ends_the_run_nor_loses_what_hosts_said(
    made_up: MadeUpRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    display = RecordingDisplay()
    callback = WarnOfNewHosts(NewHosts(DRIVER, {"encoders": [], "models": []}, {"h1"}, tmp_path), display)
    made_up.nodes_alive.append("h2")
    made_up.answers["h2"] = replace(DRIVER, host="h2", code="b" * 64, found={})

    def stale(*of: object) -> set[str]:
        raise OSError(errno.ESTALE, "Stale file handle")

    looks = itertools.count(callback._looked + 10, 10)
    monkeypatch.setattr(ray_preflight.time, "monotonic", lambda: next(looks))
    with monkeypatch.context() as patch:
        patch.setattr(ray_preflight, "hosts_seen", stale)
        callback.on_step_begin(0, [])
    assert display.warnings == []
    callback.on_step_begin(0, [])
    (warning,) = display.warnings
    assert warning.startswith("host h2: a different simtune is installed there")


def test_an_error_of_the_check_itself_is_one_line(made_up: MadeUpRay, tmp_path: Path) -> None:
    hosts = NewHosts(DRIVER, {"encoders": [], "models": []}, set(), tmp_path)
    made_up.answers["h1"] = ModuleNotFoundError("No module named 'pydantic'\nsecond line")
    (line,) = hosts.look()
    assert line == (
        "host h1: could not report (ModuleNotFoundError: No module named 'pydantic'); install the driver's environment "
        "there"
    )


def test_a_run_shows_them_as_warnings_and_leaves_no_file(
    made_up: MadeUpRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    display = RecordingDisplay()
    callback = WarnOfNewHosts(NewHosts(DRIVER, {"encoders": [], "models": []}, {"h1"}, tmp_path), display)
    made_up.nodes_alive += ["h2", "h3"]
    made_up.answers["h2"] = replace(DRIVER, code="", found={})
    for seconds in (1, 10):
        monkeypatch.setattr(ray_preflight.time, "monotonic", lambda seconds=seconds: callback._looked + seconds)
        callback.on_step_begin(0, [])
    (warning,) = display.warnings
    assert warning.startswith("host h2: simtune is not installed there")
    assert warning.endswith("Until then trials fail on it")
    callback.on_experiment_end([])
    assert list(tmp_path.iterdir()) == []
