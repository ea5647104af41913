"""The Ray executor: Ray Data encodes, Ray tasks work on blocks of rows, Ray Tune and Ray Train run trials."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import ray
from ray.tune import Callback

from simtune.config import Sweep
from simtune.config.settings import ResourceSettings
from simtune.embedding.cache import Encoded
from simtune.embedding.embed import OnProgress
from simtune.embedding.encoder import ResolvedEncoder
from simtune.executors.base import Executor, ExecutorName, Job
from simtune.executors.hosts.host_reports import HostFacts, HostReport
from simtune.executors.hosts.host_wait import NOTED_AFTER_S, RunWait, bundles_for, wait_for_hosts
from simtune.executors.hosts.ray_hosts import (
    ask_autoscaler,
    has_autoscaler,
    hosts_for_workers,
    is_refused_by_autoscaler,
)
from simtune.executors.hosts.ray_preflight import NewHosts, report_hosts
from simtune.executors.placement import (
    Host,
    WorkerResources,
    holds_trial,
    num_fitting,
    this_host,
    worker_resources,
)
from simtune.executors.ray_log import RayLog
from simtune.executors.ray_start import StartedRay
from simtune.executors.ray_tune import run_with_tune
from simtune.executors.ray_tune_callbacks import AskForHosts, WarnOfNewHosts
from simtune.executors.sharing.ray_share import ClusterShare, Share, WholeMachine
from simtune.graph.blocks import T, Work, map_blocks_here
from simtune.graph.similarity import DENSE_TASKS
from simtune.progress import Display, Quiet
from simtune.storage.files import AnyPath, as_path, cache_folder, fingerprint
from simtune.training.precision import check_hardware
from simtune.trial.spec import SharedData

_A_TURN = "this sweep's turn on the cluster"


class RayExecutor(Executor):
    """Runs on a local Ray of its own, or on the cluster that this machine belongs to."""

    def __init__(self, name: ExecutorName) -> None:
        """Starts nothing yet.

        Args:
            name: `local` or `cluster`.
        """
        self._name = name
        self.has_hosts = name == "cluster"
        self._ray: StartedRay | None = None
        self._log = RayLog()
        self._checked: tuple[HostFacts, Mapping[str, Any], set[str]] | None = None
        self._found: dict[ResourceSettings, WorkerResources] = {}
        self._note: Callable[[str], object] = Quiet().note
        self._wait_s = math.inf
        self._has_asked = False
        self._priority = 1.0

    def __exit__(
        self,
        error_type: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Stops the local Ray, or leaves the cluster."""
        if self._ray is not None:
            if self._has_asked:
                # Hosts without work can go back.
                ask_autoscaler([])
                self._has_asked = False
            self._ray.stop()
            self._ray = None

    def check(self, sweep: Sweep, display: Display) -> list[str]:
        self._priority = sweep.resources.priority
        self._log.write_to(_run_directory(sweep))
        self._note = display.note
        if self._name == "cluster":
            # First what no cluster could do, before one is asked.
            check_hardware(sweep, has_gpu=sweep.resources.gpus_per_worker != 0)
            self._start()
            self._wait_s = sweep.resources.wait_s
            return check_hardware(sweep, has_gpu=self._resources(sweep.resources).gpus_per_worker > 0)
        if self._ray is None:
            worker_resources(sweep.resources, [this_host(_num_local_gpus())])
        return check_hardware(sweep, has_gpu=_num_local_gpus() > 0 and sweep.resources.gpus_per_worker != 0)

    def report_hosts(self, driver: HostFacts, needs: Mapping[str, object], on_progress: OnProgress) -> list[HostReport]:
        self._start()
        reports = report_hosts(driver, needs, on_progress)
        self._checked = driver, needs, {report.id for report in reports}
        return reports

    def encode_texts(
        self, texts: Sequence[str], resolved: ResolvedEncoder, batch_size: int, on_progress: OnProgress
    ) -> list[Encoded | str]:
        from simtune.executors.ray_data import encode_with_ray, encoding_units

        self._start()
        hosts = self._first_hosts("a host for encoders", WorkerResources(1, 1, 0.0), bool)
        wanted = encoding_units(hosts)
        each = WorkerResources(1, 1, 1.0 if any(host.num_gpus >= 1 for host in hosts) else 0.0)
        with self._share(wanted, each) as share:
            num_units = share.take_turn(self._wait(_A_TURN))
            on_wait = self._wait("a free CPU or GPU to embed tasks").look
            return encode_with_ray(texts, resolved, batch_size, on_progress, hosts, num_units, on_wait)

    def map_blocks(
        self, work: Work[T], arrays: Mapping[str, np.ndarray], starts: Sequence[tuple[int, int]]
    ) -> Iterator[T]:
        # Starting Ray takes longer than one core needs for so few rows.
        if sum((end - begin) for begin, end in starts) <= DENSE_TASKS:
            return map_blocks_here(work, arrays, starts)
        self._start()
        return self._map_blocks(work, arrays, starts)

    def _map_blocks(
        self, work: Work[T], arrays: Mapping[str, np.ndarray], starts: Sequence[tuple[int, int]]
    ) -> Iterator[T]:
        from simtune.executors.ray_blocks import map_blocks_with_ray

        with self._share(len(starts), WorkerResources(1, 1, 0.0)) as share:
            share.take_turn(self._wait(_A_TURN))
            yield from map_blocks_with_ray(work, arrays, starts, self._wait("a free CPU to compare tasks").look)

    def run(
        self, jobs: Sequence[Job], shared: dict[str, SharedData], sweep: Sweep, display: Display
    ) -> Mapping[str, str]:
        self._start()
        resources = self._resources(sweep.resources)
        most = sweep.resources.max_concurrent
        wanted = len(jobs) if most == "auto" else min(len(jobs), most)
        with self._share(wanted, resources) as share:
            return run_with_tune(
                jobs,
                shared,
                resources,
                share,
                settings=sweep.resources,
                ray_folder=self._ray_folder(sweep),
                callbacks=self._callbacks(sweep, len(jobs), wanted, display),
                display=display,
            )

    @contextlib.contextmanager
    def _share(self, wanted: int, each: WorkerResources) -> Iterator[Share]:
        """What the sweep may use of its Ray, until it is given back.

        Args:
            wanted: how many trials, or other units, it would run at once.
            each: what one takes.
        """
        if self._name == "local":
            yield WholeMachine(min(wanted, num_fitting(each, self._hosts())))
            return
        with ClusterShare(self._priority, each, wanted) as share:
            yield share

    def _callbacks(self, sweep: Sweep, num_trials: int, at_once: int, display: Display) -> list[Callback]:
        """What a cluster needs while trials run: hosts that join are checked, and an autoscaler is asked for hosts."""
        if self._name == "local":
            return []
        each = self._resources(sweep.resources)
        callbacks: list[Callback] = [AskForHosts(num_trials, at_once, lambda now: self._ask(bundles_for(now, each)))]
        if self._checked is not None:
            callbacks.append(WarnOfNewHosts(NewHosts(*self._checked, as_path(sweep.storage)), display))
        return callbacks

    def _ray_folder(self, sweep: Sweep) -> AnyPath:
        """Where Ray keeps its own files while it works; every machine of a cluster must be able to reach it."""
        run_directory = _run_directory(sweep)
        if self._name == "local" and not isinstance(run_directory, Path):
            return cache_folder(sweep.storage) / "ray" / fingerprint(str(run_directory))[:16]
        return run_directory / ".ray"

    def _start(self) -> None:
        if self._ray is not None:
            return
        self._ray = StartedRay(self._name, self._log, self._note)
        if self._name == "cluster":
            # All of Ray Train asks this actor for machines. The first process that asks creates it, bound to its own
            # machine for good; if that machine were lost, all others would wait for the actor forever. So create it on
            # the driver's machine.
            _create_coordinator_here()

    def _resources(self, settings: ResourceSettings) -> WorkerResources:
        """What each trial uses, by the hosts that were there when it was first asked for.

        It does not change with hosts that leave for a moment, nor in the middle of a sweep.
        """
        if settings not in self._found:
            cpus = 1 if settings.cpus_per_worker == "auto" else settings.cpus_per_worker
            gpus = 0.0 if settings.gpus_per_worker == "auto" else settings.gpus_per_worker
            least = WorkerResources(settings.workers, cpus, gpus)
            hosts = self._first_hosts(str(least), least, lambda hosts: holds_trial(settings, hosts))
            self._found[settings], _ = worker_resources(settings, hosts)
        return self._found[settings]

    def _first_hosts(
        self, needs: str, trial: WorkerResources, are_enough: Callable[[Sequence[Host]], bool]
    ) -> Sequence[Host]:
        """The hosts for workers, for all of a trial.

        If they are not enough, the autoscaler is asked for more, and they are waited for if there is none yet, if the
        autoscaler can add what is missing, or if there is a limit to the wait. Otherwise those that are there are all.
        """
        if are_enough(hosts := self._hosts()):
            return hosts
        self._ask(bundles_for(1, trial))
        if hosts and math.isinf(self._wait_s) and not self._may_grow(trial, hosts):
            return hosts
        return wait_for_hosts(lambda: (found := self._hosts(), are_enough(found)), self._wait(needs, noted_after_s=0.0))

    def _may_grow(self, trial: WorkerResources, hosts: Sequence[Host]) -> bool:
        if not has_autoscaler():
            return False
        # Of hosts that exist already, the autoscaler does not know the size before they have started.
        return any(trial.workers_on(host) for host in hosts) or not is_refused_by_autoscaler()

    def _wait(self, what: str, noted_after_s: float = NOTED_AFTER_S) -> RunWait:
        return RunWait(what, self._note, self._wait_s, noted_after_s)

    def _ask(self, bundles: list[dict[str, float]]) -> None:
        ask_autoscaler(bundles)
        self._has_asked = True

    def _hosts(self) -> list[Host]:
        """The machines that offer CPUs to workers."""
        if self._name == "local":
            return [this_host(ray.cluster_resources().get("GPU", 0.0))]
        return hosts_for_workers()


def _run_directory(sweep: Sweep) -> AnyPath:
    return as_path(sweep.storage) / sweep.name


def _num_local_gpus() -> float:
    from ray._private.accelerators import NvidiaGPUAcceleratorManager

    return float(NvidiaGPUAcceleratorManager.get_current_node_num_accelerators())


def _create_coordinator_here() -> None:
    # Internal to Ray 2.60: if a release has moved it, this step is skipped.
    with contextlib.suppress(ImportError):
        from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator as coordinator

        coordinator.get_or_create_autoscaling_coordinator()
