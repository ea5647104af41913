"""A cluster whose hosts come later, and what its autoscaler is asked for; hosts and clock are made up."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from typing import Any

import pytest
from displays import RecordingDisplay

from simtune.config import ResourceSettings, Sweep
from simtune.errors import ClusterError, ConfigError
from simtune.executors import ray_executor
from simtune.executors.hosts.host_wait import RunWait, bundles_for, wait_for_hosts
from simtune.executors.placement import Host, WorkerResources
from simtune.executors.ray_executor import RayExecutor
from simtune.executors.ray_tune_callbacks import AskForHosts

HOST = Host("h1", 4, 1.0)


def wait(found: Sequence[list[Host]], limit_s: float, enough: int = 1) -> tuple[Sequence[Host], list[str]]:
    """Waits for hosts that are found one after another, a second each."""
    notes: list[str] = []
    looks = list(found)
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    of_hosts = RunWait("a host with 1 CPU", notes.append, limit_s, 0.0, lambda: now[0])
    hosts = wait_for_hosts(lambda: (hosts := looks.pop(0), len(hosts) >= enough), of_hosts, sleep)
    return hosts, notes


def test_the_first_hosts_are_waited_for_with_one_line() -> None:
    assert wait([[HOST]], 0.0) == ([HOST], [])
    hosts, (note,) = wait([[]] * 500 + [[HOST]], math.inf)
    assert hosts == [HOST]
    assert re.fullmatch(r"waiting for a host with 1 CPU since \d\d:\d\d:\d\d: no host offers CPUs", note)


def test_the_line_names_the_hosts_that_are_there_and_not_enough() -> None:
    hosts, (note,) = wait([[HOST]] * 5 + [[HOST, HOST]], math.inf, enough=2)
    assert hosts == [HOST, HOST]
    assert note.endswith(": so far there is h1 (4 CPUs, 1 GPU)")


def test_the_wait_ends_at_its_limit_with_the_remedy_and_the_exit_code_of_trials_without_results() -> None:
    said = r"waited 2 min for a host with 1 CPU: no host offers CPUs.*resources.wait_minutes.*start hosts"
    with pytest.raises(ClusterError, match=said) as error:
        wait([[]] * 500, 120.0)
    assert error.value.exit_code == 1


def test_each_wait_of_a_run_has_its_own_line_and_limit() -> None:
    now, notes = [0.0], list[str]()
    of_cpus = RunWait("a free CPU", notes.append, 60.0, clock=lambda: now[0])
    # It waits, works, and waits again, since a host was lost.
    looks = {0: True, 29: True, 31: True, 50: True, 51: False, 52: True, 83: True, 111: True}
    for now[0], waits in looks.items():
        of_cpus.look(waits)
    assert [note[:24] for note in notes] == ["waiting for a free CPU s"] * 2
    now[0] = 112.0
    with pytest.raises(ClusterError, match=r"waited 60 s for a free CPU\. This is the limit"):
        of_cpus.look(True)


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
    monkeypatch.setattr(ray_executor, "has_autoscaler", lambda: False)
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


GROWING, FULL, FIXED = (True, False), (True, True), (False, False)


@pytest.mark.parametrize(
    ("settings", "cluster", "error"),
    [
        # The second host of a trial is still being started.
        ({"workers": 2, "gpus_per_worker": 0.0}, GROWING, None),
        # As the autoscaler does not know what the next host has.
        ({"workers": 2, "gpus_per_worker": 0.0}, FULL, None),
        ({"workers": 2, "gpus_per_worker": 0.0}, FIXED, "a trial needs 2 workers of 3 CPUs, and the hosts hold 1"),
        # Its hosts with GPUs are still being started.
        ({"gpus_per_worker": 1.0}, GROWING, None),
        ({"gpus_per_worker": 1.0}, FULL, "needs 3 CPUs and 1 GPU on one host"),
        ({"gpus_per_worker": 1.0}, FIXED, "needs 3 CPUs and 1 GPU on one host"),
        # The user starts hosts by hand.
        ({"workers": 2, "gpus_per_worker": 0.0, "wait_minutes": 5.0}, FIXED, None),
    ],
)
def test_hosts_that_do_not_hold_a_trial_are_refused_unless_others_can_come(
    settings: dict[str, Any],
    cluster: tuple[bool, bool],
    error: str | None,
    asked: list[list[dict[str, float]]],
    tiny_sweep: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = Host("h1", 4)
    looks = iter([[small]] * 3)
    monkeypatch.setattr(ray_executor, "hosts_for_workers", lambda: next(looks, [small, HOST]))
    monkeypatch.setattr(ray_executor, "has_autoscaler", lambda: cluster[0])
    monkeypatch.setattr(ray_executor, "is_refused_by_autoscaler", lambda: cluster[1])
    resources = ResourceSettings(cpus_per_worker=3, **settings)
    sweep = Sweep(**tiny_sweep).model_copy(update={"resources": resources})
    display = RecordingDisplay()
    with pytest.raises(ConfigError, match=error) if error else contextlib.nullcontext():
        RayExecutor("cluster").check(sweep, display)
    assert len(asked) == 1
    assert [note.partition(": ")[2] for note in display.notes] == ([] if error else ["so far there is h1 (4 CPUs)"])


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
