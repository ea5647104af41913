"""Finished trials whose weights were to stay and are not there: told, for they are never trained again."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from simtune.storage import AnyPath
from simtune.sweep.results import read_metrics
from simtune.sweep.trials import PlannedRow
from simtune.training.kept import missing_epochs
from simtune.wording import counted


def tell_unkept(rows: Iterable[PlannedRow], trials: AnyPath, warn: Callable[[str], None]) -> None:
    """Warns of finished trials that lack what `training.keep` asks for: an earlier run asked for less."""
    lacking = []
    for trial in {row.trial.id: row.trial for row in rows if row.trial.kind == "fine-tune"}.values():
        keep = trial.sweep.training.keep
        metrics = read_metrics(trials / trial.id) if keep != "none" else None
        if metrics and missing_epochs(trials / trial.id, trial.id, keep, metrics["training"]["loss_by_epoch"]):
            lacking.append(trial)
    if lacking:
        warn(
            f"training.keep: {lacking[0].sweep.training.keep}, but {counted(len(lacking), 'finished trial')} did "
            "not keep these "
            f"weights (such as {trials / lacking[0].id}; `simtune doctor` lists them), and a finished trial is never "
            "trained again. To have them, move those folders aside and run again: on the same kind of machine the "
            "results come out the same"
        )
