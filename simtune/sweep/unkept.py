"""Finished trials whose weights were to stay and are not there: told, for they are never trained again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from simtune.storage.files import AnyPath
from simtune.sweep.trials import PlannedRow
from simtune.training.saved_weights import missing_epochs
from simtune.trial.files import Outcome
from simtune.wording import counted


def tell_unkept(
    rows: Iterable[PlannedRow], outcomes: Mapping[str, Outcome], trials: AnyPath, warn: Callable[[str], None]
) -> None:
    """Warns of finished trials that lack what `training.keep` asks for: an earlier run asked for less."""
    lacking = []
    for trial in {row.trial.id: row.trial for row in rows if row.trial.kind == "fine-tune"}.values():
        keep = trial.sweep.training.keep
        metrics = outcomes[trial.id].metrics if keep != "none" else None
        training = metrics.training if metrics else None
        if training and missing_epochs(trials / trial.id, trial.id, keep, training.loss_by_epoch):
            lacking.append(trial)
    if lacking:
        warn(
            f"training.keep: {lacking[0].sweep.training.keep}, but {counted(len(lacking), 'finished trial')} did "
            "not keep these "
            f"weights (such as {trials / lacking[0].id}; `simtune doctor` lists them), and a finished trial is never "
            "trained again. To have them, move those folders aside and run again: on the same kind of machine the "
            "results come out the same"
        )
