"""What a trial uses of a machine: refused if there is less, and described in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simtune.config import ResourceSettings
from simtune.errors import ConfigError
from simtune.executors.placement import (
    Host,
    WorkerResources,
    describe_placement,
    describe_threads,
    encoder_threads,
    worker_resources,
)


def hosts(*sizes: tuple[int, float]) -> list[Host]:
    return [Host(f"h{number}", cpus, gpus) for number, (cpus, gpus) in enumerate(sizes, 1)]


@pytest.mark.parametrize(
    ("fields", "sizes", "each", "at_once"),
    [
        ({}, [(2, 0)], WorkerResources(1, 1, 0.0), 2),
        ({}, [(16, 2)], WorkerResources(1, 4, 1.0), 2),
        ({}, [(4, 2)], WorkerResources(1, 2, 1.0), 2),
        ({"gpus_per_worker": 0.25, "max_concurrent": 3}, [(16, 1)], WorkerResources(1, 4, 0.25), 3),
        # Not five: 0.6 + 0.6 fit on no GPU.
        ({"gpus_per_worker": 0.6}, [(16, 3)], WorkerResources(1, 4, 0.6), 3),
        ({"workers": 2}, [(16, 5)], WorkerResources(2, 3, 1.0), 2),
        # A worker is on one host: 3 + 2 + 1 CPUs hold two workers of two CPUs, not three.
        ({"cpus_per_worker": 2}, [(3, 0), (2, 0), (1, 0)], WorkerResources(1, 2, 0.0), 2),
        ({"cpus_per_worker": 2, "workers": 2}, [(3, 0), (2, 0), (1, 0)], WorkerResources(2, 2, 0.0), 1),
        # As many CPUs as leave no GPU of any host without a worker; hosts without a GPU are not used.
        ({}, [(16, 2), (4, 4), (64, 0)], WorkerResources(1, 1, 1.0), 6),
    ],
)
def test_a_trial_takes_what_fits_on_hosts(
    fields: dict[str, float], sizes: list[tuple[int, float]], each: WorkerResources, at_once: int
) -> None:
    assert worker_resources(ResourceSettings(**fields), hosts(*sizes)) == (each, at_once)


@pytest.mark.parametrize(
    ("fields", "sizes", "message"),
    [
        (
            {"cpus_per_worker": 4},
            [(3, 0), (2, 0), (1, 0)],
            r"needs 4 CPUs on one host; hosts: h1 \(3 CPUs\), h2 \(2 CPUs\), h3 \(1 CPU\)\. Lower .*cpus_per_worker",
        ),
        ({"workers": 2, "gpus_per_worker": 1.0}, [(8, 1)], "2 workers of 4 CPUs and 1 GPU, and the hosts hold 1"),
        ({"gpus_per_worker": 1.0}, [(8, 0)], r"1 CPU and 1 GPU on one host; .*Lower resources.gpus_per_worker \(0"),
        ({}, [], "no host offers CPUs"),
    ],
)
def test_what_fits_on_no_host_is_refused_with_what_hosts_have(
    fields: dict[str, float], sizes: list[tuple[int, float]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        worker_resources(ResourceSettings(**fields), hosts(*sizes))


@given(
    sizes=st.lists(st.tuples(st.integers(1, 8), st.integers(0, 3)), min_size=1, max_size=4),
    workers=st.integers(1, 3),
    cpus=st.integers(1, 4),
)
def test_the_trials_at_once_can_be_packed_on_the_hosts(sizes: list[tuple[int, int]], workers: int, cpus: int) -> None:
    settings = ResourceSettings(workers=workers, cpus_per_worker=cpus, gpus_per_worker=0)
    room = [num_cpus for num_cpus, _ in sizes]
    try:
        each, at_once = worker_resources(settings, hosts(*sizes))
    except ConfigError:
        each, at_once = WorkerResources(workers, cpus, 0.0), 0
    for _ in range(at_once * workers):
        room[room.index(max(room))] -= each.cpus_per_worker
    assert min(room) >= 0
    # And no further trial fits.
    assert sum(left // cpus for left in room) < workers


@pytest.mark.parametrize(
    ("sizes", "num_encoders", "threads"),
    [
        ([(8, 0)], 1, 8),
        ([(8, 0)], 3, 2),
        # An encoder is on one host: two CPUs on different ones are of no use to it.
        ([(1, 0), (1, 0)], 1, 1),
        ([(3, 0), (2, 0), (1, 0)], 2, 2),
        ([(3, 0), (2, 0), (1, 0)], 1, 3),
    ],
)
def test_each_encoder_fits_on_one_host(sizes: list[tuple[int, float]], num_encoders: int, threads: int) -> None:
    assert encoder_threads(hosts(*sizes), num_encoders) == threads


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "1 worker, on 1 GPU if there are GPUs, otherwise on CPUs"),
        ({"workers": 2}, "2 workers, on 2 GPUs (one per worker) if there are GPUs, otherwise on CPUs"),
        ({"gpus_per_worker": 0.0}, "1 worker, on CPUs"),
        ({"gpus_per_worker": 0.25}, "1 worker with 0.25 GPU per worker: 4 trials fit on a GPU"),
        ({"gpus_per_worker": 0.3}, "1 worker with 0.3 GPU per worker: 3 trials fit on a GPU"),
        ({"gpus_per_worker": 1.0}, "1 worker, on 1 GPU"),
        ({"gpus_per_worker": 1.0, "workers": 4}, "4 workers, on 4 GPUs (one per worker)"),
    ],
)
def test_the_plan_says_how_trials_share_gpus(fields: dict[str, float], words: str) -> None:
    assert describe_placement(ResourceSettings(**fields)) == f"Each trial uses {words}"


def test_the_plan_says_how_many_threads_a_worker_has() -> None:
    assert describe_threads(ResourceSettings(cpus_per_worker=1)) == "Each worker uses 1 thread"
    assert describe_threads(ResourceSettings(cpus_per_worker=3)) == "Each worker uses 3 threads"
    # The same sweep file gives different last digits if executors differ in this.
    assert "1 thread on CPUs" in describe_threads(ResourceSettings())
    assert "all cores with --executor inline" in describe_threads(ResourceSettings())
