"""What an ended training of a model has left for others: its saved weights, or only the record that it was."""

from __future__ import annotations

from simtune.storage.files import AnyPath
from simtune.training.saved_weights import saved_epoch
from simtune.trial.files import known_training, read_training
from simtune.trial.records import TrainedModel


def earlier_training(directory: AnyPath) -> tuple[int | None, TrainedModel | None]:
    """The epoch whose saved weights can be scored; without one, the record of a training that has ended.

    Args:
        directory: the trial's folder.

    Raises:
        RunError: a record is damaged.
    """
    training = known_training(directory)
    if training is None:
        return None, None
    epoch = saved_epoch(directory, training.loss_by_epoch)
    return epoch, read_training(directory) if epoch is None else None
