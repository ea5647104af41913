"""One trial as a Ray Train run: a `TorchTrainer` whose workers share a process group for DeepSpeed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from simtune.training.engine import World

# The controller looks after its workers this often; Ray's 2 s is most of a short trial's overhead.
POLL_INTERVAL_S = "0.2"


@dataclass(frozen=True)
class WorkerResources:
    """What each trial takes: workers, and CPUs and GPUs a worker."""

    workers: int
    cpus_per_worker: int
    gpus_per_worker: float


def run_in_workers(
    body: Callable[[World, dict[str, Any]], None],
    config: dict[str, Any],
    name: str,
    storage: Path,
    resources: WorkerResources,
    max_failures: int,
) -> None:
    """Runs `body(world, config)` in every worker of a new `TorchTrainer` run; call it inside a Tune trial.

    A worker or host that is lost restarts all workers of this trial, at most `max_failures` times.

    Raises:
        ray.train.TrainingFailedError: the workers failed too often.
    """
    trainer = TorchTrainer(
        _in_worker,
        train_loop_config={"body": body, "config": config, "threads": resources.cpus_per_worker},
        scaling_config=ray.train.ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker={"CPU": resources.cpus_per_worker}
            | ({"GPU": resources.gpus_per_worker} if resources.gpus_per_worker else {}),
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=str(storage),
            callbacks=[TuneReportCallback()],
            # Ray's own default for the controller is to try for ever.
            failure_config=ray.train.FailureConfig(max_failures=max_failures, controller_failure_limit=max_failures),
        ),
    )
    trainer.fit()


def report_progress(values: dict[str, Any]) -> None:
    """Sends plain numbers and texts to the driver; every worker must call it equally often."""
    ray.train.report(values)


def _in_worker(config: dict[str, Any]) -> None:
    import torch

    # Ray sets one thread for torch's libraries where a worker has one CPU, and nothing where it has more.
    torch.set_num_threads(config["threads"])
    os.environ["OMP_NUM_THREADS"] = str(config["threads"])
    context = ray.train.get_context()
    device = str(ray.train.torch.get_device())
    world = World(context.get_world_rank(), context.get_world_size(), "cpu" if device == "cpu" else "cuda:0")
    config["body"](world, config["config"])
