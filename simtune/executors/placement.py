"""Which CPUs and GPUs a trial uses, and how many trials fit on a machine or cluster at once."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
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

    def describe_worker(self) -> str:
        """What a worker needs, in words."""
        gpus = f" and {counted(self.gpus_per_worker, 'GPU')}" if self.gpus_per_worker else ""
        return counted(self.cpus_per_worker, "CPU") + gpus

    def __str__(self) -> str:
        needs = self.describe_worker()
        return f"{self.workers} x {needs}" if self.workers > 1 else f"a host with {needs}"

    def workers_on(self, host: Host) -> int:
        """How many workers fit on a host."""
        fitting = host.num_cpus // self.cpus_per_worker
        return min(fitting, _workers_on_gpus(host, self.gpus_per_worker)) if self.gpus_per_worker else fitting


@dataclass(frozen=True)
class Host:
    """What a machine has for workers."""

    name: str
    num_cpus: int
    num_gpus: float = 0.0

    def __str__(self) -> str:
        gpus = f", {counted(self.num_gpus, 'GPU')}" if self.num_gpus else ""
        return f"{self.name} ({counted(self.num_cpus, 'CPU')}{gpus})"


def num_local_cpus() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def this_host(num_gpus: float = 0.0) -> Host:
    """This machine, with the CPUs that this process may use."""
    return Host(socket.gethostname(), num_local_cpus(), num_gpus)


def worker_resources(settings: ResourceSettings, hosts: Sequence[Host]) -> tuple[WorkerResources, int]:
    """What each trial uses, and how many trials run at once.

    A worker is on one host, so hosts are counted one by one: three hosts of one CPU hold no worker of three.

    Args:
        settings: of the sweep.
        hosts: what each host has for workers.

    Raises:
        ConfigError: no host holds a worker, or all hosts together hold too few for a trial.
    """
    gpus = settings.gpus_per_worker
    gpus_each = (1.0 if any(host.num_gpus >= 1 for host in hosts) else 0.0) if gpus == "auto" else float(gpus)
    cpus = settings.cpus_per_worker
    cpus_each = _fitting_cpus(hosts, gpus_each) if cpus == "auto" else cpus
    each = WorkerResources(settings.workers, cpus_each, gpus_each)
    fitting = num_fitting(each, hosts)
    if fitting == 0:
        raise ConfigError(_too_small(each, hosts))
    return each, fitting if settings.max_concurrent == "auto" else min(fitting, settings.max_concurrent)


def holds_trial(settings: ResourceSettings, hosts: Sequence[Host]) -> bool:
    """Whether these hosts hold a trial, see `worker_resources`."""
    try:
        worker_resources(settings, hosts)
    except ConfigError:
        return False
    return True


def num_fitting(each: WorkerResources, hosts: Sequence[Host]) -> int:
    """How many trials these hosts hold."""
    return sum(each.workers_on(host) for host in hosts) // each.workers


def encoder_threads(hosts: Sequence[Host], num_encoders: int) -> int:
    """The most threads for each of some encoders that share all CPUs, each on one host; no more of them than CPUs."""
    most = max(1, sum(host.num_cpus for host in hosts) // num_encoders)
    fitting = (
        threads for threads in range(most, 1, -1) if sum(host.num_cpus // threads for host in hosts) >= num_encoders
    )
    return next(fitting, 1)


def _fitting_cpus(hosts: Sequence[Host], gpus_each: float) -> int:
    """CPUs for a worker: with a GPU up to four, but so few that no GPU is left without a worker."""
    shares = [host.num_cpus // workers for host in hosts if (workers := _workers_on_gpus(host, gpus_each))]
    return max(1, min(4, *shares)) if shares else 1


def _workers_on_gpus(host: Host, gpus_each: float) -> int:
    """How many workers the GPUs of a host hold.

    A worker's fraction is on a single GPU: with 0.6 each, three GPUs hold three workers, not five.
    """
    if gpus_each == 0:
        return 0
    return int(host.num_gpus) * (_trials_per_gpu(gpus_each) if gpus_each < 1 else 1)


def _too_small(each: WorkerResources, hosts: Sequence[Host]) -> str:
    """Which hosts are too small for a worker, or how many workers are missing, and what to lower."""
    needs = each.describe_worker()
    num_workers = sum(each.workers_on(host) for host in hosts)
    setting = "cpus_per_worker"
    if each.gpus_per_worker and not any(_workers_on_gpus(host, each.gpus_per_worker) for host in hosts):
        setting = "gpus_per_worker (0 trains on CPUs)"
    has = f"hosts: {', '.join(map(str, hosts))}" if hosts else "no host offers CPUs"
    if num_workers == 0:
        return f"resources: a worker needs {needs} on one host; {has}. Lower resources.{setting}, or add larger hosts"
    return (
        f"resources: a trial needs {counted(each.workers, 'worker')} of {needs}, and the hosts hold {num_workers} "
        f"({has}). Lower resources.workers or resources.{setting}, or add hosts"
    )


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
