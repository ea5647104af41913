"""The learning-rate schedule."""

from __future__ import annotations

from collections.abc import Callable

from simtune.config.settings import TrainingSettings


def learning_rate_factor(training: TrainingSettings, total_steps: int) -> Callable[[int], float]:
    """The schedule: a function from a step (0 for the first) to the factor on the learning rate."""

    def factor(step: int) -> float:
        if step < training.warmup_steps:
            return (step + 1) / training.warmup_steps
        if training.schedule == "constant":
            return 1.0
        return max(0.0, (total_steps - step) / max(1, total_steps - training.warmup_steps))

    return factor
