"""The records of a trial: its training, its scores, and what is recorded beside them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from simtune.errors import first_line
from simtune.evaluation.scores import Scores
from simtune.storage.records import Record, Sha256

FailureCause = Literal["input", "diverged", "out-of-memory", "timeout", "infrastructure", "preempted", "unexpected"]

# Larger whole numbers do not fit into a column of a table.
_LARGEST = 2**63

Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=1, lt=_LARGEST)]
CountOrZero = Annotated[int, Field(ge=0, lt=_LARGEST)]
Amount = Annotated[float, Field(ge=0)]
TrialId = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
ScoreId = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]


class MeanScores(Record):
    """Means over instances, 0..100, by the name of the metric."""

    values: dict[str, Percent]
    num_instances: Count


class GroupScores(MeanScores):
    """Scores of a test task or of a category; as `evaluation.scores.GroupScore`."""

    name: str
    category: str
    metric: str
    headline: Percent
    num_tasks: Count


class Training(Record):
    """What a training read, and its losses in nats per target token.

    Attributes:
        score_by_epoch: ROUGE-L on the instances that were set aside (`evaluation.held_in`), 0..100; empty without any.
    """

    num_examples: CountOrZero
    num_source_tokens: CountOrZero
    num_target_tokens: CountOrZero
    num_steps: CountOrZero
    loss_by_epoch: tuple[float, ...]
    score_by_epoch: tuple[float | None, ...] = ()
    losses: tuple[float, ...]
    accumulation_steps: Count


class Files(Record):
    """SHA-256 (hex) of the files that belong to a result."""

    identity: Sha256
    predictions: Sha256


class TrainedModel(Record):
    """The end of a training: the model has been trained, and scored on the suites that were asked for then.

    Attributes:
        model: the trial's id.
        identity: SHA-256 (hex) of `model.json`.
    """

    version: Literal[1] = 1
    model: TrialId
    training: Training
    identity: Sha256


class Metrics(Record):
    """The scores of one model on one suite.

    Attributes:
        model: the trial's id.
        score: the id of the score.
        training: None for baselines.
    """

    version: Literal[1] = 1
    model: TrialId
    score: ScoreId
    overall: MeanScores
    task_mean: MeanScores
    categories: tuple[GroupScores, ...]
    tasks: tuple[GroupScores, ...]
    training: Training | None
    files: Files

    @property
    def final_loss(self) -> float | None:
        """The mean loss of the last epoch, in nats per target token."""
        return self.training.loss_by_epoch[-1] if self.training and self.training.loss_by_epoch else None


class OverallScore(Record):
    """The part of a result that its status shows; the rest is covered by the checksum and not parsed."""

    model_config = ConfigDict(extra="ignore")

    version: Literal[1]
    model: TrialId
    score: ScoreId
    overall: MeanScores


class Costs(Record):
    """What a score and the training for it cost, and in which environment; None where it does not apply.

    Attributes:
        trial: the model's id.
        train_s: of the training, recorded with the first suite that was scored after it; 0 with the others.
        resumed: whether an earlier attempt had done a part of it, whose seconds are not here.
        speed: fingerprint of the settings that decide how fast it was computed; None without a model.
        host: names of the hosts of its workers, separated by commas.
    """

    version: Literal[1] = 1
    trial: str
    score: str
    workers: Count | None = None
    device: str | None = None
    threads: Count | None = None
    train_s: Amount | None = None
    evaluate_s: Amount | None = None
    train_source_tokens_per_s: Amount | None = None
    test_instances_per_s: Amount | None = None
    peak_host_memory_mib: Amount | None = None
    peak_gpu_memory_mib: Amount | None = None
    failed_attempts: CountOrZero
    host: str | None = None
    processor: str | None = None
    cpu_capability: str | None = None
    torch: str | None = None
    deepspeed: str | None = None
    transformers: str | None = None
    continued_from: str | None = None
    resumed: bool = False
    speed: str | None = None


class Attempt(Record):
    """A failed attempt at a trial.

    Attributes:
        score: which score could not be made; None where the model could not be trained or loaded.
        error: the class of what was raised.
        step: of a training that diverged.
        driver: which run of a driver it belongs to.
        host: on which it ran.
    """

    version: Literal[1] = 1
    trial: str
    score: str | None = None
    attempt: Count
    cause: FailureCause
    error: str
    message: str
    step: int | None
    driver: str
    host: str


class Failure(Record):
    """Why a trial has no result.

    Attributes:
        score: the score that it concerns alone; None where there is no model to score.
        error: the class of what was raised last.
        retry: whether the next run tries again without being asked.
        attempts: failed attempts so far.
        host: on which the last attempt ran.
        log: of the last attempt, within the trial's folder.
    """

    version: Literal[1] = 1
    trial: str
    score: str | None = None
    cause: FailureCause
    error: str
    message: str
    step: int | None
    retry: bool
    attempts: CountOrZero
    host: str
    log: str

    @property
    def summary(self) -> str:
        """The class of the error with the first line of its message."""
        return f"{self.error}: {first_line(self.message)}"


def metrics_fields(scores: Scores) -> dict[str, Any]:
    """The part of `Metrics` that follows from predictions."""
    categories, tasks = (
        tuple(GroupScores.model_validate(group, from_attributes=True) for group in groups)
        for groups in (scores.categories, scores.tasks)
    )
    return {
        "overall": MeanScores.model_validate(scores.overall, from_attributes=True),
        "task_mean": MeanScores.model_validate(scores.task_mean, from_attributes=True),
        "categories": categories,
        "tasks": tasks,
    }
