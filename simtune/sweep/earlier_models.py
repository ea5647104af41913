"""Models that an earlier run of a sweep trained, and what it costs to score them on further suites."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from simtune.errors import RunError, StoreError
from simtune.storage.files import AnyPath, as_path, fingerprint
from simtune.sweep.grid_points import PointTasks
from simtune.sweep.missing_trials import UnsavedModel, unsaved_model
from simtune.sweep.results import Planned
from simtune.sweep.rouge_tokenizers import RougeTokenizers
from simtune.sweep.trials import model_settings, score_identity
from simtune.training.saved_weights import saved_epoch
from simtune.trial.files import MODEL, is_scored, read_identity, read_training


def models_to_retrain(prepared_points: Sequence[PointTasks]) -> list[UnsavedModel]:
    """Models that the sweep's earlier run trained, whose weights were not saved and that lack scores.

    Which tasks an arm has is not known before the embeddings are, so this goes by what the earlier run chose.
    """
    sweep = prepared_points[0].sweep
    run_directory, trials = as_path(sweep.storage) / sweep.name, as_path(sweep.storage) / "trials"
    try:
        planned = Planned.read(run_directory)
    except (RunError, StoreError):
        # No earlier run, or one that had not planned its trials, or an unreachable object store.
        return []
    trained = {arm.name for arm in planned.metadata.arms if arm.type != "baseline"}
    rows = {row["trial"]: row for row in planned.rows if row["arm"] in trained}
    tokenizers = RougeTokenizers()
    return [
        model
        for row in rows.values()
        for model in _to_retrain(row, planned.grid_keys, prepared_points, trials, tokenizers)
    ]


def _to_retrain(
    row: dict[str, Any],
    grid_keys: Sequence[str],
    prepared_points: Sequence[PointTasks],
    trials: AnyPath,
    tokenizers: RougeTokenizers,
) -> Iterator[UnsavedModel]:
    directory = trials / row["trial"]
    try:
        training, identity = read_training(directory), read_identity(directory / MODEL)
    except RunError:
        # `run` refuses it with its remedy.
        return
    if training is None or saved_epoch(directory, training.training.loss_by_epoch) is not None:
        return
    for prepared in prepared_points:
        values = {key: str(value) for key, value in prepared.point.values}
        same = all(row[key] in (None, values.get(key)) for key in grid_keys)
        if (
            same
            and identity
            and all(identity.get(key) == value for key, value in model_settings(prepared.sweep).items())
        ):
            of_suites = tokenizers.of_suites(prepared.sweep)
            scores = [
                score_identity(row["trial"], "fine-tune", prepared.sweep, suite, of_suites.get(name))
                for name, suite in prepared.suites.items()
            ]
            lacking = [score for score in scores if not is_scored(directory, fingerprint(score)[:16])]
            if lacking:
                yield unsaved_model(training, len(lacking))
            return
