"""The Ray executor: Ray Data encodes, Ray Tune schedules trials, and each trial is a Ray Train run.

Tune decides only *when* a trial runs. What there is to run comes from the results on disk, so a lost or corrupt
experiment state costs nothing: each run of the driver gives Tune a new, temporary experiment of just what is missing.
"""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray import tune

from simtune.config import ResourceSettings, Sweep
from simtune.embedding.cache import Encoded
from simtune.embedding.embed import EncodeTexts, OnProgress
from simtune.embedding.encoder import ResolvedEncoder
from simtune.errors import ConfigError, RunError
from simtune.sweep.display import Display
from simtune.sweep.executors import ExecutorName, Job, check_precision, outcome_of, run_guarded, write_failure
from simtune.sweep.trial_run import SharedData, TrialSpec
from simtune.training.engine import World
from simtune.training.ray_train import POLL_INTERVAL_S, WorkerResources, report_progress, run_in_workers

# Zero is refused by Tune, and more would take the CPUs that the trial's own workers wait for.
_TUNE_FUNCTION_CPUS = 0.01

_WORKER_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "DEEPSPEED_LOG_LEVEL": "error",
    "PYTHONWARNINGS": "ignore",
    # Tune's own tables would be drawn over ours.
    "RAY_AIR_NEW_OUTPUT": "0",
    # Tune would take Ctrl-C as a wish to end early with what there is; a sweep is to stop and be continued.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": POLL_INTERVAL_S,
    # Many processes start at once; on a busy machine Ray's 60 s are too few.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
}
# One process less a trial; a machine does not announce that it will be taken from itself.
_LOCAL_ENVIRONMENT = {
    **_WORKER_ENVIRONMENT,
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # A trial is some ten processes that mostly wait: more than Ray expects on few cores, and it would say so each time.
    "RAY_worker_maximum_startup_concurrency": "32",
}


class RayExecutor:
    """Runs on a local Ray of its own, or on the cluster that this machine belongs to."""

    def __init__(self, name: ExecutorName) -> None:
        self._name = name
        self._started = False
        self.encode_texts: EncodeTexts = self._encode

    def check(self, sweep: Sweep) -> None:
        """Refuses more than this machine has; a cluster's size is known once it is connected."""
        if self._name == "local" and not self._started:
            worker_resources(sweep.resources, _num_local_cpus(), _num_local_gpus())
            check_precision(sweep, _num_local_gpus() > 0)

    def _encode(
        self, texts: Sequence[str], resolved: ResolvedEncoder, batch_size: int, on_progress: OnProgress
    ) -> list[Encoded | str]:
        from simtune.embedding.ray_data import encode_with_ray

        self._start()
        num_cpus, num_gpus = self._capacity()
        # A machine of a cluster may vanish; on this one a lost encoder means that it would be lost again.
        max_restarts = 3 if self._name == "cluster" else 0
        return encode_with_ray(
            texts, resolved, batch_size, on_progress, num_cpus, num_gpus=int(num_gpus), max_restarts=max_restarts
        )

    def run(self, jobs: Sequence[Job], shared: dict[str, SharedData], sweep: Sweep, display: Display) -> None:
        self._start()
        each, max_concurrent = worker_resources(sweep.resources, *self._capacity())
        state = Path(sweep.storage) / sweep.name / ".ray"
        # Left by a driver that was killed; the run's lock says that no other is using it.
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True)
        by_id = {job.spec.id: job for job in jobs}
        # Once in the object store, read by every worker on a node from the same memory.
        references = {key: ray.put(data) for key, data in shared.items()}
        trainable = tune.with_resources(
            tune.with_parameters(
                _trial,
                specs={job.spec.id: job.spec for job in jobs},
                data={job.spec.id: [references[job.data]] for job in jobs},
                resources=each,
                max_failures=sweep.resources.max_failures,
                state=str(state),
            ),
            {"CPU": _TUNE_FUNCTION_CPUS},
        )
        tuner = tune.Tuner(
            trainable,
            param_space={"trial": tune.grid_search(list(by_id))},
            tune_config=tune.TuneConfig(max_concurrent_trials=max_concurrent, reuse_actors=True),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(state),
                verbose=0,
                callbacks=[_DisplayCallback(by_id, display)],
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tuner.fit()
        shutil.rmtree(state, ignore_errors=True)

    def close(self) -> None:
        if self._started:
            ray.shutdown()
            self._started = False

    def _start(self) -> None:
        if self._started:
            return
        # A local Ray inherits these. A runtime environment would do too, but no process could be started ahead then.
        environment = _LOCAL_ENVIRONMENT if self._name == "local" else _WORKER_ENVIRONMENT
        os.environ.update({key: value for key, value in environment.items() if key not in os.environ})
        for noisy in ("ray", "ray.data", "ray.train", "ray.tune"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        try:
            ray.init(
                **self._where(),
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except ConnectionError as error:
            raise RunError(
                f"--executor cluster: no Ray cluster is running here ({str(error).splitlines()[0]}). Run this on the "
                "head node of a cluster started with `ray up cluster.yaml`, or use --executor local"
            ) from error
        self._started = True

    def _capacity(self) -> tuple[int, float]:
        """CPUs and GPUs that workers may use."""
        available = ray.cluster_resources()
        num_gpus = available.get("GPU", 0.0)
        if self._name == "local":
            return _num_local_cpus(), num_gpus
        return max(1, int(available.get("CPU", 1)) - 1), num_gpus

    def _where(self) -> dict[str, Any]:
        if self._name == "cluster":
            return {"address": "auto", "runtime_env": {"env_vars": _WORKER_ENVIRONMENT}}
        # `local`, not None: a file left by a killed cluster would lead None to a cluster that is gone. One CPU more
        # than there is pays for the Tune functions, which only wait; workers are counted against the real ones.
        return {"address": "local", "num_cpus": _num_local_cpus() + 1, "include_dashboard": False}


def worker_resources(settings: ResourceSettings, num_cpus: int, num_gpus: float) -> tuple[WorkerResources, int]:
    """What each trial takes and how many fit at once.

    Raises:
        ConfigError: a trial needs more than there is.
    """
    gpus = settings.gpus_per_worker
    gpus_each = (1.0 if num_gpus >= 1 else 0.0) if gpus == "auto" else float(gpus)
    if settings.workers * gpus_each > num_gpus:
        raise ConfigError(
            f"resources: a trial needs {settings.workers} x {gpus_each:g} GPUs, there are {num_gpus:g}. Lower "
            "resources.workers or resources.gpus_per_worker (0 trains on CPUs)"
        )
    if settings.cpus_per_worker == "auto":
        cpus_each = max(1, min(4, int(num_cpus / max(1.0, num_gpus / gpus_each)))) if gpus_each else 1
    else:
        cpus_each = settings.cpus_per_worker
    if settings.workers * cpus_each > num_cpus:
        raise ConfigError(
            f"resources: a trial needs {settings.workers} x {cpus_each} CPUs, there are {num_cpus}. Lower "
            "resources.workers or resources.cpus_per_worker"
        )
    fitting = num_cpus // (settings.workers * cpus_each)
    if gpus_each:
        fitting = min(fitting, int(num_gpus / (settings.workers * gpus_each) + 1e-9))
    max_concurrent = fitting if settings.max_concurrent == "auto" else min(fitting, settings.max_concurrent)
    return WorkerResources(settings.workers, cpus_each, gpus_each), max(1, max_concurrent)


def _num_local_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _num_local_gpus() -> float:
    from ray._private.accelerators import NvidiaGPUAcceleratorManager

    return float(NvidiaGPUAcceleratorManager.get_current_node_num_accelerators())


def _trial(
    config: dict[str, Any],
    specs: dict[str, TrialSpec],
    data: dict[str, list[Any]],
    resources: WorkerResources,
    max_failures: int,
    state: str,
) -> None:
    """The Tune function: one Ray Train run a trial; a run that failed for good leaves `failure.json`."""
    spec = specs[config["trial"]]
    try:
        run_in_workers(
            _worker,
            {"spec": spec, "data": data[spec.id]},
            name=f"train-{spec.id}",
            storage=Path(state),
            resources=resources,
            max_failures=max_failures,
        )
    except Exception as error:
        write_failure(spec, error)


def _worker(world: World, config: dict[str, Any]) -> None:
    (reference,) = config["data"]
    shared: SharedData = ray.get(reference)
    run_guarded(config["spec"], shared, world, report_progress)


class _DisplayCallback(tune.Callback):
    """Tells the display what Tune's trials do."""

    def __init__(self, jobs: dict[str, Job], display: Display) -> None:
        self._jobs = jobs
        self._display = display

    def __getstate__(self) -> dict[str, Any]:
        # Tune saves its callbacks with the experiment; a live display is no state, and ours is never restored.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        job = self._jobs[trial.config["trial"]]
        self._display.trial_started(job.spec.id, job.label)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "phase" in result:
            self._display.trial_progress(trial.config["trial"], result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended(trial)

    def _ended(self, trial: Any) -> None:
        job = self._jobs[trial.config["trial"]]
        self._display.trial_ended(job.spec.id, outcome_of(job.spec.directory))
