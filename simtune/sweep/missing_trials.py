"""Which trials lack scores, and how each gets them: by training, by loading a model, or from saved weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from simtune.storage.files import AnyPath, child_names
from simtune.storage.many_files import read_each
from simtune.sweep.trials import PlannedRow, Trial
from simtune.training.saved_weights import missing_epochs
from simtune.trial.earlier_training import earlier_training
from simtune.trial.files import ScoreOf, ScoreState
from simtune.trial.records import Failure, TrainedModel
from simtune.trial.spec import ScoreSpec
from simtune.wording import counted


@dataclass(frozen=True)
class MissingTrial:
    """A trial that lacks scores and can be run.

    Attributes:
        rows: one for each score that it lacks.
        saved_epoch: the epoch whose saved weights are scored; None trains the model, or loads one that is not trained.
    """

    rows: tuple[PlannedRow, ...]
    saved_epoch: int | None

    @property
    def trial(self) -> Trial:
        """The trial of its first row."""
        return self.rows[0].trial

    @property
    def scores(self) -> tuple[ScoreSpec, ...]:
        """The scores to compute."""
        return tuple(row.score for row in self.rows)

    @property
    def trains(self) -> bool:
        """Whether it needs the pool's tasks."""
        return bool(self.trial.tasks) and self.saved_epoch is None


@dataclass(frozen=True)
class UnsavedModel:
    """A model that was trained, whose weights were not saved, and that lacks scores."""

    trial: str
    num_scores: int
    num_steps: int
    num_source_tokens: int


@dataclass(frozen=True)
class Missing:
    """What a run must compute.

    Attributes:
        unsaved: what it does not compute, because a model would have to be trained a second time.
    """

    trials: tuple[MissingTrial, ...]
    unsaved: tuple[UnsavedModel, ...]


def find_missing(
    rows: Sequence[PlannedRow],
    states: Mapping[ScoreOf, ScoreState],
    trials: AnyPath,
    only_failed: bool = False,
    retrain: bool = False,
) -> Missing:
    """Finds the trials that lack scores.

    Args:
        rows: all that the sweep asks for.
        states: of all scores.
        trials: the folder of all trials.
        only_failed: only the trials that failed, for whatever reason.
        retrain: whether models are trained again if their weights were not saved.

    Raises:
        RunError: the record of a training is damaged.
    """
    lacking: dict[str, dict[str, PlannedRow]] = {}
    for row in rows:
        state = states[row.trial.id, row.score.id]
        if not state.done and is_wanted(state.failure, only_failed):
            lacking.setdefault(row.trial.id, {}).setdefault(row.score.id, row)
    fine_tuned = {row.trial.id for row in rows if row.trial.kind == "fine-tune"}
    started = child_names(trials)
    names = [name for name in lacking if name in fine_tuned and name in started]
    earlier = read_each(trials, names, lambda name: earlier_training(trials / name))
    found: list[MissingTrial] = []
    unsaved: list[UnsavedModel] = []
    for name, by_score in lacking.items():
        of_trial = tuple(by_score.values())
        epoch, trained = earlier.get(name, (None, None))
        if trained is not None and not retrain:
            unsaved.append(unsaved_model(trained, len(of_trial)))
        else:
            found.append(MissingTrial(of_trial, epoch))
    return Missing(tuple(found), tuple(unsaved))


def is_wanted(failure: Failure | None, only_failed: bool = False) -> bool:
    """Whether a run makes a score that is not there.

    Args:
        failure: why it is not, if that was recorded.
        only_failed: a run that tries all that failed, whatever the reason, and nothing else.
    """
    return failure is not None if only_failed else failure is None or failure.retry


def unsaved_model(trained: TrainedModel, num_scores: int) -> UnsavedModel:
    """What training a model again would cost."""
    training = trained.training
    return UnsavedModel(trained.model, num_scores, training.num_steps, training.num_source_tokens)


def unsaved_note(unsaved: Sequence[UnsavedModel]) -> str:
    """What is missing because weights were not saved, and what to do; empty if nothing is."""
    if not unsaved:
        return ""
    one = len(unsaved) == 1
    scores = sum(model.num_scores for model in unsaved)
    steps = sum(model.num_steps for model in unsaved)
    tokens = sum(model.num_source_tokens for model in unsaved)
    return (
        f"the storage lacks the final weights of {counted(len(unsaved), 'trained model')}, so "
        f"{counted(scores, 'score is', 'scores are')} missing. `simtune run --retrain` trains "
        f"{'it' if one else 'them'} again: {counted(steps, 'step')}, {counted(tokens, 'source token')}. "
        "With training.keep: last a further suite needs no training"
    )


def warn_of_unsaved_weights(
    rows: Iterable[PlannedRow], states: Mapping[ScoreOf, ScoreState], trials: AnyPath, warn: Callable[[str], None]
) -> None:
    """Warns of finished trials without the weights that `training.keep` asks for: an earlier run saved fewer."""
    lacking: list[Trial] = []
    for row in {row.trial.id: row for row in rows if row.trial.kind == "fine-tune"}.values():
        trial = row.trial
        keep = trial.sweep.training.keep
        state = states[trial.id, row.score.id]
        epochs = (state.loss_by_epoch, state.score_by_epoch)
        if keep != "none" and state.loss_by_epoch and missing_epochs(trials / trial.id, trial.id, keep, *epochs):
            lacking.append(trial)
    if lacking:
        warn(
            f"training.keep: {lacking[0].sweep.training.keep}, but "
            f"{counted(len(lacking), 'finished trial lacks', 'finished trials lack')} these weights (such as "
            f"{trials / lacking[0].id}; `simtune doctor` lists them), and a finished trial is never trained again. "
            "To have them, move those folders aside and run again: on the same kind of machine the results come out "
            "the same"
        )
