"""A cluster whose hosts come later, and what its autoscaler is asked for; hosts and clock are made up."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import pytest
from displays import RecordingDisplay

from simtune.config import ResourceSettings, Sweep
from simtune.errors import ConfigError, RunError
from simtune.executors import ray_executor
from simtune.executors.hosts.host_wait import bundles_for, wait_for_hosts
from simtune.executors.placement import Host, WorkerResources
from simtune.executors.ray_executor import RayExecutor
from simtune.executors.ray_tune_callbacks import AskForHosts

HOST = Host("h1", 4, 1.0)


def wait(found: Sequence[list[Host]], limit_s: float) -> tuple[Sequence[Host], list[str]]:
    """Waits for hosts that are found one after another, a second each."""
    notes: list[str] = []
    looks = list(found)
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    hosts = wait_for_hosts(lambda: looks.pop(0), "a host with 1 CPU", notes.append, limit_s, lambda: now[0], sleep)
    return hosts, notes


def test_the_first_hosts_are_waited_for_with_one_line() -> None:
    assert wait([[HOST]], 0.0) == ([HOST], [])
    hosts, (note,) = wait([[]] * 500 + [[HOST]], math.inf)
    assert hosts == [HOST]
    assert re.fullmatch(r"waiting for a host with 1 CPU since \d\d:\d\d:\d\d: no host offers CPUs", note)


def test_the_wait_ends_at_its_limit_with_the_remedy() -> None:
    with pytest.raises(RunError, match=r"no host offered CPUs within 2 min \(resources.wait_minutes\).*start hosts"):
        wait([[]] * 500, 120.0)


def test_each_worker_is_a_bundle_of_its_own_and_thousands_of_trials_are_no_longer_request() -> None:
    assert bundles_for(2, WorkerResources(2, 3, 1.0)) == [{"CPU": 3, "GPU": 1.0}] * 4
    assert bundles_for(1, WorkerResources(1, 1, 0.0)) == [{"CPU": 1}]
    assert bundles_for(0, WorkerResources(1, 1, 0.0)) == []
    assert len(bundles_for(10_000, WorkerResources(1, 1, 0.0))) == 1000


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[dict[str, float]]]:
    """What the executor asks an autoscaler for, of a cluster whose host comes at the third look and leaves."""
    requests: list[list[dict[str, float]]] = []
    looks = iter([[], [], [HOST]])
    monkeypatch.setattr(RayExecutor, "_start", lambda self: None)
    monkeypatch.setattr(ray_executor, "hosts_for_workers", lambda: next(looks, []))
    monkeypatch.setattr(ray_executor, "ask_autoscaler", requests.append)
    monkeypatch.setattr("simtune.executors.hosts.host_wait.time.sleep", lambda seconds: None)
    return requests


def test_a_cluster_without_hosts_asks_for_one_and_its_resources_stay_when_hosts_leave(
    asked: list[list[dict[str, float]]], tiny_sweep: dict[str, Any]
) -> None:
    display = RecordingDisplay()
    resources = ResourceSettings(gpus_per_worker=1.0, wait_minutes=5.0)
    sweep = Sweep(**tiny_sweep).model_copy(update={"resources": resources})
    executor = RayExecutor("cluster")
    executor.check(sweep, display)
    assert asked == [[{"CPU": 1, "GPU": 1.0}]]
    assert [note[:41] for note in display.notes] == ["waiting for a host with 1 CPU and 1 GPU s"]
    # Now there are none, which is not a reason to refuse the sweep in its middle.
    assert executor._resources(sweep.resources) == WorkerResources(1, 4, 1.0)


def test_the_hosts_of_a_trial_with_several_workers_may_come_one_after_another(
    asked: list[list[dict[str, float]]], tiny_sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([[], [], [HOST], [HOST, HOST]])
    monkeypatch.setattr(ray_executor, "hosts_for_workers", lambda: next(looks))
    resources = ResourceSettings(workers=2, gpus_per_worker=1.0)
    sweep = Sweep(**tiny_sweep).model_copy(update={"resources": resources})
    executor = RayExecutor("cluster")
    executor.check(sweep, RecordingDisplay())
    assert executor._resources(resources).workers == 2
    assert asked == [[{"CPU": 1, "GPU": 1.0}] * 2]


def test_hosts_that_are_there_and_too_small_are_refused_at_once(
    asked: list[list[dict[str, float]]], tiny_sweep: dict[str, Any]
) -> None:
    sweep = Sweep(**tiny_sweep).model_copy(update={"resources": ResourceSettings(cpus_per_worker=8)})
    with pytest.raises(ConfigError, match="needs 8 CPUs and 1 GPU on one host"):
        RayExecutor("cluster").check(sweep, RecordingDisplay())


def test_as_many_hosts_are_asked_for_as_trials_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = [100.0], list[int]()
    monkeypatch.setattr("simtune.executors.ray_tune_callbacks.time.monotonic", lambda: now[0])
    ask = AskForHosts(5, 3, asked.append)
    for _ in range(4):
        ask.on_trial_complete(0, [], None)
    ask.on_step_begin(0, [])
    now[0] += 40.0
    ask.on_step_begin(0, [])
    ask.on_experiment_end([])
    assert asked == [3, 1, 0]
