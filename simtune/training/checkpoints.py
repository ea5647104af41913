"""Where an interrupted training resumes: DeepSpeed's checkpoints, complete or ignored.

A checkpoint is a folder `step-N` that counts once its marker is in it (`complete_folder`). It holds weights, optimizer,
schedule, the losses and scores so far and each worker's random state, so that the steps after it are those of an
uninterrupted training. Only the newest is kept, until the trial has its results.

DeepSpeed's files are pickles; they are read with torch's `weights_only`, which builds tensors and plain values and
calls nothing that a file names.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from simtune.errors import RunError
from simtune.storage.complete_folder import (
    Marker,
    checksums_of,
    download,
    files_match,
    read_marker,
    refuse_full_disk,
    upload,
    write_marker,
)
from simtune.storage.files import AnyPath, child_names, disk_full_named, remove_tree
from simtune.storage.object_store import ObjectPath
from simtune.training.collectives import from_first_worker, merge_on_first_worker, wait_for_all
from simtune.training.engine import Engine, World
from simtune.training.history import TrainingHistory

# How often in a training the clock is read: every worker must read it at the same steps.
_CLOCK_READINGS = 200

Fits = Callable[[TrainingHistory], bool]
"""Whether a training can continue after this history."""


class CheckpointMarker(Marker):
    """The content of a checkpoint's `complete.json`.

    Attributes:
        step: the last finished step.
        losses: of the finished steps.
        epoch_scores: of the finished epochs.
        about: what must be equal for the checkpoint to be usable, such as workers and accumulation steps.
        environments: of all machines that took part in the training so far.
    """

    step: Annotated[int, Field(ge=1)]
    losses: tuple[float, ...]
    epoch_scores: tuple[float | None, ...]
    about: dict[str, str | int | None]
    environments: tuple[dict[str, str | int | None], ...]


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: its folder, the training's history up to it, and what its marker says."""

    folder: AnyPath
    history: TrainingHistory
    marker: CheckpointMarker


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: used for nothing else.
        every_s: seconds of training between two of them.
        about: what must be equal for a checkpoint to be usable, such as workers and accumulation steps.
        environment: this machine and its versions, which may differ from one checkpoint to the next.

    Attributes:
        environments: those that the training has run in so far, this one first.
        resumed: whether the training continued at a checkpoint.
    """

    def __init__(
        self,
        folder: AnyPath,
        every_s: float,
        about: dict[str, str | int | None],
        environment: Mapping[str, str | int | None] | None = None,
    ) -> None:
        self._folder, self._every_s, self._about = folder, every_s, about
        self._last = time.monotonic()
        self.environments = [dict(environment or {})]
        self.resumed = False

    def newest(self, fits: Fits = lambda history: True) -> Checkpoint | None:
        """The newest complete, undamaged checkpoint that fits this training."""
        for name in sorted(child_names(self._folder), key=_step_of, reverse=True):
            folder = self._folder / name
            marker = read_marker(folder, CheckpointMarker)
            if marker is None or marker.about != self._about:
                continue
            history = TrainingHistory(list(marker.losses), list(marker.epoch_scores))
            belongs = marker.step == _step_of(name) == len(history.losses)
            if belongs and fits(history) and files_match(folder, marker.files):
                return Checkpoint(folder, history, marker)
        return None

    def resume(self, engine: Engine, world: World, fits: Fits = lambda history: True) -> TrainingHistory:
        """Restores the engine and this worker's random state from the newest checkpoint.

        Returns:
            What the training has done up to it; an empty history without a checkpoint.

        Raises:
            RunError: the checkpoint is undamaged, yet cannot be loaded.
        """
        checkpoint = from_first_worker(lambda: self.newest(fits), world)
        if checkpoint is None:
            return TrainingHistory()
        _read_plain_values_only(engine)
        with self._on_disk() as disk:
            folder = disk / checkpoint.folder.name
            if isinstance(checkpoint.folder, ObjectPath):
                download(checkpoint.folder, checkpoint.marker.files, folder)
            try:
                engine.load_checkpoint(str(disk), tag=folder.name)
                _set_random_state(folder / _random_name(world))
            except Exception as error:
                raise RunError(
                    f"{checkpoint.folder}: cannot be loaded ({str(error).splitlines()[0]}); remove it and run again: "
                    "the training then starts from the beginning"
                ) from error
        self.resumed = True
        earlier = checkpoint.marker.environments
        self.environments += [environment for environment in earlier if environment not in self.environments]
        return checkpoint.history

    def due(self, step: int, total: int, world: World) -> bool:
        """Whether a checkpoint is due; every worker asks after the same steps, and the first one's clock decides."""
        if step % max(1, total // _CLOCK_READINGS) and step != total:
            return False
        return from_first_worker(lambda: time.monotonic() - self._last >= self._every_s, world)

    def save(self, engine: Engine, history: TrainingHistory, world: World) -> None:
        """Writes a checkpoint, then removes the older ones.

        Raises:
            DiskFullError: the disk is full; the unfinished checkpoint has been removed.
        """
        name = f"step-{len(history.losses)}"
        final = self._folder / name
        with self._on_disk() as disk:
            folder = disk / name
            try:
                with disk_full_named(final):
                    engine.save_checkpoint(str(disk), tag=name, save_latest=False)
                    _save_random_state(folder / _random_name(world))
                    if isinstance(final, ObjectPath):
                        # Workers may be on several machines: each has written its own part.
                        files = merge_on_first_worker(upload(folder, final), world)
                    else:
                        wait_for_all(world)
                        files = checksums_of(folder) if world.rank == 0 else {}
            except Exception:
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    refuse_full_disk(folder, final)
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                raise
        if world.rank == 0:
            marker = CheckpointMarker(
                files=files,
                step=len(history.losses),
                losses=tuple(history.losses),
                epoch_scores=tuple(history.epoch_scores),
                about=self._about,
                environments=tuple(self.environments),
            )
            write_marker(final, marker)
            for other in child_names(self._folder) - {name}:
                remove_tree(self._folder / other)
        self._last = time.monotonic()

    @contextmanager
    def _on_disk(self) -> Iterator[Path]:
        """A local folder for DeepSpeed: the checkpoints' own, or a temporary copy for an object store."""
        if isinstance(self._folder, Path):
            yield self._folder
        else:
            with tempfile.TemporaryDirectory(prefix="simtune-checkpoint-") as folder:
                yield Path(folder)


def _read_plain_values_only(engine: Engine) -> None:
    import torch
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    def load(path: str, map_location: Any = None) -> object:
        with torch.serialization.safe_globals([LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address]):
            return torch.load(path, map_location=map_location, weights_only=True)

    engine.checkpoint_engine.load = load


def _step_of(name: str) -> int:
    """Of a checkpoint's folder; 0 for any other."""
    number = name.removeprefix("step-")
    return int(number) if name.startswith("step-") and number.isdecimal() else 0


def _random_name(world: World) -> str:
    return f"random-{world.rank}.safetensors"


def _save_random_state(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    save_file(states, path)


def _set_random_state(path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    states = load_file(path)
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
