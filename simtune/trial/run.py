"""One trial from its start to its results on disk, on one or several workers, with or without Ray."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from simtune.drivers.trial_claims import release_claim
from simtune.errors import LeaseLostError, RunError, StoreError
from simtune.evaluation.generation import generate
from simtune.evaluation.prediction_shards import weights_fingerprint
from simtune.evaluation.scores import score_predictions
from simtune.storage.complete_folder import download, files_match, read_marker
from simtune.storage.files import fingerprint, remove_tree, write_once
from simtune.storage.object_store import ObjectPath
from simtune.storage.records import record_bytes
from simtune.training.checkpoints import Checkpoints
from simtune.training.engine import World, host_names, torch_dtype
from simtune.training.environment import current_environment
from simtune.training.epoch_examples import epoch_examples
from simtune.training.loop import TrainingHooks, TrainingJob, TrainingLog, fine_tune
from simtune.training.model import build_model
from simtune.training.process_memory import peak_host_memory_mib, restart_peak
from simtune.training.saved_weights import SavedWeights, WeightsMarker, saved_epoch, weights_folder
from simtune.training.seq2seq_model import Seq2SeqModel
from simtune.trial.failures import cause_of, free_memory, record_attempt, write_failure
from simtune.trial.files import CHECKPOINTS, FAILURE, TRAINING, identity_bytes, is_scored, known_training
from simtune.trial.records import FailureCause, TrainedModel, Training
from simtune.trial.retry_policy import RETRY_POLICIES
from simtune.trial.scoring import answered, predict_suite, prediction_parts, write_score
from simtune.trial.spec import OnProgress, ScoreSpec, SharedData, SuiteData, TrialSpec
from simtune.trial.speed_settings import speed_fingerprint


class ElsewhereError(Exception):
    """A score could not be made for a reason that may be this host's, and the trial is tried on another one."""

    def __init__(self, error: Exception, score: str) -> None:
        super().__init__(str(error))
        self.error, self.score = error, score


@dataclass(frozen=True)
class _Model:
    """A model that is ready to be scored.

    Attributes:
        training: how it was trained, now or earlier; None for baselines.
        train_s: seconds of the training now, to be recorded with the next score; 0 without one.
        checkpoints: of the training now.
    """

    model: Seq2SeqModel
    training: Training | None
    train_s: float = 0.0
    checkpoints: Checkpoints | None = None


# Causes that may be one suite's alone. The others end a trial: its time is over, or no score can be written.
_OF_A_SCORE: set[FailureCause] = {"input", "out-of-memory", "unexpected"}


def run_trial(
    spec: TrialSpec,
    shared: SharedData,
    world: World,
    on_progress: OnProgress,
    goes_elsewhere: Callable[[Exception], bool] = lambda error: False,
) -> set[FailureCause]:
    """Trains the model, or loads it, and makes the scores that it lacks; rank 0 writes the results.

    A score that cannot be made is recorded as failed, and the others are made.

    Args:
        spec: the trial.
        shared: what it reads.
        world: this worker's position.
        on_progress: called with the progress.
        goes_elsewhere: has the trial tried on another host if a score's error may be due to this one; else false.

    Returns:
        Why scores could not be made.

    Raises:
        ElsewhereError: a score could not be made, and the trial is tried on another host.
        NonFiniteLossError: the training diverged.
        ModelError: the weights cannot be loaded.
        StoreError: the saved weights are missing or damaged.
        LeaseLostError: the driver no longer holds its run.
    """
    restart_peak()
    missing = _missing_scores(spec, world)
    if spec.kind != "fine-tune":
        ready = _Model(
            _in_precision(build_model(shared.model, spec.seed, spec.sweep.training.dropout), spec, world), None
        )
    elif spec.saved_epoch is not None:
        ready = _load_saved(spec, spec.saved_epoch, shared, world)
    else:
        ready = _train(spec, shared, world, on_progress)
    # Parts from another environment may differ where scores are tied; the number of workers does not matter here.
    made_by = fingerprint([weights_fingerprint(ready.model), {**current_environment(world), "workers": None}])
    causes: set[FailureCause] = set()
    for score in missing:
        try:
            _make_score(spec, score, shared, world, on_progress, ready, made_by)
            ready = replace(ready, train_s=0.0)
        except LeaseLostError:
            raise
        except Exception as error:
            if goes_elsewhere(error):
                raise ElsewhereError(error, score.id) from error
            causes.add(_record_failed_score(spec, score, world, error))
    if world.rank == 0:
        _finish(spec, ready, again=any(RETRY_POLICIES[cause].next_run_retries for cause in causes))
    return causes


def _record_failed_score(spec: TrialSpec, score: ScoreSpec, world: World, error: Exception) -> FailureCause:
    """Records that a score could not be made; raises the error if it is not that score's alone."""
    cause = cause_of(error)
    # All workers have the error of an input; after any other, the rest would wait forever for the one that has it.
    if cause not in _OF_A_SCORE or (cause != "input" and world.size > 1):
        raise error
    if world.rank == 0:
        record = record_attempt(spec.directory, error, cause, spec.driver, score.id, world.host)
        write_failure(spec.directory, spec.identity, record)
    free_memory(error)
    return cause


def _missing_scores(spec: TrialSpec, world: World) -> list[ScoreSpec]:
    """The scores to compute; all workers use what the first one finds."""
    missing = [score for score in spec.scores if not is_scored(spec.directory, score.id)]
    if world.size == 1:
        return missing
    import torch.distributed as dist

    found = [[score.id for score in missing]]
    dist.broadcast_object_list(found, src=0)
    return [score for score in spec.scores if score.id in found[0]]


def _train(spec: TrialSpec, shared: SharedData, world: World, on_progress: OnProgress) -> _Model:
    training = spec.sweep.training
    started = time.monotonic()
    checkpoints = _checkpoints_of(spec, world)
    job = TrainingJob(
        data=shared.pool,
        examples=epoch_examples(shared.pool, spec.tasks, spec.sweep.mixture, training.epochs, spec.seed),
        training=training,
        accumulation_steps=spec.accumulation_steps,
        seed=spec.seed,
        pad_id=shared.tokenizer.pad_id,
    )
    folder = weights_folder(spec.directory)
    hooks = TrainingHooks(
        on_step=lambda done, total, loss: on_progress(
            {"phase": "train", "completed": done, "total": total, "loss": loss}
        ),
        checkpoints=checkpoints,
        score_epoch=_held_in_score(spec, shared, shared.held_in, world) if shared.held_in else None,
        weights=SavedWeights(folder, training.keep, spec.id, shared.tokenizer, spec.check_lease),
    )
    build = partial(build_model, shared.model, spec.seed, training.dropout)
    model, log = fine_tune(build, job, world, hooks)
    return _Model(model, _training_record(spec, log), time.monotonic() - started, checkpoints)


def _held_in_score(
    spec: TrialSpec, shared: SharedData, held_in: SuiteData, world: World
) -> Callable[[Seq2SeqModel], float | None]:
    """Scores a model on the instances of its training tasks that were set aside: mean ROUGE-L, 0..100."""
    evaluation, wanted = spec.sweep.evaluation, set(spec.tasks)
    numbers = np.array([number for number, record in enumerate(held_in.records) if record.task in wanted])

    def score(model: Seq2SeqModel) -> float | None:
        if world.rank != 0 or not len(numbers):
            return None
        predictions = generate(
            model,
            held_in.test.sources,
            numbers,
            shared.tokenizer,
            evaluation.max_new_tokens,
            evaluation.tokens_per_batch,
        )
        records = [replace(held_in.records[number], prediction=predictions[number].text) for number in numbers.tolist()]
        return score_predictions(records, ("rouge-l",)).overall.values["rouge-l"]

    return score


def _training_record(spec: TrialSpec, log: TrainingLog) -> Training:
    return Training(
        num_examples=log.num_examples,
        num_source_tokens=log.num_source_tokens,
        num_target_tokens=log.num_target_tokens,
        num_steps=log.num_steps,
        loss_by_epoch=tuple(map(float, log.loss_by_epoch)),
        score_by_epoch=log.score_by_epoch if any(score is not None for score in log.score_by_epoch) else (),
        losses=tuple(round(float(loss), 6) for loss in log.losses),
        accumulation_steps=spec.accumulation_steps,
    )


def _load_saved(spec: TrialSpec, epoch: int, shared: SharedData, world: World) -> _Model:
    """The fine-tuned model from the weights that its training saved, every byte verified."""
    training = known_training(spec.directory)
    if training is None:
        raise RunError(f"{spec.directory / TRAINING}: is missing; run again to train this model")
    with _saved_folder(spec, epoch) as folder:
        model = build_model(
            replace(shared.model, source=str(folder), published=None), spec.seed, spec.sweep.training.dropout
        )
        return _Model(_in_precision(model, spec, world), training)


@contextmanager
def _saved_folder(spec: TrialSpec, epoch: int) -> Iterator[Path]:
    folder = weights_folder(spec.directory) / f"epoch-{epoch}"
    marker = read_marker(folder, WeightsMarker)
    # Not the fault of the inputs: the next run tries again.
    damaged = StoreError(
        f"{folder}: the saved weights are incomplete or damaged; remove that folder, and `simtune run --retrain` "
        "trains them again"
    )
    if marker is None or marker.trial != spec.id:
        raise damaged
    with TemporaryDirectory(prefix="simtune-weights-") as temporary:
        local = folder if isinstance(folder, Path) else Path(temporary)
        if isinstance(folder, ObjectPath):
            download(folder, marker.files, local)
        if not files_match(local, marker.files):
            raise damaged
        yield local


def _in_precision(model: Seq2SeqModel, spec: TrialSpec, world: World) -> Seq2SeqModel:
    return model.to(device=world.device, dtype=torch_dtype(spec.sweep.training.precision))


def _make_score(
    spec: TrialSpec,
    score: ScoreSpec,
    shared: SharedData,
    world: World,
    on_progress: OnProgress,
    ready: _Model,
    made_by: str,
) -> None:
    import torch

    started = time.monotonic()
    parts = prediction_parts(spec.directory, score, made_by)
    predictions = predict_suite(ready.model, score, shared, parts, world, on_progress)
    hosts = host_names(world)
    if world.rank != 0:
        return
    records = answered(shared.suites[score.prompts], predictions)
    evaluate_s = time.monotonic() - started
    continued = ready.checkpoints is not None and ready.checkpoints.resumed
    read = ready.training.num_source_tokens if ready.training and ready.train_s and not continued else None
    costs: dict[str, Any] = {
        **current_environment(world),
        "host": hosts,
        "continued_from": _continued_from(ready.checkpoints),
        "resumed": continued or parts.num_read > 0,
        "speed": speed_fingerprint(spec.sweep),
        "train_s": ready.train_s,
        "evaluate_s": evaluate_s,
        "train_source_tokens_per_s": read / ready.train_s if read is not None else None,
        "test_instances_per_s": len(records) / max(evaluate_s, 1e-9),
        "peak_host_memory_mib": peak_host_memory_mib(),
        "peak_gpu_memory_mib": torch.cuda.max_memory_allocated() / 2**20 if world.device != "cpu" else None,
    }
    num_tokens = [predictions[number].num_tokens for number in range(len(records))]
    write_score(spec, score, records, ready.training, costs, num_tokens, shared.rouge_tokenizers)
    parts.remove()


def _finish(spec: TrialSpec, ready: _Model, again: bool) -> None:
    """Records the end of a training, and removes what only an interruption would need.

    Args:
        spec: the trial.
        ready: its model.
        again: whether the next run tries to make scores that could not be made, and needs the model for that.
    """
    if ready.training is not None and not (again and saved_epoch(spec.directory, ready.training.loss_by_epoch) is None):
        identity = hashlib.sha256(identity_bytes(spec.id, spec.identity)).hexdigest()
        write_once(
            spec.directory / TRAINING,
            record_bytes(TrainedModel(model=spec.id, training=ready.training, identity=identity)),
        )
    (spec.directory / FAILURE).unlink(missing_ok=True)
    release_claim(spec.directory)
    if ready.training is not None and not again:
        # Also those of a training that was interrupted between two scores, after its weights were saved.
        remove_tree(spec.directory / CHECKPOINTS)


def _checkpoints_of(spec: TrialSpec, world: World) -> Checkpoints | None:
    minutes = spec.sweep.resources.checkpoint_minutes
    if minutes is None:
        return None
    about: dict[str, str | int | None] = {
        "workers": world.size,
        "accumulation_steps": spec.accumulation_steps,
        "device": world.device,
    }
    return Checkpoints(spec.directory / CHECKPOINTS, 60 * minutes, about, current_environment(world))


def _continued_from(checkpoints: Checkpoints | None) -> str | None:
    """The other environments in which a training ran, in words; None if it always ran in this one."""
    if checkpoints is None or len(checkpoints.environments) == 1:
        return None
    here, *others = checkpoints.environments
    return "; ".join(
        ", ".join(
            f"{field.replace('_', ' ')} {value}" for field, value in environment.items() if here.get(field) != value
        )
        or "not recorded"
        for environment in others
    )
