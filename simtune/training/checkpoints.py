"""Where an interrupted training goes on: DeepSpeed's checkpoints, complete or not there.

A checkpoint is a folder `step-N` that counts once its marker is in it (`complete`). It holds weights, optimizer,
schedule, the losses so far and each worker's random state, so that the steps after it are those of an undisturbed
training. Only the newest stays, until the trial has its results.

DeepSpeed's files are pickles; they are read with torch's `weights_only`, which builds tensors and plain values and
calls nothing that a file names.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simtune.errors import RunError
from simtune.storage.complete_folder import (
    checksums_of,
    download,
    is_whole,
    read_marker,
    refuse_full_disk,
    upload,
    write_marker,
)
from simtune.storage.files import AnyPath, child_names, disk_full_named, remove_tree
from simtune.storage.object_store import ObjectPath
from simtune.training.engine import World

_LOOKS = 200

Fits = Callable[[tuple[float, ...]], bool]
"""Whether a training can go on after these losses."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: after which step, the losses up to there, and what its marker says."""

    folder: AnyPath
    step: int
    losses: tuple[float, ...]
    marker: dict[str, Any]


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: theirs alone.
        every_s: seconds of training between two of them.
        about: what must be equal for a checkpoint to be of use, such as workers and accumulation steps.
        kind: of this machine and its versions, which may differ from one checkpoint to the next.

    Attributes:
        kinds: of all machines that took part in the training so far.
    """

    def __init__(
        self,
        folder: AnyPath,
        every_s: float,
        about: dict[str, Any],
        kind: dict[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._every_s, self._about, self._clock = folder, every_s, about, clock
        self._last = clock()
        self.kinds = [kind or {}]

    def newest(self, fits: Fits = lambda losses: True) -> Checkpoint | None:
        """The newest complete checkpoint whose bytes are what was written and that fits this training."""
        for name in sorted(child_names(self._folder), key=_step_of, reverse=True):
            folder = self._folder / name
            marker = read_marker(folder)
            if _step_of(name) < 1 or marker is None or marker.get("about") != self._about:
                continue
            try:
                losses = tuple(map(float, marker["losses"]))
            except (KeyError, TypeError, ValueError):
                continue
            if marker.get("step") == _step_of(name) == len(losses) and fits(losses) and is_whole(folder, marker):
                return Checkpoint(folder, len(losses), losses, marker)
        return None

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
        with self._on_disk() as disk:
            folder = disk / checkpoint.folder.name
            if isinstance(checkpoint.folder, ObjectPath):
                download(checkpoint.folder, checkpoint.marker, folder)
            try:
                engine.load_checkpoint(str(disk), tag=folder.name)
                _set_random_state(folder / _random_name(world))
            except Exception as error:
                raise RunError(
                    f"{checkpoint.folder}: cannot be loaded ({str(error).splitlines()[0]}); remove it and run again: "
                    "the training then starts anew"
                ) from error
        # A checkpoint of an earlier release does not say.
        self.kinds += [kind for kind in checkpoint.marker.get("kinds", [{}]) if kind not in self.kinds]
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
        name = f"step-{len(losses)}"
        final = self._folder / name
        with self._on_disk() as disk:
            folder = disk / name
            try:
                with disk_full_named(final):
                    engine.save_checkpoint(str(disk), tag=name, save_latest=False)
                    _save_random_state(folder / _random_name(world))
                    if isinstance(final, ObjectPath):
                        # Workers may be on several machines: each has written its own part.
                        files = _on_first_worker(upload(folder, final), world)
                    else:
                        _wait_for_all(world)
                        files = checksums_of(folder) if world.rank == 0 else {}
            except Exception:
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    refuse_full_disk(folder, final)
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                raise
        if world.rank == 0:
            marker = {"step": len(losses), "about": self._about, "losses": list(losses), "kinds": self.kinds}
            write_marker(final, marker, files)
            for other in child_names(self._folder) - {name}:
                remove_tree(self._folder / other)
        self._last = self._clock()

    def remove(self) -> None:
        """Removes them all: the trial has its results."""
        remove_tree(self._folder)

    @contextmanager
    def _on_disk(self) -> Iterator[Path]:
        """A folder for DeepSpeed: the checkpoints' own, or one to bring them to an object store and back."""
        if isinstance(self._folder, Path):
            yield self._folder
        else:
            with tempfile.TemporaryDirectory(prefix="simtune-checkpoint-") as folder:
                yield Path(folder)


def _read_plain_values_only(engine: Any) -> None:
    import torch
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    def load(path: str, map_location: Any = None) -> Any:
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


def _from_first_worker(ask: Callable[[], Any], world: World) -> Any:
    if world.size == 1:
        return ask()
    import torch.distributed as dist

    answer = [ask() if world.rank == 0 else None]
    dist.broadcast_object_list(answer, src=0)
    return answer[0]


def _on_first_worker(part: dict[str, str], world: World) -> dict[str, str]:
    """What all workers have, together, on the first one."""
    if world.size == 1:
        return part
    import torch.distributed as dist

    parts: list[Any] | None = [None] * world.size if world.rank == 0 else None
    dist.gather_object(part, parts, dst=0)
    return {name: checksum for each in parts or () for name, checksum in each.items()}


def _wait_for_all(world: World) -> None:
    if world.size > 1:
        import torch.distributed as dist

        dist.barrier()
