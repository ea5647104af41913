"""One trial from start to its results on disk, in one worker or many, with Ray or without.

The last thing written is `metrics.json`, once and never replaced: where it is, the trial is done; where it is not,
nothing else in the directory counts.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from simtune.config import Sweep
from simtune.corpus.task import Task
from simtune.drivers.claims import release_claim
from simtune.drivers.lease import LeaseToken
from simtune.errors import LeaseLostError
from simtune.evaluation.generation import generate
from simtune.evaluation.prediction_shards import Prediction, PredictionParts, shards_of, weights_fingerprint
from simtune.evaluation.scores import PredictionRecord, Scores, score_predictions
from simtune.prompting.tokenizer import TextTokenizer
from simtune.storage.files import AnyPath, fingerprint, write_bytes, write_once
from simtune.storage.parquet_files import table_bytes
from simtune.storage.records import record_bytes, write_record
from simtune.training.checkpoints import Checkpoints
from simtune.training.engine import World
from simtune.training.epoch_examples import epoch_examples
from simtune.training.examples import TokenisedTasks
from simtune.training.loop import TrainingHooks, TrainingJob, TrainingLog, fine_tune
from simtune.training.model import ResolvedModel, build_model
from simtune.training.precision import machine_kind
from simtune.training.process_memory import peak_host_memory_mib, restart_peak
from simtune.training.saved_weights import SavedWeights, weights_folder
from simtune.trial.failures import num_attempts
from simtune.trial.files import COSTS, FAILURE, IDENTITY, METRICS, PREDICTIONS, identity_bytes
from simtune.trial.records import Costs, Files, Metrics, Training, metrics_fields

OnProgress = Callable[[dict[str, Any]], None]
"""Called with `phase`, `completed`, `total` and, in training, `loss`; at the same points on every worker.

Not `done`: Tune ends a trial whose report has a true `done`.
"""


@dataclass(frozen=True)
class SharedData:
    """What all trials of a study read: made once on the driver, put in the object store once."""

    pool: TokenisedTasks
    test: TokenisedTasks
    records: tuple[PredictionRecord, ...]
    tokenizer: TextTokenizer
    model: ResolvedModel


@dataclass(frozen=True)
class TrialSpec:
    """A trial as plain values, to be sent to other processes.

    Attributes:
        lease: its driver's, without which nothing may be written; None where nobody else can know the directory.
        gone: tokens of drivers that claimed trials and stood still since.
    """

    id: str
    kind: str
    identity: dict[str, Any]
    tasks: tuple[str, ...]
    seed: int
    sweep: Sweep
    accumulation_steps: int
    directory: AnyPath
    lease: LeaseToken | None = None
    gone: frozenset[str] = frozenset()

    @property
    def driver(self) -> str:
        """Names the run of the driver that its attempts belong to."""
        return self.lease.token if self.lease else ""

    def check_lease(self) -> None:
        """
        Raises:
            LeaseLostError: another driver has taken over.
        """
        if self.lease is not None and not self.lease.held():
            raise LeaseLostError(f"trial {self.id}: its driver lost its run to another; nothing was written")


def records_of(tasks: tuple[Task, ...]) -> list[PredictionRecord]:
    """One record a test instance, without predictions."""
    return [
        PredictionRecord(instance.id, task.name, task.category, instance.outputs, "")
        for task in tasks
        for instance in task.instances
    ]


def run_trial(spec: TrialSpec, shared: SharedData, world: World, on_progress: OnProgress) -> None:
    """Trains (unless the trial is a baseline), generates and scores; rank 0 writes the results.

    Raises:
        NonFiniteLossError: the training diverged.
        ModelError: the weights cannot be loaded.
        LeaseLostError: the driver no longer holds its run.
    """
    import torch

    restart_peak()
    started = time.monotonic()
    sweep, training = spec.sweep, spec.sweep.training
    build = partial(build_model, shared.model, spec.seed, training.dropout)
    log: TrainingLog | None = None
    checkpoints = _checkpoints_of(spec, world)
    if spec.kind == "fine-tune":
        job = TrainingJob(
            data=shared.pool,
            examples=epoch_examples(shared.pool, spec.tasks, sweep.mixture, training.epochs, spec.seed),
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
            weights=SavedWeights(folder, training.keep, spec.id, shared.tokenizer, spec.check_lease),
        )
        model, log = fine_tune(build, job, world, hooks)
    else:
        precisions = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        model = build().to(device=world.device, dtype=precisions[training.precision])
    trained = time.monotonic()
    kind = machine_kind(world)
    # Parts of another kind of machine may differ in a tie; the number of workers decides nothing here.
    made_by = fingerprint([weights_fingerprint(model), {**kind, "workers": None}])
    parts = PredictionParts(spec.directory / "predictions.parts", made_by)
    predictions = _predict(model, shared, sweep, parts, world, on_progress)
    if world.rank != 0:
        return
    generated = time.monotonic()
    records = [
        PredictionRecord(record.instance_id, record.task, record.category, record.references, predictions[number].text)
        for number, record in enumerate(shared.records)
    ]
    costs: dict[str, Any] = {
        **kind,
        "continued_from": _continued_from(checkpoints),
        "train_s": trained - started if log else 0.0,
        "evaluate_s": generated - trained,
        "train_source_tokens_per_s": log.num_source_tokens / (trained - started) if log else None,
        "test_instances_per_s": len(records) / max(generated - trained, 1e-9),
        "peak_host_memory_mib": peak_host_memory_mib(),
        "peak_gpu_memory_mib": torch.cuda.max_memory_allocated() / 2**20 if world.device != "cpu" else None,
    }
    write_results(spec, records, log, costs, [predictions[number].num_tokens for number in range(len(records))])
    parts.remove()
    if checkpoints is not None:
        checkpoints.remove()


def _checkpoints_of(spec: TrialSpec, world: World) -> Checkpoints | None:
    minutes = spec.sweep.resources.checkpoint_minutes
    if minutes is None:
        return None
    about = {"workers": world.size, "accumulation_steps": spec.accumulation_steps, "device": world.device}
    return Checkpoints(spec.directory / "checkpoints", 60 * minutes, about, machine_kind(world))


def _continued_from(checkpoints: Checkpoints | None) -> str | None:
    """The other kinds of machine that a training began on, in words; None where it was this kind all along."""
    if checkpoints is None or len(checkpoints.environments) == 1:
        return None
    here, *others = checkpoints.environments
    return "; ".join(
        ", ".join(f"{field.replace('_', ' ')} {value}" for field, value in kind.items() if here.get(field) != value)
        or "not recorded"
        for kind in others
    )


def write_results(
    spec: TrialSpec,
    records: list[PredictionRecord],
    log: TrainingLog | None,
    costs: dict[str, Any],
    num_tokens: list[int] | None,
) -> None:
    """Scores and writes a trial's files, `metrics.json` last, which has the checksums of the others.

    Raises:
        LeaseLostError: the driver no longer holds its run.
    """
    scores = score_predictions(records)
    identity = identity_bytes(spec.id, spec.identity)
    predictions = table_bytes(_predictions_table(records, scores, num_tokens))
    files = Files(identity=hashlib.sha256(identity).hexdigest(), predictions=hashlib.sha256(predictions).hexdigest())
    spec.check_lease()
    write_bytes(spec.directory / IDENTITY, identity)
    write_bytes(spec.directory / PREDICTIONS, predictions)
    took = Costs(trial=spec.id, failed_attempts=num_attempts(spec.directory), **costs)
    write_record(spec.directory / COSTS, took)
    write_once(spec.directory / METRICS, record_bytes(_metrics(spec, scores, log, files)))
    (spec.directory / FAILURE).unlink(missing_ok=True)
    release_claim(spec.directory)


def _metrics(spec: TrialSpec, scores: Scores, log: TrainingLog | None, files: Files) -> Metrics:
    training = None
    if log is not None:
        training = Training(
            num_examples=log.num_examples,
            num_source_tokens=log.num_source_tokens,
            num_target_tokens=log.num_target_tokens,
            num_steps=log.num_steps,
            loss_by_epoch=tuple(map(float, log.loss_by_epoch)),
            losses=tuple(round(float(loss), 6) for loss in log.losses),
            accumulation_steps=spec.accumulation_steps,
        )
    return Metrics(trial=spec.id, **metrics_fields(scores.to_dict()), training=training, files=files)


def _predict(
    model: Any, shared: SharedData, sweep: Sweep, parts: PredictionParts, world: World, on_progress: OnProgress
) -> dict[int, Prediction]:
    """Predictions by test instance, on rank 0; other workers have their share alone."""
    sources, evaluation = shared.test.sources, sweep.evaluation
    shards = list(enumerate(shards_of(sources.lengths, evaluation.tokens_per_batch)))
    # Workers may differ by one shard; all must report equally often.
    num_reported = len(shards) // world.size
    report_every = max(1, num_reported // 10)
    share: dict[int, Prediction] = {}
    mine = shards[world.rank :: world.size]
    for done, (shard, numbers) in enumerate(mine, start=1):
        predictions = parts.read(shard, numbers)
        if predictions is None:
            predictions = generate(
                model, sources, numbers, shared.tokenizer, evaluation.max_new_tokens, evaluation.tokens_per_batch
            )
            parts.write(shard, predictions)
        share |= predictions
        if done <= num_reported and done % report_every == 0:
            on_progress({"phase": "evaluate", "completed": done, "total": len(mine)})
    if world.size == 1:
        return share
    import torch.distributed as dist

    gathered: list[Any] | None = [None] * world.size if world.rank == 0 else None
    dist.gather_object(share, gathered, dst=0)
    return {number: prediction for part in gathered or () for number, prediction in part.items()}


def _predictions_table(records: list[PredictionRecord], scores: Scores, num_tokens: list[int] | None) -> Any:
    import pyarrow as pa

    return pa.table(
        {
            "instance_id": [record.instance_id for record in records],
            "task": [record.task for record in records],
            "category": [record.category for record in records],
            "prediction": [record.prediction for record in records],
            "references": pa.array([list(record.references) for record in records], pa.list_(pa.string())),
            "rouge_l": [score.rouge_l for score in scores.instances],
            "exact_match": [score.exact_match for score in scores.instances],
            "num_tokens": pa.array(num_tokens, pa.int64()) if num_tokens else pa.nulls(len(records), pa.int64()),
        }
    )
