"""Scores of single test tasks without a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simtune.report.statistics.records import ArmAtSize
from simtune.report.statistics.task_scores import PointScores, TaskScores


def point(
    arrays_ST: Sequence[np.ndarray], weights_T: np.ndarray | None = None, seeds: Sequence[tuple] = ()
) -> PointScores:
    """Arms a, b, c ... at size 10 with these scores; equal weights and seeds 0, 1 ... unless given."""
    number = arrays_ST[0].shape[1]
    weights_T = np.full(number, 1 / number) if weights_T is None else weights_T
    arms = []
    for index, values_ST in enumerate(arrays_ST):
        own = seeds[index] if seeds else tuple(range(len(values_ST)))
        of = ArmAtSize(arm="abcdefgh"[index], size=10, num_tasks=10)
        mean = float((values_ST @ weights_T).mean())
        arms.append(TaskScores(of, mean, own, own != (None,), values_ST))
    return PointScores(tuple(arms), (), weights_T)
