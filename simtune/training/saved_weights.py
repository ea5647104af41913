"""Fine-tuned weights that stay: Hugging Face folders (safetensors, configuration, tokenizer), whole or not there.

`epoch-N` holds the weights after epoch N, counted from 1, and counts once its marker is in it (`complete`). The marker
names the trial and the losses up to there, so that a folder of an attempt that took another course is known as such.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from simtune.config.settings import Keep, TrainingSettings
from simtune.prompting.tokenizer import TextTokenizer
from simtune.storage.complete_folder import (
    MARKER,
    checksums_of,
    is_whole,
    read_marker,
    refuse_full_disk,
    upload,
    write_marker,
)
from simtune.storage.files import AnyPath, child_names, disk_full_named, fingerprint, remove_tree
from simtune.storage.new_files import new_folder
from simtune.storage.object_store import ObjectPath
from simtune.training.engine import World, weights_on_first_worker
from simtune.training.steps import Epochs


def kept_folder(trial_directory: AnyPath) -> AnyPath:
    """Where a trial keeps weights."""
    return trial_directory / "kept"


def epochs_to_keep(keep: Keep, loss_by_epoch: Sequence[float], num_epochs: int) -> tuple[int, ...]:
    """Which epochs' weights stay, from 1, once these are done of `num_epochs`; of equal losses the first is best."""
    done = len(loss_by_epoch)
    if keep == "none" or not done:
        return ()
    if keep == "last":
        return (done,) if done == num_epochs else ()
    if keep == "best":
        return (1 + min(range(done), key=loss_by_epoch.__getitem__),)
    return tuple(range(1, done + 1))


def missing_epochs(trial_directory: AnyPath, trial: str, keep: Keep, loss_by_epoch: Sequence[float]) -> list[int]:
    """Epochs whose weights a finished trial should keep, and does not; looks at markers alone."""
    folder = kept_folder(trial_directory)
    wanted = epochs_to_keep(keep, loss_by_epoch, len(loss_by_epoch))
    markers = {epoch: read_marker(folder / f"epoch-{epoch}") for epoch in wanted}
    return [epoch for epoch, marker in markers.items() if marker is None or marker.get("trial") != trial]


class Kept:
    """What one training keeps.

    Args:
        folder: its alone.
        check: raises where nothing may be written any more.
    """

    def __init__(
        self,
        folder: AnyPath,
        keep: Keep,
        trial: str,
        tokenizer: TextTokenizer,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder, self._keep, self._trial, self._tokenizer, self._check = folder, keep, trial, tokenizer, check

    def has_earlier(self, losses: Sequence[float], epochs: Epochs) -> bool:
        """Whether the epochs before these losses' end left what is to be kept of them: it cannot be had later."""
        for epoch in epochs_to_keep(self._keep, epochs.mean_losses(losses), len(epochs.ends)):
            end = epochs.ends[epoch - 1]
            folder = self._folder / f"epoch-{epoch}"
            if end < len(losses):
                marker = read_marker(folder)
                about = self._about(epoch, losses[:end])
                if marker is None or any(marker.get(key) != about[key] for key in about):
                    return False
                if not is_whole(folder, marker):
                    return False
        return True

    def save(
        self, engine: Any, training: TrainingSettings, losses: Sequence[float], epochs: Epochs, world: World
    ) -> None:
        """Saves the weights at the end of an epoch if they are to stay, and removes what is not.

        Every worker must take part. An epoch's folder from an earlier attempt is replaced.

        Raises:
            DiskFullError: nothing is left of the folder.
            LeaseLostError: the driver no longer holds its run.
        """
        means = epochs.mean_losses(losses)
        epoch, wanted = len(means), epochs_to_keep(self._keep, means, len(epochs.ends))
        weights = weights_on_first_worker(engine, training, world) if epoch in wanted else {}
        if world.rank != 0:
            return
        self._check()
        if epoch in wanted:
            destination = self._folder / f"epoch-{epoch}"
            with _folder_for(destination) as made:
                engine.module.save_pretrained(made, state_dict=weights)
                _save_tokenizer(self._tokenizer, made)
                self._publish(made, destination, self._about(epoch, losses))
        for name in child_names(self._folder) - {f"epoch-{number}" for number in wanted}:
            _remove(self._folder / name)

    def _publish(self, made: Path, destination: AnyPath, about: dict[str, Any]) -> None:
        """Gives a folder its final name, in place of what is there."""
        if isinstance(destination, ObjectPath):
            self._check()
            _remove(destination)
            write_marker(destination, about, upload(made, destination))
            return
        write_marker(made, about, checksums_of(made))
        self._check()
        _remove(destination)
        made.rename(destination)

    def _about(self, epoch: int, losses: Sequence[float]) -> dict[str, Any]:
        return {"trial": self._trial, "epoch": epoch, "step": len(losses), "losses": fingerprint(list(losses))}


@contextmanager
def _folder_for(destination: AnyPath) -> Iterator[Path]:
    """An empty folder to fill before it is published; gone at the end, whatever happens.

    Raises:
        DiskFullError: there is no room to fill it.
    """
    with ExitStack() as stack:
        with disk_full_named(destination):
            if isinstance(destination, Path):
                destination.parent.mkdir(parents=True, exist_ok=True)
                folder = stack.enter_context(new_folder(destination))
            else:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="simtune-kept-")))
        try:
            yield folder
        except Exception:
            refuse_full_disk(folder, destination)
            raise


def _remove(folder: AnyPath) -> None:
    # The marker first: half a folder must not count.
    (folder / MARKER).unlink(missing_ok=True)
    remove_tree(folder)


def _save_tokenizer(tokenizer: TextTokenizer, folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    pad, eos = (tokenizer.tokenizer.id_to_token(number) for number in (tokenizer.pad_id, tokenizer.eos_id))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer.tokenizer, pad_token=pad, eos_token=eos).save_pretrained(folder)
