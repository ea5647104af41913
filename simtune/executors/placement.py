"""Which CPUs and GPUs a trial uses, and how many trials fit on a machine or cluster at once."""

from __future__ import annotations

import os
from dataclasses import dataclass

from simtune.config.settings import ResourceSettings
from simtune.errors import ConfigError
from simtune.wording import counted


@dataclass(frozen=True)
class WorkerResources:
    """What each trial uses: workers, and CPUs and GPUs per worker."""

    workers: int
    cpus_per_worker: int
    gpus_per_worker: float


def num_local_cpus() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_resources(settings: ResourceSettings, num_cpus: int, num_gpus: float) -> tuple[WorkerResources, int]:
    """What each trial uses, and how many trials run at once.

    Args:
        settings: of the sweep.
        num_cpus: available to all trials.
        num_gpus: available to all trials.

    Raises:
        ConfigError: a trial needs more than that.
    """
    gpus = settings.gpus_per_worker
    gpus_each = (1.0 if num_gpus >= 1 else 0.0) if gpus == "auto" else float(gpus)
    if settings.workers * gpus_each > num_gpus:
        raise ConfigError(
            f"a trial needs {settings.workers} x {counted(gpus_each, 'GPU')}, available: {num_gpus:g}. "
            "Lower resources.workers or resources.gpus_per_worker (0 trains on CPUs)",
            field="resources",
        )
    # A worker's fraction is on a single GPU: with 0.6 each, three GPUs hold three workers, not five.
    workers_on_gpus = int(num_gpus) * (_trials_per_gpu(gpus_each) if gpus_each < 1 else 1) if gpus_each else 0
    if settings.cpus_per_worker == "auto":
        cpus_each = max(1, min(4, num_cpus // workers_on_gpus)) if workers_on_gpus else 1
    else:
        cpus_each = settings.cpus_per_worker
    if settings.workers * cpus_each > num_cpus:
        raise ConfigError(
            f"a trial needs {settings.workers} x {counted(cpus_each, 'CPU')}, available: {num_cpus}. Lower "
            "resources.workers or resources.cpus_per_worker",
            field="resources",
        )
    fitting = num_cpus // (settings.workers * cpus_each)
    if workers_on_gpus:
        fitting = min(fitting, workers_on_gpus // settings.workers)
    max_concurrent = fitting if settings.max_concurrent == "auto" else min(fitting, settings.max_concurrent)
    return WorkerResources(settings.workers, cpus_each, gpus_each), max(1, max_concurrent)


def describe_placement(settings: ResourceSettings) -> str:
    """How trials are placed on GPUs, in words."""
    workers, gpus = settings.workers, settings.gpus_per_worker
    each = f"Each trial uses {counted(workers, 'worker')}"
    if gpus == "auto":
        return f"{each}, on {_gpus_of(workers)} if there are GPUs, otherwise on CPUs"
    if gpus == 0:
        return f"{each}, on CPUs"
    if gpus < 1:
        shared_by = counted(_trials_per_gpu(gpus), "trial fits", "trials fit")
        return f"{each} with {gpus:g} GPU per worker: {shared_by} on a GPU"
    return f"{each}, on {_gpus_of(workers)}"


def _gpus_of(workers: int) -> str:
    return counted(workers, "GPU") + (" (one per worker)" if workers > 1 else "")


def describe_threads(settings: ResourceSettings) -> str:
    """How many threads a worker uses, in words; the number affects the order in which numbers are summed."""
    if settings.cpus_per_worker == "auto":
        return "Each worker uses 1 thread on CPUs, up to 4 threads with a GPU, and all cores with --executor inline"
    return f"Each worker uses {counted(settings.cpus_per_worker, 'thread')}"


def _trials_per_gpu(gpus_per_worker: float) -> int:
    """How many trials of one worker share a GPU."""
    return int(1 / gpus_per_worker + 1e-9)
