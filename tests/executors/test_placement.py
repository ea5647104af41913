"""What a trial uses of a machine: refused if there is less, and described in words."""

from __future__ import annotations

import pytest

from simtune.config import ResourceSettings
from simtune.errors import ConfigError
from simtune.executors.placement import WorkerResources, describe_placement, describe_threads, worker_resources


def test_resources_that_do_not_exist_are_refused_and_auto_fits_the_machine() -> None:
    auto = ResourceSettings()
    assert worker_resources(auto, 2, 0) == (WorkerResources(1, 1, 0.0), 2)
    assert worker_resources(auto, 16, 2) == (WorkerResources(1, 4, 1.0), 2)
    assert worker_resources(auto, 4, 2) == (WorkerResources(1, 2, 1.0), 2)
    shared = ResourceSettings(gpus_per_worker=0.25, max_concurrent=3)
    assert worker_resources(shared, 16, 1) == (WorkerResources(1, 4, 0.25), 3)
    # Not five: 0.6 + 0.6 fit on no GPU.
    assert worker_resources(ResourceSettings(gpus_per_worker=0.6), 16, 3) == (WorkerResources(1, 4, 0.6), 3)
    assert worker_resources(ResourceSettings(workers=2), 16, 5) == (WorkerResources(2, 3, 1.0), 2)
    with pytest.raises(ConfigError, match="2 x 1 GPU, available: 1"):
        worker_resources(ResourceSettings(workers=2, gpus_per_worker=1.0), 8, 1)
    with pytest.raises(ConfigError, match="1 x 4 CPUs, available: 2"):
        worker_resources(ResourceSettings(cpus_per_worker=4), 2, 0)


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
