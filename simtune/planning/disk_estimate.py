"""What a sweep will need of its storage's disk, before anything runs.

At most, for the trials that are left: arms that choose the same tasks share a trial.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simtune.config import Sweep
from simtune.config.settings import TrainingSettings
from simtune.corpus.task import Task
from simtune.errors import ConfigError
from simtune.executors.placement import this_host, worker_resources
from simtune.storage.object_store import is_object_url
from simtune.training.model_memory import optimizer_bytes, weight_bytes
from simtune.wording import counted

# A row of predictions beside its texts, a test task's rows of scores, and a step's loss, as JSON.
_PER_INSTANCE, _PER_TASK, _PER_STEP = 60, 250, 15
# A vector of up to 1,024 numbers; the usual encoders have fewer.
_PER_EMBEDDING = 4_096


@dataclass(frozen=True)
class PointDisk:
    """Bytes that one grid point's trials need.

    Attributes:
        results: of all trials: predictions and scores.
        tokens: its tokenised tasks; another grid point may share them.
        saved_weights: of all trials.
        model_bytes: of the saved weights of one model; None if its size is not known without the hub.
        checkpoint: of one checkpoint; 0 if none are written or the size is not known.
    """

    num_fine_tuned: int
    results: int
    tokens: int
    saved_weights: int
    model_bytes: int | None
    checkpoint: int


@dataclass(frozen=True)
class DiskNeed:
    """Bytes that a sweep needs at most.

    Attributes:
        results: predictions and scores.
        caches: embeddings and tokenised tasks.
        checkpoints: of running trials, two for each, because a new one is complete before the older one is removed.
        saved_weights: of all trials.
        at_once: number of trials that run at the same time on this machine.
        free: on the disk of the storage; None if not known.
        unknown: whether the size of a model is not known, so that its weights are not counted.
    """

    results: int
    caches: int
    checkpoints: int
    saved_weights: int
    keep: str
    at_once: int
    free: int | None
    unknown: bool

    @property
    def total(self) -> int:
        return self.results + self.caches + self.checkpoints + self.saved_weights

    @property
    def warning(self) -> str | None:
        """The warning that the disk is too small; None if it is not."""
        if self.free is None or self.total <= self.free:
            return None
        return (
            f"the sweep needs up to {_shown(self.total)} of disk and {_shown(self.free)} are free. Free some space, "
            "choose another --storage, or lower training.keep, resources.max_concurrent or selection"
        )

    def __str__(self) -> str:
        parts = [f"results {_shown(self.results)}", f"caches {_shown(self.caches)}"]
        if self.checkpoints:
            parts.append(f"checkpoints {_shown(self.checkpoints)} ({counted(self.at_once, 'trial')} at once)")
        if self.saved_weights:
            parts.append(f"saved weights ({self.keep}) {_shown(self.saved_weights)}")
        if self.unknown:
            parts.append("weights not counted, because the model is not on this disk")
        free = f"; {_shown(self.free)} are free" if self.free is not None else ""
        return f"Disk: up to {_shown(self.total)} ({', '.join(parts)}){free}"


def checkpoint_bytes(training: TrainingSettings, num_parameters: int) -> int:
    """What DeepSpeed's checkpoint of a model takes, over all workers."""
    # In stage 3 the optimizer's copy of the weights is the only one.
    return num_parameters * (optimizer_bytes(training) + (0 if training.zero_stage == 3 else weight_bytes(training)))


def point_disk(
    sweep: Sweep,
    test: Sequence[Task],
    num_steps: Sequence[int],
    num_generated: int,
    num_tokens: int,
    num_parameters: int | None,
) -> PointDisk:
    """The disk space that one grid point needs.

    Args:
        sweep: its settings.
        test: its test tasks.
        num_steps: of each trial that is fine-tuned.
        num_generated: trials that answer the test tasks, including the fine-tuned ones.
        num_tokens: of pool and test tasks, sources and references.
        num_parameters: of the model; None if unknown.
    """
    training = sweep.training
    instances = [instance for task in test for instance in task.instances]
    references = sum(len(output.encode()) for instance in instances for output in instance.outputs)
    # A trained model answers about as much as the references say.
    answers = sum(len(instance.outputs[0].encode()) for instance in instances)
    ids = sum(len(instance.id) + _PER_INSTANCE for instance in instances)
    each = references + answers + ids + _PER_TASK * len(test)
    model_bytes = None if num_parameters is None else num_parameters * weight_bytes(training)
    resumes = sweep.resources.checkpoint_minutes is not None
    copies = {"none": 0, "last": 1, "best": 1, "all": training.epochs}[training.keep]
    return PointDisk(
        num_fine_tuned=len(num_steps),
        results=num_generated * each + _PER_STEP * sum(num_steps),
        tokens=4 * num_tokens,
        saved_weights=copies * len(num_steps) * (model_bytes or 0),
        model_bytes=model_bytes,
        checkpoint=checkpoint_bytes(training, num_parameters or 0) if resumes else 0,
    )


def disk_need(sweep: Sweep, prepared_points: Sequence[PointDisk], num_embedded: int) -> DiskNeed:
    """What all grid points need together."""
    at_once = min(_at_once(sweep), sum(prepared.num_fine_tuned for prepared in prepared_points))
    saved_weights = sum(prepared.saved_weights for prepared in prepared_points)
    if sweep.training.keep == "best":
        # A better epoch is complete before the one it replaces is removed.
        saved_weights += at_once * max((prepared.model_bytes or 0 for prepared in prepared_points), default=0)
    resumes = sweep.resources.checkpoint_minutes is not None
    return DiskNeed(
        results=sum(prepared.results for prepared in prepared_points),
        caches=_PER_EMBEDDING * num_embedded + sum(prepared.tokens for prepared in prepared_points),
        checkpoints=2 * at_once * max((prepared.checkpoint for prepared in prepared_points), default=0),
        saved_weights=saved_weights,
        keep=sweep.training.keep,
        at_once=at_once,
        free=_free(sweep.storage),
        unknown=any(prepared.model_bytes is None for prepared in prepared_points)
        and (resumes or sweep.training.keep != "none"),
    )


def _at_once(sweep: Sweep) -> int:
    try:
        return worker_resources(sweep.resources, [this_host()])[1]
    except ConfigError:
        # For a larger machine than this one.
        return sweep.resources.max_concurrent if isinstance(sweep.resources.max_concurrent, int) else 1


def _free(storage: str) -> int | None:
    if is_object_url(storage):
        return None
    path = Path(storage).expanduser().absolute()
    usage = next(shutil.disk_usage(parent) for parent in (path, *path.parents) if parent.is_dir())
    # A file system that is no disk, such as /proc, has a size of 0.
    return usage.free if usage.total else None


def _shown(size: int) -> str:
    if size >= 2**30:
        return f"{size / 2**30:,.1f} GiB"
    return f"{round(size / 2**20):,} MiB" if size >= 2**20 else f"{size / 2**20:.1f} MiB"
