"""Where an interrupted training goes on: DeepSpeed's checkpoints, complete or not there.

A checkpoint is a folder `step-N` that counts once its marker is in it (`complete`). It holds weights, optimizer,
schedule, the losses so far and each worker's random state, so that the steps after it are those of an undisturbed
training. Only the newest stays, until the trial has its results.

DeepSpeed's files are pickles; they are read with torch's `weights_only`, which builds tensors and plain values and
calls nothing that a file names.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simtune.errors import RunError
from simtune.storage import disk_full_named
from simtune.training.complete import is_whole, read_marker, write_marker
from simtune.training.engine import World

_LOOKS = 200

Fits = Callable[[tuple[float, ...]], bool]
"""Whether a training can go on after these losses."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: after which step, and the losses up to there."""

    folder: Path
    step: int
    losses: tuple[float, ...]


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: theirs alone.
        every_s: seconds of training between two of them.
        about: what must be equal for a checkpoint to be of use, such as workers and accumulation steps.
    """

    def __init__(
        self, folder: Path, every_s: float, about: dict[str, Any], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder, self._every_s, self._about, self._clock = folder, every_s, about, clock
        self._last = clock()

    def newest(self, fits: Fits = lambda losses: True) -> Checkpoint | None:
        """The newest complete checkpoint whose bytes are what was written and that fits this training."""
        found = []
        for folder in self._folder.glob("step-*"):
            marker = read_marker(folder)
            if marker is None or marker.get("about") != self._about:
                continue
            try:
                checkpoint = Checkpoint(folder, int(marker["step"]), tuple(map(float, marker["losses"])))
            except (KeyError, TypeError, ValueError):
                continue
            if checkpoint.step == len(checkpoint.losses) and fits(checkpoint.losses) and is_whole(folder, marker):
                found.append(checkpoint)
        return max(found, key=lambda checkpoint: checkpoint.step, default=None)

    def resume(self, engine: Any, world: World, fits: Fits = lambda losses: True) -> tuple[float, ...]:
        """Puts the engine and this worker's random numbers where the newest checkpoint has them.

        Returns:
            the losses of the steps that are done; none without a checkpoint.

        Raises:
            RunError: the checkpoint is whole, yet cannot be loaded.
        """
        checkpoint = _from_first_worker(lambda: self.newest(fits), world)
        if checkpoint is None:
            return ()
        _read_plain_values_only(engine)
        try:
            engine.load_checkpoint(str(self._folder), tag=checkpoint.folder.name)
            _set_random_state(checkpoint.folder / _random_name(world))
        except Exception as error:
            raise RunError(
                f"{checkpoint.folder}: cannot be loaded ({str(error).splitlines()[0]}); remove it and run again: the "
                "training then starts anew"
            ) from error
        return checkpoint.losses

    def due(self, step: int, total: int, world: World) -> bool:
        """Whether it is time, asked at the same steps by every worker; the first one's clock decides."""
        if step % max(1, total // _LOOKS) and step != total:
            return False
        return bool(_from_first_worker(lambda: self._clock() - self._last >= self._every_s, world))

    def save(self, engine: Any, losses: Sequence[float], world: World) -> None:
        """Writes a checkpoint, then removes the older ones.

        Raises:
            DiskFullError: with nothing left of it.
        """
        folder = self._folder / f"step-{len(losses)}"
        try:
            with disk_full_named(folder):
                engine.save_checkpoint(str(self._folder), tag=folder.name, save_latest=False)
                _save_random_state(folder / _random_name(world))
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _wait_for_all(world)
        if world.rank == 0:
            write_marker(folder, {"step": len(losses), "about": self._about, "losses": list(losses)})
            for path in self._folder.glob("step-*"):
                if path != folder:
                    shutil.rmtree(path, ignore_errors=True)
        self._last = self._clock()

    def remove(self) -> None:
        """Removes them all: the trial has its results."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _read_plain_values_only(engine: Any) -> None:
    import torch
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    def load(path: str, map_location: Any = None) -> Any:
        with torch.serialization.safe_globals([LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address]):
            return torch.load(path, map_location=map_location, weights_only=True)

    engine.checkpoint_engine.load = load


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


def _from_first_worker(ask: Callable[[], Any], world: World) -> Any:
    if world.size == 1:
        return ask()
    import torch.distributed as dist

    answer = [ask() if world.rank == 0 else None]
    dist.broadcast_object_list(answer, src=0)
    return answer[0]


def _wait_for_all(world: World) -> None:
    if world.size > 1:
        import torch.distributed as dist

        dist.barrier()
