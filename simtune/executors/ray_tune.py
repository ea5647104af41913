"""Trials on Ray: Ray Tune schedules them into slots, and a Ray Train run per slot holds the workers.

Tune decides only *when* a trial runs. Which trials there are follows from the results on disk, so a lost or corrupt
experiment state does not matter: every run of the driver gives Tune a new, temporary experiment of the missing trials.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from simtune.config.settings import ResourceSettings
from simtune.executors.base import Job
from simtune.executors.hosts.lost_hosts import ReportLostHosts
from simtune.executors.hosts.ray_hosts import is_lost, this_node, this_nodes_resource
from simtune.executors.placement import WorkerResources
from simtune.executors.ray_tune_callbacks import DisplayTrials, FollowShare
from simtune.executors.sharing.ray_share import Share
from simtune.executors.slots.slot_trainable import SharedBySlots, SlotTrainable
from simtune.executors.slots.stalled_trials import ReportStalledTrials
from simtune.executors.slots.trial_slots import TrialSlots
from simtune.progress import Display
from simtune.storage.files import AnyPath, remove_tree
from simtune.trial.spec import SharedData

# How much of its machine's own resource a process needs to be placed there; every machine has 1.
_PLACED_HERE = 0.0001
# Every slot has a few calls to wait in `TrialSlots`; from Ray's 1,000 on, further ones would wait for those to end.
_CALLS_AT_ONCE = 100_000
# The driver's own machine answers.
_USAGE_S = 30.0


def run_with_tune(
    jobs: Sequence[Job],
    shared: dict[str, SharedData],
    resources: WorkerResources,
    share: Share,
    *,
    settings: ResourceSettings,
    ray_folder: AnyPath,
    callbacks: Sequence[tune.Callback],
    display: Display,
) -> dict[str, str]:
    """Runs jobs on the connected Ray until each trial has its results or a record of its failure.

    Args:
        jobs: the trials, in the order in which they start.
        shared: what trials read, by the jobs' `data`.
        resources: of a trial.
        share: how many trials may run at once; asked again and again, as hosts and other sweeps come and go.
        settings: how often a trial's workers may be lost, and how long a trial waits for a host.
        ray_folder: for Ray's own files; removed before and after.
        callbacks: what else happens while trials run.
        display: where progress is reported.

    Returns:
        The trials that were left out, by their ids, and why.
    """
    # May have been left in any state by a driver that was killed; thanks to the run's lease no other one is using it.
    remove_tree(ray_folder)
    if isinstance(ray_folder, Path):
        ray_folder.mkdir(parents=True)
    by_id = {job.spec.id: job for job in jobs}
    slots = SharedBySlots(
        trial_slots=_on_this_node(TrialSlots).remote(by_id, settings.max_failures, is_lost),
        data_references={key: ray.put(data) for key, data in shared.items()},
        resources=resources,
        max_failures=settings.max_failures,
        wait_s=settings.wait_s,
        ray_folder=str(ray_folder),
    )
    share.usage = lambda: ray.get(slots.trial_slots.usage.remote(), timeout=_USAGE_S)
    labels = {trial: job.label for trial, job in by_id.items()}
    trials, repeats = list(by_id), False
    left_out: dict[str, str] = {}
    while trials:
        grid = BasicVariantGenerator()
        shown = DisplayTrials(by_id, display)
        around = [
            shown,
            FollowShare(grid, slots.trial_slots, share),
            ReportLostHosts(lambda: ray.get(slots.trial_slots.running.remote()), labels, display),
            ReportStalledTrials(labels, display),
            *callbacks,
        ]
        _run_experiment(trials, slots, grid, around, repeats)
        left_out |= shown.left_out
        trials, repeats = ray.get(slots.trial_slots.take_trials_to_repeat.remote()), True
    remove_tree(ray_folder)
    return left_out


def _run_experiment(
    trials: Sequence[str],
    slots: SharedBySlots,
    grid: BasicVariantGenerator,
    callbacks: list[tune.Callback],
    repeats: bool,
) -> None:
    """Runs trials until each has ended.

    Args:
        trials: their ids, in the order in which they start.
        slots: what their slots share.
        grid: gives Tune its trials.
        callbacks: of Tune.
        repeats: whether they have failed on a host, each on its own: then slots are not used again.
    """
    trainable = tune.with_resources(
        tune.with_parameters(SlotTrainable, shared=[slots]),
        # Several hosts can share an address, and with it the resource of one of them; the id is unique.
        tune.PlacementGroupFactory([{this_nodes_resource(): _PLACED_HERE}], bundle_label_selector=[this_node()]),
    )
    tuner = tune.Tuner(
        trainable,
        param_space={"trial": tune.grid_search(list(trials))},
        tune_config=tune.TuneConfig(search_alg=grid, reuse_actors=not repeats),
        run_config=tune.RunConfig(
            name="repeats" if repeats else "tune",
            storage_path=slots.ray_folder,
            verbose=0,
            callbacks=callbacks,
            # Trials write their results themselves; Tune would ask its actor for a last checkpoint.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            # Only the loss of Tune's own actor ends a trial with an error.
            failure_config=tune.FailureConfig(max_failures=slots.max_failures),
        ),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuner.fit()


def _on_this_node(actor: type) -> Any:
    """An asynchronous actor on the driver's machine, so that the loss of another machine does not affect it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, max_concurrency=_CALLS_AT_ONCE, scheduling_strategy=here)(actor)
