"""The examples of each optimizer step, and each worker's share of them.

The order depends on seed and epoch alone, never on the number of workers: a step's examples are drawn for all workers
together and then divided.

Legend: B examples, S source tokens, L target tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simtune.config.settings import TrainingSettings
from simtune.training.batch_order import epoch_batches, padded
from simtune.training.examples import Ragged, TokenisedTasks

IGNORED_LABEL = -100


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    Attributes:
        examples: example numbers: the batch size, or as many as its tokens hold (an epoch's last step may have fewer).
        references: for each example the row of the reference to learn from.
        num_target_tokens: of the whole step, so that the loss is a mean over its tokens on any number of workers.
    """

    epoch: int
    examples: np.ndarray
    references: np.ndarray
    num_target_tokens: int


@dataclass(frozen=True)
class Batch:
    """Padded ids of one micro-batch: int64 sources [B, S] with mask [B, S], labels [B, L] with -100 for padding."""

    source_ids_BS: np.ndarray
    source_mask_BS: np.ndarray
    labels_BL: np.ndarray


def training_steps(data: TokenisedTasks, examples: np.ndarray, training: TrainingSettings, seed: int) -> list[Step]:
    """The steps of a training: each epoch takes all of its examples, in batches and an order of its own.

    An instance with several references teaches one of them, drawn again each epoch (Tk-Instruct draws at each access).

    Args:
        data: tokenised tasks.
        examples: example numbers, int64 [E] for every epoch alike or [epochs, E].
        training: batches and epochs.
        seed: of the order and of the drawn references.
    """
    reference_lengths = data.references.lengths
    steps = []
    for epoch, taken in enumerate(by_epoch(examples, training.epochs)):
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))
        first, after = data.reference_offsets[taken], data.reference_offsets[taken + 1]
        references = first + np.floor(generator.random(len(taken)) * (after - first)).astype(np.int64)
        source_lengths, target_lengths = data.sources.lengths_of(taken), reference_lengths[references]
        for batch in epoch_batches(source_lengths, target_lengths, training, generator):
            steps.append(Step(epoch, taken[batch], references[batch], int(target_lengths[batch].sum())))
    return steps


def by_epoch(examples: np.ndarray, epochs: int) -> np.ndarray:
    """Example numbers of each epoch [epochs, E], where every epoch may be alike [E]."""
    return np.broadcast_to(examples, (epochs, examples.shape[-1]))


def micro_batches(
    data: TokenisedTasks, step: Step, accumulation_steps: int, rank: int, world_size: int, pad_id: int
) -> Iterator[Batch]:
    """The share of a step of worker `rank` of `world_size`: always `accumulation_steps` micro-batches.

    In a short step some are empty; they consist of one example without labels, because every worker must take part in
    the exchange of gradients.
    """
    size = -(-len(step.examples) // (accumulation_steps * world_size))
    for index in range(accumulation_steps):
        start = (index * world_size + rank) * size
        part = slice(start, start + size)
        if len(step.examples[part]):
            yield collate(data, step.examples[part], step.references[part], pad_id)
        else:
            batch = collate(data, step.examples[:1], step.references[:1], pad_id)
            yield Batch(batch.source_ids_BS, batch.source_mask_BS, np.full_like(batch.labels_BL, IGNORED_LABEL))


def collate(data: TokenisedTasks, examples: np.ndarray, references: np.ndarray, pad_id: int) -> Batch:
    """Pads examples to the longest of them, up to a multiple of 8."""
    source_ids_BS, source_mask_BS = pad_rows(data.sources, examples, pad_id)
    label_ids_BL, label_mask_BL = pad_rows(data.references, references, pad_id)
    return Batch(source_ids_BS, source_mask_BS, np.where(label_mask_BL == 1, label_ids_BL, IGNORED_LABEL))


def pad_rows(rows: Ragged, numbers: np.ndarray, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows as a padded int64 matrix with its mask."""
    starts, lengths = rows.offsets[numbers], rows.lengths_of(numbers)
    width = padded(int(lengths.max()))
    columns = np.arange(width)
    mask = columns < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = rows.ids[(starts[:, None] + columns)[mask]]
    return ids, mask.astype(np.int64)
