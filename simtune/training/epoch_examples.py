"""The examples of each epoch of a training, by its mixture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simtune.config.mixture import MixtureSettings
from simtune.corpus.mixture import TaskShare, example_positions, task_shares
from simtune.training.examples import TokenisedTasks


def epoch_examples(
    data: TokenisedTasks, names: Sequence[str], mixture: MixtureSettings, epochs: int, seed: int
) -> np.ndarray:
    """Example numbers of the tasks of a training: int64 [E], every epoch alike, or [epochs, E].

    Args:
        data: tokenised tasks, these among them.
        names: the training's tasks.
        mixture: how many examples of each task an epoch has.
        epochs: of the training.
        seed: of the training.
    """
    wanted = set(names)
    numbers = [number for number, name in enumerate(data.names) if name in wanted]
    sizes = {data.names[number]: int(np.diff(data.task_offsets)[number]) for number in numbers}
    shares = task_shares(sizes, mixture, {data.names[number]: int(data.num_templates[number]) for number in numbers})
    if all(share.once_each for share in shares.values()):
        return data.examples_of(names)
    starts = {data.names[number]: int(data.task_offsets[number]) for number in numbers}
    return np.stack([_of_epoch(starts, shares, epoch, seed) for epoch in range(epochs)])


def _of_epoch(starts: dict[str, int], shares: dict[str, TaskShare], epoch: int, seed: int) -> np.ndarray:
    return np.concatenate(
        [starts[name] + example_positions(name, share, epoch, seed) for name, share in shares.items()]
    )
