"""The fine-tuning loop: steps of equal effective batch through a DeepSpeed engine.

The loss of a step is the mean negative log-likelihood over all target tokens of the step, whatever the number of
workers and micro-batches: these decide seconds, and of the results no more than rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simtune.config.settings import TrainingSettings
from simtune.errors import NonFiniteLossError
from simtune.training.checkpoints import Checkpoints
from simtune.training.engine import World, full_model, start_engine
from simtune.training.examples import TokenisedTasks
from simtune.training.labelled_logits import LabelledPositions, TensorBatch
from simtune.training.prefetch import ahead
from simtune.training.process_memory import keep_freed_memory
from simtune.training.saved_weights import Kept
from simtune.training.special_ids import SpecialIds
from simtune.training.steps import IGNORED_LABEL, Epochs, Step, micro_batches, training_steps

OnStep = Callable[[int, int, float], None]
"""Called with steps done, steps in all, and the loss of the last step, at the same steps on every worker."""

_PROGRESS_REPORTS = 20


@dataclass(frozen=True)
class TrainingLog:
    """What a training did; equal for equal inputs on one kind of machine.

    Attributes:
        losses: one a step, float64 [steps], nats a target token.
        loss_by_epoch: mean over the target tokens of each epoch.
        num_source_tokens, num_target_tokens: read over all epochs, padding not counted.
    """

    losses: np.ndarray
    loss_by_epoch: tuple[float, ...]
    num_examples: int
    num_source_tokens: int
    num_target_tokens: int

    @property
    def num_steps(self) -> int:
        return len(self.losses)


def fine_tune(
    build: Callable[[], Any],
    data: TokenisedTasks,
    examples: np.ndarray,
    training: TrainingSettings,
    accumulation_steps: int,
    seed: int,
    pad_id: int,
    world: World,
    on_step: OnStep = lambda done, total, loss: None,
    checkpoints: Checkpoints | None = None,
    kept: Kept | None = None,
) -> tuple[Any, TrainingLog]:
    """Fine-tunes a model on examples of the shared data.

    Args:
        build: makes the model with its initial weights.
        examples: example numbers of the trial's tasks.
        seed: of the order of the examples, the drawn references and dropout.
        pad_id: fills short sources up.
        checkpoints: from where to go on, and where to leave what an interrupted training needs.
        kept: where weights go that are to stay.

    Returns:
        the model with all its weights on this worker, in the precision it was trained in, and the log.

    Raises:
        NonFiniteLossError: on every worker, before the optimizer step.
    """
    import torch

    steps = training_steps(data, examples, training, seed)
    if world.device == "cpu":
        keep_freed_memory()
    model = build()
    torch.manual_seed(seed * 100_003 + world.rank)
    with ExitStack() as tidy:
        if world.device == "cpu" and not training.compile:
            from simtune.training.cpu_attention import CpuKernels

            tidy.callback(CpuKernels(model).remove)
        engine = start_engine(model, training, len(steps), accumulation_steps, world)
        engine.train()
        head = LabelledPositions(engine.module)
        tidy.callback(head.remove)
        epochs = Epochs.of(steps)
        losses: list[float] = []
        if checkpoints:
            losses += checkpoints.resume(engine, world, lambda done: kept is None or kept.has_earlier(done, epochs))
        if kept and len(losses) in epochs.ends:
            kept.save(engine, training, losses, epochs, world)
        steps_left = steps[len(losses) :]
        own = _own_batches(data, steps_left, accumulation_steps, replace(SpecialIds.of(model), pad=pad_id), world)
        batches = ahead(own, depth=2 * accumulation_steps)
        tidy.callback(batches.close)
        report_every = max(1, len(steps) // _PROGRESS_REPORTS)
        for step in steps_left:
            losses.append(_take_step(engine, head, batches, step, accumulation_steps, world, len(losses)))
            if len(losses) % report_every == 0 or len(losses) == len(steps):
                on_step(len(losses), len(steps), losses[-1])
            # Before the checkpoint, which says that what its epochs keep is there.
            if kept and len(losses) in epochs.ends:
                kept.save(engine, training, losses, epochs, world)
            if checkpoints and checkpoints.due(len(losses), len(steps), world):
                checkpoints.save(engine, losses, world)
    log = TrainingLog(
        losses=np.array(losses),
        loss_by_epoch=epochs.mean_losses(losses),
        num_examples=len(examples),
        num_source_tokens=training.epochs * int(data.sources.lengths[examples].sum()),
        num_target_tokens=int(epochs.weights.sum()),
    )
    trained = full_model(engine, training, build, world)
    engine.destroy()
    return trained, log


def _own_batches(
    data: TokenisedTasks, steps: Sequence[Step], accumulation_steps: int, ids: SpecialIds, world: World
) -> Iterator[TensorBatch]:
    """This worker's micro-batches of all steps."""
    for step in steps:
        for batch in micro_batches(data, step, accumulation_steps, world.rank, world.size, ids.pad):
            yield TensorBatch.of(batch, ids, pinned=world.device != "cpu")


def _take_step(
    engine: Any,
    head: LabelledPositions,
    batches: Iterator[TensorBatch],
    step: Step,
    accumulation_steps: int,
    world: World,
    number: int,
) -> float:
    """One optimizer step; returns its loss, the same on every worker."""
    import torch
    import torch.distributed as dist

    step_loss = torch.zeros((), dtype=torch.float64, device=world.device)
    loss = math.nan
    for index in range(accumulation_steps):
        summed = summed_loss(engine, head, next(batches).to(world.device))
        step_loss += summed.detach().double() / step.num_target_tokens
        # DeepSpeed divides by the accumulation steps and averages over the workers; the mean here is over tokens.
        engine.backward(summed * (accumulation_steps * world.size / step.num_target_tokens))
        if index == accumulation_steps - 1:
            if world.size > 1:
                dist.all_reduce(step_loss)
            # The one moment a step waits for a GPU, which has the backward pass to do by then: a loss that is not
            # finite must not reach the weights.
            loss = step_loss.item()
            if not math.isfinite(loss):
                raise NonFiniteLossError(number + 1, loss)
        engine.step()
    return loss


def summed_loss(model: Any, head: LabelledPositions, batch: TensorBatch) -> Any:
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
