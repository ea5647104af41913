"""The Ray executor: Ray Data encodes, Ray Tune schedules trials, and Ray Train runs hold their workers.

Tune decides only *when* a trial runs. What there is to run comes from the results on disk, so a lost or corrupt
experiment state costs nothing: each run of the driver gives Tune a new, temporary experiment of just what is missing.
"""

from __future__ import annotations

import contextlib
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
from ray import tune
from ray.util.placement_group import PlacementGroup, get_current_placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from simtune.config import Sweep
from simtune.drivers.claims import claim_cell, read_claim
from simtune.embedding.cache import Encoded
from simtune.embedding.embed import EncodeTexts, OnProgress
from simtune.embedding.encoder import ResolvedEncoder
from simtune.executors.base import ExecutorName, Job, outcome_of
from simtune.executors.placement import WorkerResources, num_local_cpus, worker_resources
from simtune.executors.ray_start import StartedRay
from simtune.executors.ray_train import OpenRun
from simtune.executors.trial_slots import NO_TICKET, Event, Switchboard
from simtune.graph.blocks import MapBlocks, T, Work, map_blocks_here
from simtune.graph.similarity import DENSE_TASKS
from simtune.progress import Display
from simtune.storage.files import AnyPath, as_path, cache_folder, fingerprint, remove_tree
from simtune.training.engine import World
from simtune.training.precision import check_hardware
from simtune.training.process_memory import release_memory
from simtune.trial.attempts import ended_when_hung, fail, run_guarded
from simtune.trial.failures import num_attempts, record_attempt
from simtune.trial.run import SharedData, TrialSpec
from simtune.wording import counted

# Zero is refused by Tune, and more would take the CPUs that the trial's own workers wait for.
_TUNE_TRAINABLE_CPUS = 0.01


class RayExecutor:
    """Runs on a local Ray of its own, or on the cluster that this machine belongs to."""

    def __init__(self, name: ExecutorName) -> None:
        self._name = name
        self._ray: StartedRay | None = None
        self.encode_texts: EncodeTexts = self._encode
        self.map_blocks: MapBlocks = self._map_blocks

    def check(self, sweep: Sweep) -> list[str]:
        """Refuses what this machine has not, or the cluster that is running here."""
        if self._name == "cluster":
            # What no cluster could do, before one is asked.
            check_hardware(sweep, has_gpu=sweep.resources.gpus_per_worker != 0)
            self._start()
            each, _ = worker_resources(sweep.resources, *self._capacity())
            return check_hardware(sweep, has_gpu=each.gpus_per_worker > 0)
        if self._ray is None:
            worker_resources(sweep.resources, num_local_cpus(), _num_local_gpus())
        return check_hardware(sweep, has_gpu=_num_local_gpus() > 0 and sweep.resources.gpus_per_worker != 0)

    def _encode(
        self, texts: Sequence[str], resolved: ResolvedEncoder, batch_size: int, on_progress: OnProgress
    ) -> list[Encoded | str]:
        from simtune.executors.ray_data import encode_with_ray

        self._start()
        num_cpus, num_gpus = self._capacity()
        return encode_with_ray(texts, resolved, batch_size, on_progress, num_cpus, num_gpus=int(num_gpus))

    def _map_blocks(
        self, work: Work[T], arrays: Mapping[str, np.ndarray], starts: Sequence[tuple[int, int]]
    ) -> Iterator[T]:
        # Where one core does it in a second, a Ray is not worth its start.
        if sum((end - begin) for begin, end in starts) <= DENSE_TASKS:
            return map_blocks_here(work, arrays, starts)
        from simtune.executors.ray_blocks import map_blocks_with_ray

        self._start()
        return map_blocks_with_ray(work, arrays, starts)

    def run(self, jobs: Sequence[Job], shared: dict[str, SharedData], sweep: Sweep, display: Display) -> None:
        self._start()
        each, max_concurrent = worker_resources(sweep.resources, *self._capacity())
        state = self._state(sweep)
        # Left by a driver that was killed, in whatever state; the run's lease says that no other is using it.
        remove_tree(state)
        if isinstance(state, Path):
            state.mkdir(parents=True)
        by_id = {job.spec.id: job for job in jobs}
        # Once in the object store, read by every worker on a node from the same memory.
        references = {key: ray.put(data) for key, data in shared.items()}
        max_failures = sweep.resources.max_failures
        slots = _Slots(
            board=_beside_the_driver(Switchboard).remote(max_attempts=max_failures + 1),
            specs_reference=[ray.put({job.spec.id: job.spec for job in jobs})],
            data_references={job.spec.id: references[job.data] for job in jobs},
            resources=each,
            max_failures=max_failures,
            state=str(state),
        )
        trainable = tune.with_resources(tune.with_parameters(_WarmTrial, slots=[slots]), {"CPU": _TUNE_TRAINABLE_CPUS})
        tuner = tune.Tuner(
            trainable,
            param_space={"trial": tune.grid_search(list(by_id))},
            tune_config=tune.TuneConfig(max_concurrent_trials=max_concurrent, reuse_actors=True),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(state),
                verbose=0,
                callbacks=[_DisplayCallback(by_id, display)],
                # Results are on disk by themselves; Tune would ask its actor for a last checkpoint.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                # Only a lost actor of Tune ends a trial with an error.
                failure_config=tune.FailureConfig(max_failures=max_failures),
            ),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tuner.fit()
        remove_tree(state)

    def _state(self, sweep: Sweep) -> AnyPath:
        """Where Ray keeps its own files while it works: every machine of a cluster must reach them."""
        run_directory = as_path(sweep.storage) / sweep.name
        if self._name == "local" and not isinstance(run_directory, Path):
            return cache_folder(sweep.storage) / "ray" / fingerprint(str(run_directory))[:16]
        return run_directory / ".ray"

    def close(self) -> None:
        if self._ray is not None:
            self._ray.stop()
            self._ray = None

    def _start(self) -> None:
        if self._ray is not None:
            return
        self._ray = StartedRay(self._name)
        if self._name == "cluster":
            # All of Ray Train asks this actor for machines. Whoever asks first makes it, bound to its own machine for
            # good; lost with that machine it would be waited for without end, so it is made on the driver's.
            _make_coordinator_here()

    def _capacity(self) -> tuple[int, float]:
        """CPUs and GPUs that workers may use."""
        available = ray.cluster_resources()
        num_gpus = available.get("GPU", 0.0)
        if self._name == "local":
            return num_local_cpus(), num_gpus
        return max(1, int(available.get("CPU", 1)) - 1), num_gpus


def _num_local_gpus() -> float:
    from ray._private.accelerators import NvidiaGPUAcceleratorManager

    return float(NvidiaGPUAcceleratorManager.get_current_node_num_accelerators())


def _make_coordinator_here() -> None:
    # Ray 2.60's own affair: a release that has it elsewhere is as good as one without it.
    with contextlib.suppress(ImportError):
        from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator as coordinator

        coordinator.get_or_create_autoscaling_coordinator()


def _beside_the_driver(actor: type) -> Any:
    """An actor that no other machine takes along when it is lost."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(actor)


class _WarmTrial(tune.Trainable):
    """A Tune trainable that keeps one Ray Train run open and puts one trial after another into it.

    Starting a trial's ten processes takes some 20 CPU-seconds; Tune reuses this actor (`reuse_actors`), and so each
    slot of the sweep pays them once.
    """

    _seen: int
    _attempts_before: int

    def setup(self, config: dict[str, Any], slots: list[_Slots]) -> None:
        (self._slots,) = slots
        self._slot = uuid.uuid4().hex
        self._run: OpenRun | None = None
        self._openings = self._takes_before = 0
        spec = self._slots.specs()[config["trial"]]
        claim = read_claim(claim_cell(spec.directory))
        if spec.lease is not None and claim is not None and claim.token == spec.lease.token:
            error = RuntimeError("the process that kept its workers was lost: killed from outside, or its machine")
            record_attempt(spec.directory, error, "infrastructure", spec.driver)
        for room in ray.get(self._slots.board.abandoned.remote(self._slot, config["trial"])):
            _give_back(room)
        self._put(config["trial"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._put(new_config["trial"])
        return True

    def step(self) -> dict[str, Any]:
        """Waits for news of the trial; it is done when its results or its `failure.json` are there."""
        while True:
            if self._run is None or self._run.ended:
                if self._run is not None and not self._may_open_again(self._run):
                    return {"done": True}
                self._run = self._open()
            news = ray.get(self._slots.board.news.remote(self._slot, self._seen, timeout_s=1.0))
            if news.lost:
                self._fail(_lost(news))
            elif news.attempts > 1:
                self._keep_losses(news)
            if news.ended:
                return {"done": True}
            if news.number > self._seen:
                self._seen = news.number
                if news.progress or news.attempts > 1:
                    return {**news.progress, "attempts": news.attempts}

    def cleanup(self) -> None:
        ray.get(self._slots.board.close.remote(self._slot))
        if self._run is not None:
            self._run.join(timeout_s=10.0)
        _give_back(ray.get(self._slots.board.room.remote(self._slot)))

    def _put(self, trial: str) -> None:
        self._trial = trial
        self._seen = 0
        self._attempts_before = num_attempts(self._slots.specs()[trial].directory)
        ray.get(self._slots.board.offer.remote(self._slot, trial))

    def _open(self) -> OpenRun:
        self._openings += 1
        slots = self._slots
        self._takes_before = ray.get(slots.board.takes.remote(self._slot))
        _give_back(ray.get(slots.board.room.remote(self._slot)))
        return OpenRun(
            _serve,
            {"slots": [slots], "slot": self._slot},
            name=f"workers-{self._slot}-{self._openings}",
            storage=slots.state,
            resources=slots.resources,
            max_failures=slots.max_failures,
        )

    def _may_open_again(self, ended: OpenRun) -> bool:
        """Whether a run that ended may be followed by another; where not, the trial has failed.

        The board counts how often workers took the trial. Where none took any, another run would end alike.
        """
        board = self._slots.board
        news = ray.get(board.news.remote(self._slot, -1, timeout_s=0.0))
        if news.attempts > self._slots.max_failures:
            self._fail(_lost(news))
        elif ray.get(board.takes.remote(self._slot)) == self._takes_before:
            self._fail(ended.error or RuntimeError("its workers returned before they took it"))
        else:
            return True
        ray.get(board.give_up.remote(self._slot))
        self._run = None
        return False

    def _keep_losses(self, news: Event) -> None:
        """Puts on record that workers were lost, where they did not say themselves why."""
        spec = self._slots.specs()[self._trial]
        while num_attempts(spec.directory) - self._attempts_before < news.attempts - 1:
            record_attempt(spec.directory, _lost(news), "infrastructure", spec.driver)

    def _fail(self, error: Exception) -> None:
        spec = self._slots.specs()[self._trial]
        fail(spec, record_attempt(spec.directory, error, "infrastructure", spec.driver))


@dataclass(frozen=True)
class _Slots:
    """What all slots of a sweep share.

    Attributes:
        board: the actor that runs the `Switchboard`.
        specs_reference: in a list, so that Ray hands on the reference and not its value.
        data_references: in the object store once, read by every worker on a node from the same memory.
    """

    board: Any
    specs_reference: list[Any]
    data_references: dict[str, Any]
    resources: WorkerResources
    max_failures: int
    state: str

    def specs(self) -> dict[str, TrialSpec]:
        specs: dict[str, TrialSpec] = ray.get(self.specs_reference[0])
        return specs


def _give_back(room: PlacementGroup | None) -> None:
    """Frees what workers occupied. A Train controller does so itself unless it was killed; Ray would free it then only
    where there is a dashboard to ask."""
    if room is not None:
        remove_placement_group(room)


def _lost(news: Event) -> RuntimeError:
    last = news.progress
    place = f"{last['phase']} {last['completed']}/{last['total']}" if last else "the start"
    times = f"{counted(news.attempts, 'time')}, last" if news.lost else ""
    return RuntimeError(f"its workers were lost {times} at {place}: killed from outside, or out of memory")


def _serve(world: World, config: dict[str, Any]) -> None:
    """A worker: runs the trials of its slot until that is closed."""
    (slots,) = config["slots"]
    slot, board = config["slot"], slots.board
    specs = slots.specs()
    behind = NO_TICKET
    if world.rank == 0:
        ray.get(board.settle.remote(slot, get_current_placement_group()))
    while (taken := ray.get(board.take.remote(slot, world.rank, behind))) is not None:
        behind, trial = taken

        def tell(values: dict[str, Any], ticket: int = behind) -> None:
            if world.rank == 0:
                board.progress.remote(slot, ticket, values)

        shared: SharedData = ray.get(slots.data_references[trial])
        with ended_when_hung(specs[trial]):
            clean = run_guarded(specs[trial], shared, world, tell)
        if world.rank == 0:
            ray.get(board.finish.remote(slot, behind))
        if not clean:
            # What an unexpected error left behind is not known; the next trial gets new processes.
            raise RuntimeError(f"trial {trial} ended with an unexpected error; its attempts/ has it")
        release_memory()


class _DisplayCallback(tune.Callback):
    """Tells the display what Tune's trials do."""

    def __init__(self, jobs: dict[str, Job], display: Display) -> None:
        self._jobs = jobs
        self._display = display
        self._attempts: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Tune saves its callbacks with the experiment; a live display is no state, and ours is never restored.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        job = self._jobs[trial.config["trial"]]
        self._display.trial_started(job.spec.id, job.label)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        job = self._jobs[trial.config["trial"]]
        attempts = result.get("attempts", 1)
        if attempts > self._attempts.get(job.spec.id, 1):
            self._attempts[job.spec.id] = attempts
            self._display.warn(f"{job.label}: its workers were lost and started again (attempt {attempts})")
        if "phase" in result:
            self._display.trial_progress(job.spec.id, result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended(trial)

    def _ended(self, trial: Any) -> None:
        job = self._jobs[trial.config["trial"]]
        self._display.trial_ended(job.spec.id, outcome_of(job.spec.directory))
