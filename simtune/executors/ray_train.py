"""Workers of trials as a Ray Train run: a `TorchTrainer` whose workers share a process group for DeepSpeed."""

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

# The controller looks after its workers this often: how long a lost worker goes unnoticed. Progress takes another way.
POLL_INTERVAL_S = "0.5"

# Set where all workers are on this machine, to a folder that only its user can open.
LOCAL_RAY = "SIMTUNE_LOCAL_RAY"


class WorkersRun:
    """A `TorchTrainer` run in a thread of this process, open until its workers return.

    A worker or host that is lost restarts all workers of this run, at most `max_failures` times.
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
        """Starts `body(world, config)` in every worker."""
        self.error: Exception | None = None
        self._trainer = TorchTrainer(
            _in_worker,
            torch_config=_Meeting(),
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
                # Ray's own default for the controller is to try for ever.
                failure_config=ray.train.FailureConfig(
                    max_failures=max_failures, controller_failure_limit=max_failures
                ),
            ),
        )
        self._thread = threading.Thread(target=self._fit, name=name, daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the workers have returned, or were lost too often; `error` says which."""
        return not self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:
            self.error = error


class _Meeting(TorchConfig):
    """How workers find each other: on one machine without any port that others could reach."""

    @property
    def backend_cls(self) -> type[Backend]:
        return _OneMachine if LOCAL_RAY in os.environ else super().backend_cls


class _OneMachine(TorchConfig().backend_cls):  # type: ignore[misc]
    """Workers that find each other by a file, and talk over the loopback interface."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        size = len(worker_group)
        store = str(Path(os.environ[LOCAL_RAY]) / f"meeting-{uuid.uuid4().hex}")
        backend = "nccl" if worker_group.get_resources_per_worker().get("GPU", 0) > 0 else "gloo"
        meet = [worker_group.execute_single_async(rank, _meet, backend, rank, size, store) for rank in range(size)]
        ray.get(meet)


def _meet(backend: str, rank: int, size: int, store: str) -> None:
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
    raise RunError("this machine has no loopback interface (127.0.0.1): workers cannot talk to each other")


def _in_worker(config: dict[str, Any]) -> None:
    import torch

    # Ray sets one thread for torch's libraries where a worker has one CPU, and nothing where it has more.
    torch.set_num_threads(config["threads"])
    os.environ["OMP_NUM_THREADS"] = str(config["threads"])
    context = ray.train.get_context()
    device = ray.train.torch.get_device()
    if device.type == "cuda":
        # Workers on one host see each other's GPUs. Collectives use the current one, DeepSpeed this variable.
        torch.cuda.set_device(device)
        os.environ["LOCAL_RANK"] = str(device.index)
    config["body"](World(context.get_world_rank(), context.get_world_size(), str(device)), config["config"])
