"""The fine-tuning loop: steps of equal effective batch through a DeepSpeed engine.

The loss of a step is the mean negative log-likelihood over all target tokens of the step, whatever the number of
workers and micro-batches: these change the time that a step takes, and its result only by rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from simtune.config.settings import TrainingSettings
from simtune.errors import NonFiniteLossError
from simtune.training.checkpoints import Checkpoints
from simtune.training.collectives import from_first_worker
from simtune.training.engine import Engine, World, end_engine, full_model, start_engine
from simtune.training.examples import TokenisedTasks
from simtune.training.families.registry import family_of
from simtune.training.history import Epochs, TrainingHistory
from simtune.training.labelled_logits import LabelledPositions, TensorBatch
from simtune.training.prefetch import prefetch
from simtune.training.process_memory import release_memory, reuse_freed_memory
from simtune.training.saved_weights import SavedWeights
from simtune.training.seq2seq_model import Seq2SeqModel
from simtune.training.special_ids import SpecialIds
from simtune.training.steps import IGNORED_LABEL, Step, by_epoch, micro_batches, training_steps

if TYPE_CHECKING:
    from torch import Tensor

OnStep = Callable[[int, int, float], None]
"""Called with steps done, steps in all, and the loss of the last step, at the same steps on every worker."""

ScoreEpoch = Callable[[Seq2SeqModel], float | None]
"""Scores the model, which is in evaluation mode with all its weights; higher is better, None means not scored.

Every worker calls it at the same time, so it may divide the work; the first worker's score counts.
"""

_PROGRESS_REPORTS = 20


@dataclass(frozen=True)
class TrainingJob:
    """One training: what it learns from, in which order, and in which pieces.

    Attributes:
        data: tokenised tasks, shared by many trainings.
        examples: example numbers of this training's tasks, int64 [E] for every epoch alike or [epochs, E].
        training: learning rate, batches, precision and the rest.
        accumulation_steps: micro-batches a worker takes for one step.
        seed: of the order of the examples, the drawn references and dropout.
        pad_id: fills short sources.
    """

    data: TokenisedTasks
    examples: np.ndarray
    training: TrainingSettings
    accumulation_steps: int
    seed: int
    pad_id: int


@dataclass(frozen=True)
class TrainingHooks:
    """What happens around the steps of a training.

    Attributes:
        on_step: reports progress.
        score_epoch: scores the model after each epoch, so that `keep: best` can choose by it; None does not.
        checkpoints: where to resume from, and where to save what an interrupted training needs.
        weights: where the weights of finished epochs are saved.
    """

    on_step: OnStep = lambda done, total, loss: None
    score_epoch: ScoreEpoch | None = None
    checkpoints: Checkpoints | None = None
    weights: SavedWeights | None = None


@dataclass(frozen=True)
class TrainingLog:
    """What a training did; equal for equal inputs on machines of one kind.

    Attributes:
        losses: one for each step, float64 [steps], in nats per target token.
        loss_by_epoch: mean over the target tokens of each epoch.
        score_by_epoch: what `score_epoch` returned; None where an epoch was not scored.
        num_examples: examples of one epoch.
        num_source_tokens: read over all epochs, without padding.
        num_target_tokens: read over all epochs, without padding.
    """

    losses: np.ndarray
    loss_by_epoch: tuple[float, ...]
    score_by_epoch: tuple[float | None, ...]
    num_examples: int
    num_source_tokens: int
    num_target_tokens: int

    @property
    def num_steps(self) -> int:
        """Optimizer steps of all epochs."""
        return len(self.losses)


def fine_tune(
    build: Callable[[], Seq2SeqModel], job: TrainingJob, world: World, hooks: TrainingHooks | None = None
) -> tuple[Seq2SeqModel, TrainingLog]:
    """Fine-tunes a model.

    Args:
        build: makes the model with its initial weights.
        job: what it learns from, and how.
        world: this worker and the others; every worker must call with equal arguments.
        hooks: what happens around the steps.

    Returns:
        The model with all its weights on this worker, in the precision it was trained in, and the log.

    Raises:
        NonFiniteLossError: on every worker, before the optimizer step.
    """
    if world.device == "cpu":
        reuse_freed_memory()
    trained, log = _train(build, job, world, hooks or TrainingHooks())
    if job.training.zero_stage == 3:
        # The optimizer and the whole model may not fit a GPU together.
        release_memory()
    return trained.to(world.device), log


def _train(
    build: Callable[[], Seq2SeqModel], job: TrainingJob, world: World, hooks: TrainingHooks
) -> tuple[Seq2SeqModel, TrainingLog]:
    """The steps of a training in an engine that ends with them; see `fine_tune`."""
    import torch

    training = job.training
    steps = training_steps(job.data, job.examples, training, job.seed)
    model = build()
    torch.manual_seed(job.seed * 100_003 + world.rank)
    with ExitStack() as cleanup:
        family = family_of(model)
        if family is not None and world.device == "cpu" and not training.compile:
            cleanup.callback(family.install_cpu_kernels(model))
        engine = start_engine(model, training, len(steps), job.accumulation_steps, world)
        engine.train()
        head = LabelledPositions(engine.module)
        cleanup.callback(head.remove)
        loop = _Loop(build, job, world, hooks, steps, engine, head)
        loop.resume()
        batches = prefetch(
            _own_batches(job, loop.steps_left(), replace(SpecialIds.from_model(model), pad=job.pad_id), world),
            depth=2 * job.accumulation_steps,
        )
        cleanup.callback(batches.close)
        loop.run(batches)
    trained = full_model(engine, training, build)
    end_engine(engine, training)
    return trained, loop.log()


class _Loop:
    """The steps of one training on one worker, and what happens after each of them."""

    def __init__(
        self,
        build: Callable[[], Seq2SeqModel],
        job: TrainingJob,
        world: World,
        hooks: TrainingHooks,
        steps: Sequence[Step],
        engine: Engine,
        head: LabelledPositions,
    ) -> None:
        self._build, self._job, self._world, self._hooks = build, job, world, hooks
        self._steps, self._engine, self._head = steps, engine, head
        self._epochs = Epochs.from_steps(steps)
        self._history = TrainingHistory()

    def steps_left(self) -> Sequence[Step]:
        """The steps that are still to be done."""
        return self._steps[len(self._history.losses) :]

    def resume(self) -> None:
        """Continues from the newest checkpoint that fits, if there is one."""
        checkpoints, weights = self._hooks.checkpoints, self._hooks.weights
        if checkpoints is None:
            return

        def fits(history: TrainingHistory) -> bool:
            finished = sum(end <= len(history.losses) for end in self._epochs.ends)
            return len(history.epoch_scores) == finished and (
                weights is None or weights.has_earlier(history, self._epochs)
            )

        self._history = checkpoints.resume(self._engine, self._world, fits)
        if len(self._history.losses) in self._epochs.ends:
            self._save_weights()

    def run(self, batches: Iterator[TensorBatch]) -> None:
        """Does the steps that are left."""
        losses, total = self._history.losses, len(self._steps)
        report_every = max(1, total // _PROGRESS_REPORTS)
        checkpoints = self._hooks.checkpoints
        for step in self.steps_left():
            losses.append(self._take_step(batches, step))
            if len(losses) % report_every == 0 or len(losses) == total:
                self._hooks.on_step(len(losses), total, losses[-1])
            # Before the checkpoint, which implies that its epochs are scored and their weights saved.
            if len(losses) in self._epochs.ends:
                self._history.epoch_scores.append(self._score())
                self._save_weights()
            if checkpoints and checkpoints.due(len(losses), total, self._world):
                checkpoints.save(self._engine, self._history, self._world)

    def log(self) -> TrainingLog:
        """What the finished training did."""
        job, losses = self._job, self._history.losses
        return TrainingLog(
            losses=np.array(losses),
            loss_by_epoch=self._epochs.mean_losses(losses),
            score_by_epoch=tuple(self._history.epoch_scores),
            num_examples=job.examples.shape[-1],
            num_source_tokens=sum(
                int(job.data.sources.lengths_of(examples).sum())
                for examples in by_epoch(job.examples, job.training.epochs)
            ),
            num_target_tokens=int(self._epochs.weights.sum()),
        )

    def _save_weights(self) -> None:
        if self._hooks.weights is not None:
            self._hooks.weights.save(self._engine, self._job.training, self._history, self._epochs, self._world)

    def _score(self) -> float | None:
        """The model's score now, the same on every worker; training continues as if it had not been asked for."""
        if self._hooks.score_epoch is None:
            return None
        import torch

        with torch.random.fork_rng(devices=[] if self._world.device == "cpu" else [self._world.device]):
            model = full_model(self._engine, self._job.training, self._build).to(self._world.device)
            self._engine.eval()
            model.eval()
            score = self._hooks.score_epoch(model)
            self._engine.train()
        return from_first_worker(lambda: score, self._world)

    def _take_step(self, batches: Iterator[TensorBatch], step: Step) -> float:
        """One optimizer step; returns its loss, the same on every worker."""
        import torch
        import torch.distributed as dist

        accumulation_steps, world, engine = self._job.accumulation_steps, self._world, self._engine
        step_loss = torch.zeros((), dtype=torch.float64, device=world.device)
        loss = math.nan
        for index in range(accumulation_steps):
            summed = summed_loss(engine, self._head, next(batches).to(world.device))
            step_loss += summed.detach().double() / step.num_target_tokens
            # DeepSpeed divides by the accumulation steps and averages over the workers; the mean here is over tokens.
            engine.backward(summed * (accumulation_steps * world.size / step.num_target_tokens))
            if index == accumulation_steps - 1:
                if world.size > 1:
                    dist.all_reduce(step_loss)
                # The only time that a step waits for a GPU, which is busy with the backward pass by then: a loss that
                # is not finite must not reach the weights.
                loss = step_loss.item()
                if not math.isfinite(loss):
                    raise NonFiniteLossError(len(self._history.losses) + 1, loss)
            engine.step()
        return loss


def _own_batches(job: TrainingJob, steps: Sequence[Step], ids: SpecialIds, world: World) -> Iterator[TensorBatch]:
    """This worker's micro-batches of all steps."""
    for step in steps:
        for batch in micro_batches(job.data, step, job.accumulation_steps, world.rank, world.size, ids.pad):
            yield TensorBatch.from_batch(batch, ids, pinned=world.device != "cpu")


def summed_loss(model: Engine | Seq2SeqModel, head: LabelledPositions, batch: TensorBatch) -> Tensor:
    """Negative log-likelihood summed over a micro-batch's target tokens, in fp32."""
    from torch.nn.functional import cross_entropy

    with head.at(batch.positions_P):
        logits_PV = model(
            input_ids=batch.source_ids_BS,
            attention_mask=batch.source_mask_BS,
            decoder_input_ids=batch.decoder_ids_BL,
            use_cache=False,
        ).logits
    return cross_entropy(logits_PV.float(), batch.labels_P, ignore_index=IGNORED_LABEL, reduction="sum")
