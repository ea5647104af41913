"""Which epoch of a training is the best: the one whose weights `training.keep: best` saves."""

from __future__ import annotations

from collections.abc import Sequence


def best_epoch(loss_by_epoch: Sequence[float], score_by_epoch: Sequence[float | None] = ()) -> int:
    """The best finished epoch, counted from 1; of equal scores the one with the lowest loss, of equal losses the first.

    Args:
        loss_by_epoch: mean training loss of each finished epoch, at least one.
        score_by_epoch: score of each finished epoch, higher is better. It decides where every epoch has one; otherwise
            the lowest loss does.
    """
    done = range(len(loss_by_epoch))
    scores = [score for score in score_by_epoch if score is not None]
    if len(scores) == len(score_by_epoch) == len(loss_by_epoch):
        return 1 + max(done, key=lambda epoch: (scores[epoch], -loss_by_epoch[epoch]))
    return 1 + min(done, key=loss_by_epoch.__getitem__)
