"""The workers of trials as a Ray Train run, which share a torch process group for DeepSpeed.

Only the workers load torch: a start of the processes around them is dear enough without it.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import ray
import ray.train
from ray.exceptions import GetTimeoutError
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.callback import RayTrainCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from simtune.errors import RunError
from simtune.executors.hosts.ray_hosts import NODE_ID
from simtune.executors.placement import WorkerResources
from simtune.executors.ray_folder import LOCAL_RAY
from simtune.training.engine import World

# How often the controller checks its workers, hence how long the loss of one goes unnoticed. Progress is reported
# separately.
POLL_INTERVAL_S = "0.5"

# A collective operation that waits longer for another worker is an error.
_COLLECTIVE_LIMIT_S = 1800
_SHUTDOWN_LIMIT_S = 10.0


class WorkersRun:
    """A Ray Train run in a thread of this process, until its workers return.

    If a worker or host is lost, all workers of the run are restarted, at most `max_failures` times.

    Attributes:
        error: why the run failed; None while it runs, and if its workers have returned.
    """

    def __init__(
        self,
        body: Callable[[World, dict[str, Any]], None],
        config: dict[str, Any],
        name: str,
        storage: str,
        resources: WorkerResources,
        max_failures: int,
        on_request: Callable[[], object],
        not_on: str = "",
    ) -> None:
        """Starts `body(world, config)` in every worker.

        Args:
            body: the function of a worker.
            config: its second argument.
            name: of the run.
            storage: where Ray Train keeps its files.
            resources: of the run.
            max_failures: how often workers may be restarted.
            on_request: called in another process each time before hosts for workers are asked for.
            not_on: the id of a host on which no worker is put; empty: any host.
        """
        self.error: Exception | None = None
        self._trainer = _Trainer(
            _in_worker,
            on_request,
            backend_config=_Rendezvous(resources.gpus_per_worker > 0, resources.workers),
            train_loop_config={"body": body, "config": config, "threads": resources.cpus_per_worker},
            scaling_config=ray.train.ScalingConfig(
                num_workers=resources.workers,
                use_gpu=resources.gpus_per_worker > 0,
                resources_per_worker={"CPU": resources.cpus_per_worker}
                | ({"GPU": resources.gpus_per_worker} if resources.gpus_per_worker else {}),
                label_selector={NODE_ID: f"!{not_on}"} if not_on else None,
            ),
            run_config=ray.train.RunConfig(
                name=name,
                storage_path=storage,
                # By default Ray restarts the controller forever.
                failure_config=ray.train.FailureConfig(
                    max_failures=max_failures, controller_failure_limit=max_failures
                ),
            ),
        )
        self._thread = threading.Thread(target=self._fit, name=name, daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the workers have returned or were lost too often; `error` says which."""
        return not self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Waits for the end of the run."""
        self._thread.join(timeout_s)

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:
            self.error = error


class _WorkersHere(FixedScalingPolicy):
    """Skips the resource request: a local Ray has no autoscaler, and the actor that takes it would have to start."""

    def _send_resource_request(self) -> None:
        pass

    _maybe_send_resource_request = _cancel_resource_request = _send_resource_request


class _Trainer(DataParallelTrainer):
    """A trainer that starts no processes for what this package does not use.

    There are no data sets, and the trial's own Tune actor frees its placement group.
    """

    def __init__(self, body: Callable[..., None], on_request: Callable[[], object], **settings: object) -> None:
        super().__init__(body, **settings)
        self._on_request = on_request

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        unused = (DatasetsCallback, PlacementGroupCleanerCallback)
        used = [callback for callback in super()._create_default_callbacks() if not isinstance(callback, unused)]
        return [*used, _BeforeRequest(self._on_request)]

    def _initialize_and_run_controller(self, **settings: object) -> ray.train.Result:
        if LOCAL_RAY in os.environ:
            settings["scaling_policy"] = _WorkersHere(self.scaling_config)
        return super()._initialize_and_run_controller(**settings)


class _BeforeRequest(WorkerGroupCallback):
    """Calls a function in the controller before it asks for hosts, at the start and after each loss of workers."""

    def __init__(self, on_request: Callable[[], object]) -> None:
        self._on_request = on_request

    def before_worker_group_start(self, worker_group_context: object) -> None:
        self._on_request()


class _Rendezvous(BackendConfig):
    """How workers find each other: on a single machine without a port that other machines could reach.

    The attributes are those of Ray's own `TorchConfig`, and the number of workers.
    """

    def __init__(self, gpus: bool, workers: int) -> None:
        self.backend = "nccl" if gpus else "gloo"
        self.init_method = "env"
        self.timeout_s = _COLLECTIVE_LIMIT_S
        self.workers = workers

    @property
    def backend_cls(self) -> type[Backend]:
        # A worker alone finds nobody. Ray's own would open a port for it that asks for no token.
        if LOCAL_RAY in os.environ or self.workers == 1:
            return _PrivateRendezvous
        return _NetworkRendezvous


class _NetworkRendezvous(Backend):
    """Workers find each other as Ray has it, and communicate over the network that Ray uses."""

    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: _Rendezvous) -> None:
        worker_group.execute(_use_network_of_ray)
        _ray_backend().on_start(worker_group, backend_config)

    def on_shutdown(self, worker_group: Any, backend_config: _Rendezvous) -> None:
        _ray_backend().on_shutdown(worker_group, backend_config)


def _ray_backend() -> Any:
    from ray.train.torch.config import _TorchBackend

    return _TorchBackend()


class _PrivateRendezvous(Backend):
    """Workers find each other through a file and communicate over the loopback interface."""

    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: _Rendezvous) -> None:
        size = len(worker_group)
        store = str(Path(os.environ[LOCAL_RAY]) / f"rendezvous-{uuid.uuid4().hex}") if size > 1 else ""
        ray.get(
            [
                worker_group.execute_single_async(rank, _init_process_group, backend_config, rank, size, store)
                for rank in range(size)
            ]
        )

    def on_shutdown(self, worker_group: Any, backend_config: _Rendezvous) -> None:
        if len(worker_group) > 1:
            with contextlib.suppress(GetTimeoutError):
                ray.get(worker_group.execute_async(_destroy_process_group), timeout=_SHUTDOWN_LIMIT_S)


def _destroy_process_group() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def _init_process_group(config: _Rendezvous, rank: int, size: int, store: str) -> None:
    import torch.distributed as dist

    interface = _interface_with("127.0.0.1")
    if interface is None:
        raise RunError("this machine has no loopback interface (127.0.0.1), so workers cannot communicate")
    context = ray.train.get_context()
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(context.get_local_rank()),
        "LOCAL_WORLD_SIZE": str(context.get_local_world_size()),
        "NODE_RANK": "0",
        "GLOO_SOCKET_IFNAME": interface,
        "NCCL_SOCKET_IFNAME": interface,
    }
    limit = datetime.timedelta(seconds=config.timeout_s)
    found = dist.FileStore(store, size) if store else dist.HashStore()
    dist.init_process_group(config.backend, store=found, rank=rank, world_size=size, timeout=limit)


def _use_network_of_ray() -> None:
    """Lets this worker listen on the address by which Ray knows its host, unless the host's settings say otherwise.

    By default, gloo takes the address that the host's name stands for. In Debian and Ubuntu that is one that no other
    host can reach (127.0.1.1), and a trial over several hosts would wait for it.
    """
    interface = _interface_with(ray.util.get_node_ip_address())
    if interface is not None:
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, interface)


def _interface_with(address: str) -> str | None:
    """The network interface of this machine that has an address."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(found.address == address for found in addresses):
            return name
    return None


def _in_worker(config: dict[str, Any]) -> None:
    import torch
    from ray.train.torch import get_device

    # Ray sets torch's libraries to one thread if a worker has one CPU, and sets nothing if it has more.
    torch.set_num_threads(config["threads"])
    os.environ["OMP_NUM_THREADS"] = str(config["threads"])
    context = ray.train.get_context()
    device = get_device()
    if device.type == "cuda":
        # Workers on a host see all of its GPUs. Collectives use the current device, DeepSpeed uses this variable.
        torch.cuda.set_device(device)
        os.environ["LOCAL_RANK"] = str(device.index)
    config["body"](World(context.get_world_rank(), context.get_world_size(), str(device)), config["config"])
