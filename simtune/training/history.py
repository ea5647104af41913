"""What a training has done so far: the part of its state that is plain numbers, and travels with its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from simtune.training.steps import Step


@dataclass
class TrainingHistory:
    """Losses and scores up to now.

    Attributes:
        losses: one for each finished step, in nats per target token.
        epoch_scores: one for each finished epoch; None where it was not scored.
    """

    losses: list[float] = field(default_factory=list)
    epoch_scores: list[float | None] = field(default_factory=list)


@dataclass(frozen=True)
class Epochs:
    """Where the epochs of a training end.

    Attributes:
        ends: steps done at the end of each epoch.
        weights: of each step's loss in the mean of its epoch: its target tokens, int64 [steps].
    """

    ends: tuple[int, ...]
    weights: np.ndarray

    @classmethod
    def from_steps(cls, steps: Sequence[Step]) -> Epochs:
        """The epochs of all steps of a training."""
        counts = np.bincount([step.epoch for step in steps])
        return cls(tuple(np.cumsum(counts).tolist()), np.array([step.num_target_tokens for step in steps]))

    def mean_losses(self, losses: Sequence[float]) -> tuple[float, ...]:
        """Mean loss over the target tokens of each finished epoch, given the losses of the finished steps."""
        starts = (0, *self.ends)
        return tuple(
            float(np.average(np.array(losses[start:end]), weights=self.weights[start:end]))
            for start, end in zip(starts, self.ends, strict=False)
            if end <= len(losses)
        )
