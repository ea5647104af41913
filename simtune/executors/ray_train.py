"""The workers of trials as a Ray Train run: a `TorchTrainer` whose workers share a process group for DeepSpeed."""

from __future__ import annotations

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
from ray.train.backend import Backend
from ray.train.torch import TorchConfig, TorchTrainer

from simtune.errors import RunError
from simtune.executors.placement import WorkerResources
from simtune.training.engine import World

# How often the controller checks its workers, hence how long the loss of one goes unnoticed. Progress is reported
# separately.
POLL_INTERVAL_S = "0.5"

# Set to a private folder if all workers are on this machine.
LOCAL_RAY = "SIMTUNE_LOCAL_RAY"


class WorkersRun:
    """A `TorchTrainer` run in a thread of this process, until its workers return.

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
    ) -> None:
        """Starts `body(world, config)` in every worker.

        Args:
            body: the function of a worker.
            config: its second argument.
            name: of the run.
            storage: where Ray Train keeps its files.
            resources: of the run.
            max_failures: how often workers may be restarted.
        """
        self.error: Exception | None = None
        self._trainer = TorchTrainer(
            _in_worker,
            torch_config=_Rendezvous(),
            train_loop_config={"body": body, "config": config, "threads": resources.cpus_per_worker},
            scaling_config=ray.train.ScalingConfig(
                num_workers=resources.workers,
                use_gpu=resources.gpus_per_worker > 0,
                resources_per_worker={"CPU": resources.cpus_per_worker}
                | ({"GPU": resources.gpus_per_worker} if resources.gpus_per_worker else {}),
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


class _Rendezvous(TorchConfig):
    """How workers find each other: on a single machine without a port that other machines could reach."""

    @property
    def backend_cls(self) -> type[Backend]:
        return _FileRendezvous if LOCAL_RAY in os.environ else super().backend_cls


class _FileRendezvous(TorchConfig().backend_cls):  # type: ignore[misc]
    """Workers find each other through a file and communicate over the loopback interface."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        size = len(worker_group)
        store = str(Path(os.environ[LOCAL_RAY]) / f"rendezvous-{uuid.uuid4().hex}")
        backend = "nccl" if worker_group.get_resources_per_worker().get("GPU", 0) > 0 else "gloo"
        ray.get(
            [
                worker_group.execute_single_async(rank, _init_process_group, backend, rank, size, store)
                for rank in range(size)
            ]
        )


def _init_process_group(backend: str, rank: int, size: int, store: str) -> None:
    import torch.distributed as dist

    interface = _loopback_interface()
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
    limit = datetime.timedelta(seconds=TorchConfig().timeout_s)
    dist.init_process_group(backend, store=dist.FileStore(store, size), rank=rank, world_size=size, timeout=limit)


def _loopback_interface() -> str:
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == "127.0.0.1" for address in addresses):
            return name
    raise RunError("this machine has no loopback interface (127.0.0.1), so workers cannot communicate")


def _in_worker(config: dict[str, Any]) -> None:
    import torch

    # Ray sets torch's libraries to one thread if a worker has one CPU, and sets nothing if it has more.
    torch.set_num_threads(config["threads"])
    os.environ["OMP_NUM_THREADS"] = str(config["threads"])
    context = ray.train.get_context()
    device = ray.train.torch.get_device()
    if device.type == "cuda":
        # Workers on a host see all of its GPUs. Collectives use the current device, DeepSpeed uses this variable.
        torch.cuda.set_device(device)
        os.environ["LOCAL_RANK"] = str(device.index)
    config["body"](World(context.get_world_rank(), context.get_world_size(), str(device)), config["config"])
