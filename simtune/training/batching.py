"""Which examples make up each optimizer step, and what of it each worker takes.

The order is a function of seed and epoch alone, never of the number of workers: a step's examples are drawn for
all workers together and then dealt out.

Legend: B examples, S source tokens, L target tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simtune.training.examples import Ragged, TokenisedTasks

IGNORED_LABEL = -100
_PAD_TO_MULTIPLE_OF = 8


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    Attributes:
        examples: example numbers, at most the batch size (the last step of an epoch may have fewer).
        references: for each example the row of the reference to learn from.
        num_target_tokens: over the whole step, so that the loss is a mean over its tokens on any number of workers.
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


def num_steps(num_examples: int, batch_size: int, epochs: int) -> int:
    """Optimizer steps of a training."""
    return epochs * -(-num_examples // batch_size)


def training_steps(
    data: TokenisedTasks, examples: np.ndarray, batch_size: int, epochs: int, seed: int
) -> Iterator[Step]:
    """The steps of a training: each epoch visits every example once, in an order of its own.

    An instance with several references teaches one of them, drawn anew each epoch (Tk-Instruct draws at each access).
    """
    lengths = data.references.lengths
    for epoch in range(epochs):
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))
        order = examples[generator.permutation(len(examples))]
        first, after = data.reference_offsets[order], data.reference_offsets[order + 1]
        references = first + np.floor(generator.random(len(order)) * (after - first)).astype(np.int64)
        for start in range(0, len(order), batch_size):
            chosen = references[start : start + batch_size]
            yield Step(epoch, order[start : start + batch_size], chosen, int(lengths[chosen].sum()))


def micro_batches(
    data: TokenisedTasks,
    step: Step,
    micro_batch_size: int,
    accumulation_steps: int,
    rank: int,
    world_size: int,
    pad_id: int,
) -> Iterator[Batch]:
    """What worker `rank` of `world_size` takes of a step: always `accumulation_steps` micro-batches.

    In a short last step some are empty; such a worker takes one example without labels, because every worker must
    take part in the exchange of gradients.
    """
    for index in range(accumulation_steps):
        start = (index * world_size + rank) * micro_batch_size
        part = slice(start, start + micro_batch_size)
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
    longest = max(len(rows[number]) for number in numbers)
    width = -(-longest // _PAD_TO_MULTIPLE_OF) * _PAD_TO_MULTIPLE_OF
    ids = np.full((len(numbers), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(numbers), width), dtype=np.int64)
    for position, number in enumerate(numbers):
        row = rows[number]
        ids[position, : len(row)] = row
        mask[position, : len(row)] = 1
    return ids, mask
