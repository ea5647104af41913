"""Fine-tuned weights on disk: Hugging Face folders (safetensors, configuration, tokenizer), complete or ignored.

`epoch-N` holds the weights after epoch N, counted from 1, and counts once its marker is in it (`complete_folder`). The
marker names the trial and the losses up to there, so that a folder of an attempt that went differently is recognised.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import Field

from simtune.config.settings import Keep, TrainingSettings
from simtune.prompting.tokenizer import TextTokenizer
from simtune.storage.complete_folder import (
    MARKER,
    Marker,
    checksums_of,
    files_match,
    read_marker,
    refuse_full_disk,
    upload,
    write_marker,
)
from simtune.storage.files import AnyPath, child_names, disk_full_named, fingerprint, remove_tree
from simtune.storage.new_files import new_folder
from simtune.storage.object_store import ObjectPath
from simtune.storage.records import Sha256
from simtune.training.best_epoch import best_epoch
from simtune.training.engine import Engine, World, weights_on_first_worker
from simtune.training.history import Epochs, TrainingHistory


class WeightsMarker(Marker):
    """The content of `complete.json` of an epoch's weights.

    Attributes:
        trial: the trial's id.
        epoch: after which the weights were saved, from 1.
        step: the last step of that epoch.
        losses: fingerprint of the losses of the steps up to there.
    """

    trial: str
    epoch: Annotated[int, Field(ge=1)]
    step: Annotated[int, Field(ge=1)]
    losses: Sha256


def weights_folder(trial_directory: AnyPath) -> AnyPath:
    """Where a trial saves weights."""
    return trial_directory / "weights"


def epochs_to_keep(
    keep: Keep, loss_by_epoch: Sequence[float], num_epochs: int, score_by_epoch: Sequence[float | None] = ()
) -> tuple[int, ...]:
    """The epochs, from 1, whose weights are kept.

    Args:
        keep: the setting `training.keep`.
        loss_by_epoch: mean training loss of each finished epoch.
        num_epochs: of the whole training.
        score_by_epoch: score of each finished epoch, by which `best` chooses where every epoch has one.
    """
    done = len(loss_by_epoch)
    if keep == "none" or not done:
        return ()
    if keep == "last":
        return (done,) if done == num_epochs else ()
    if keep == "best":
        return (best_epoch(loss_by_epoch, score_by_epoch),)
    return tuple(range(1, done + 1))


def missing_epochs(
    trial_directory: AnyPath,
    trial: str,
    keep: Keep,
    loss_by_epoch: Sequence[float],
    score_by_epoch: Sequence[float | None] = (),
) -> list[int]:
    """Epochs whose weights a finished trial should have kept and has not, judged by markers alone."""
    folder = weights_folder(trial_directory)
    wanted = epochs_to_keep(keep, loss_by_epoch, len(loss_by_epoch), score_by_epoch)
    markers = {epoch: read_marker(folder / f"epoch-{epoch}", WeightsMarker) for epoch in wanted}
    return [epoch for epoch, marker in markers.items() if marker is None or marker.trial != trial]


def saved_epoch(trial_directory: AnyPath, loss_by_epoch: Sequence[float]) -> int | None:
    """The last epoch of a finished training where its weights were saved, else None; looks at the marker alone."""
    epoch = len(loss_by_epoch)
    marker = read_marker(weights_folder(trial_directory) / f"epoch-{epoch}", WeightsMarker)
    return epoch if marker is not None and marker.trial == trial_directory.name else None


class SavedWeights:
    """The weights that one training saves.

    Args:
        folder: used for nothing else.
        keep: which epochs' weights stay.
        trial: the trial's id.
        tokenizer: saved beside the weights.
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

    def has_earlier(self, history: TrainingHistory, epochs: Epochs) -> bool:
        """Whether the weights of earlier epochs that are to be kept are there: they cannot be made again."""
        for epoch in self._wanted(history, epochs):
            end = epochs.ends[epoch - 1]
            folder = self._folder / f"epoch-{epoch}"
            if end < len(history.losses):
                marker = read_marker(folder, WeightsMarker)
                if marker is None or marker != self._marker(epoch, history.losses[:end], marker.files):
                    return False
                if not files_match(folder, marker.files):
                    return False
        return True

    def save(
        self, engine: Engine, training: TrainingSettings, history: TrainingHistory, epochs: Epochs, world: World
    ) -> None:
        """Saves the weights at the end of an epoch if they are to be kept, and removes those that no longer are.

        Every worker must take part. An epoch's folder from an earlier attempt is replaced.

        Raises:
            DiskFullError: the disk is full; the unfinished folder has been removed.
            LeaseLostError: the driver no longer holds its run.
        """
        epoch, wanted = len(epochs.mean_losses(history.losses)), self._wanted(history, epochs)
        weights = weights_on_first_worker(engine, training, world) if epoch in wanted else {}
        if world.rank != 0:
            return
        self._check()
        if epoch in wanted:
            destination = self._folder / f"epoch-{epoch}"
            with _folder_for(destination) as made:
                engine.module.save_pretrained(made, state_dict=weights)
                _save_tokenizer(self._tokenizer, made)
                self._publish(made, destination, epoch, history.losses)
        for name in child_names(self._folder) - {f"epoch-{number}" for number in wanted}:
            _remove(self._folder / name)

    def _wanted(self, history: TrainingHistory, epochs: Epochs) -> tuple[int, ...]:
        means = epochs.mean_losses(history.losses)
        return epochs_to_keep(self._keep, means, len(epochs.ends), history.epoch_scores)

    def _publish(self, made: Path, destination: AnyPath, epoch: int, losses: Sequence[float]) -> None:
        """Gives a folder its final name, replacing what is there."""
        if isinstance(destination, ObjectPath):
            self._check()
            _remove(destination)
            write_marker(destination, self._marker(epoch, losses, upload(made, destination)))
            return
        write_marker(made, self._marker(epoch, losses, checksums_of(made)))
        self._check()
        _remove(destination)
        made.rename(destination)

    def _marker(self, epoch: int, losses: Sequence[float], files: dict[str, str]) -> WeightsMarker:
        return WeightsMarker(
            files=files, trial=self._trial, epoch=epoch, step=len(losses), losses=fingerprint(list(losses))
        )


@contextmanager
def _folder_for(destination: AnyPath) -> Iterator[Path]:
    """An empty folder to fill before it is published; removed at the end, whatever happens.

    Raises:
        DiskFullError: the disk is full.
    """
    with ExitStack() as stack:
        with disk_full_named(destination):
            if isinstance(destination, Path):
                destination.parent.mkdir(parents=True, exist_ok=True)
                folder = stack.enter_context(new_folder(destination))
            else:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="simtune-weights-")))
        try:
            yield folder
        except Exception:
            refuse_full_disk(folder, destination)
            raise


def _remove(folder: AnyPath) -> None:
    # The marker first: a half-removed folder must not count.
    (folder / MARKER).unlink(missing_ok=True)
    remove_tree(folder)


def _save_tokenizer(tokenizer: TextTokenizer, folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    pad, eos = (tokenizer.tokenizer.id_to_token(number) for number in (tokenizer.pad_id, tokenizer.eos_id))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer.tokenizer, pad_token=pad, eos_token=eos).save_pretrained(folder)
