"""The fine-tuning loop: steps of equal effective batch through a DeepSpeed engine.

The loss of a step is the mean negative log-likelihood over all target tokens of the step, whatever the number of
workers and micro-batches, so that these decide seconds and not results.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from simtune.config.settings import TrainingSettings
from simtune.errors import NonFiniteLossError
from simtune.training.batching import IGNORED_LABEL, Batch, Step, micro_batches, num_steps, training_steps
from simtune.training.engine import World, full_model, start_engine
from simtune.training.examples import TokenisedTasks

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
) -> tuple[Any, TrainingLog]:
    """Fine-tunes a model on examples of the shared data.

    Args:
        build: makes the model with its initial weights.
        examples: example numbers of the trial's tasks.
        seed: of the order of the examples, the drawn references and dropout.

    Returns:
        the model with all its weights on this worker, in the precision it was trained in, and the log.

    Raises:
        NonFiniteLossError: on every worker, before the optimizer step.
    """
    import torch

    total = num_steps(len(examples), training.batch_size, training.epochs)
    micro_batch_size = training.batch_size // (accumulation_steps * world.size)
    model = build()
    torch.manual_seed(seed * 100_003 + world.rank)
    engine = start_engine(model, training, micro_batch_size, accumulation_steps, world, total)
    engine.train()
    losses: list[float] = []
    weights: list[int] = []
    epochs: list[int] = []
    num_source_tokens = 0
    report_every = max(1, total // _PROGRESS_REPORTS)
    for step in training_steps(data, examples, training.batch_size, training.epochs, seed):
        loss = _take_step(engine, data, step, micro_batch_size, accumulation_steps, pad_id, world, len(losses))
        losses.append(loss)
        weights.append(step.num_target_tokens)
        epochs.append(step.epoch)
        num_source_tokens += int(data.sources.lengths[step.examples].sum())
        if len(losses) % report_every == 0 or len(losses) == total:
            on_step(len(losses), total, loss)
    log = TrainingLog(
        losses=np.array(losses),
        loss_by_epoch=tuple(
            float(
                np.average(
                    np.array(losses)[np.array(epochs) == epoch],
                    weights=np.array(weights)[np.array(epochs) == epoch],
                )
            )
            for epoch in range(training.epochs)
        ),
        num_examples=len(examples),
        num_source_tokens=num_source_tokens,
        num_target_tokens=sum(weights),
    )
    trained = full_model(engine, training, build, world)
    engine.destroy()
    return trained, log


def _take_step(
    engine: Any,
    data: TokenisedTasks,
    step: Step,
    micro_batch_size: int,
    accumulation_steps: int,
    pad_id: int,
    world: World,
    number: int,
) -> float:
    """One optimizer step; returns its loss, the same on every worker."""
    import torch
    import torch.distributed as dist

    step_loss = torch.zeros((), dtype=torch.float64, device=world.device)
    batches = micro_batches(data, step, micro_batch_size, accumulation_steps, world.rank, world.size, pad_id)
    for index, batch in enumerate(batches):
        summed = summed_loss(engine, batch, world.device)
        step_loss += summed.detach().double() / step.num_target_tokens
        if index == accumulation_steps - 1:
            if world.size > 1:
                dist.all_reduce(step_loss)
            if not math.isfinite(step_loss.item()):
                raise NonFiniteLossError(number + 1, step_loss.item())
        # DeepSpeed divides by the accumulation steps and averages over the workers; the mean here is over tokens.
        engine.backward(summed * (accumulation_steps * world.size / step.num_target_tokens))
        engine.step()
    return step_loss.item()


def summed_loss(model: Any, batch: Batch, device: str) -> Any:
    """Negative log-likelihood summed over a micro-batch's target tokens, in fp32."""
    import torch
    from torch.nn.functional import cross_entropy

    labels_BL = torch.from_numpy(batch.labels_BL).to(device)
    # T5 starts decoding with the padding token and reads each label one place later.
    decoder_ids_BL = torch.zeros_like(labels_BL)
    decoder_ids_BL[:, 1:] = labels_BL[:, :-1].clamp(min=0)
    logits_BLV = model(
        input_ids=torch.from_numpy(batch.source_ids_BS).to(device),
        attention_mask=torch.from_numpy(batch.source_mask_BS).to(device),
        decoder_input_ids=decoder_ids_BL,
        use_cache=False,
    ).logits
    return cross_entropy(
        logits_BLV.float().flatten(0, 1), labels_BL.flatten(), ignore_index=IGNORED_LABEL, reduction="sum"
    )
