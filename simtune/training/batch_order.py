"""Which examples share a batch: examples in random order, or examples of similar length.

A batch is padded to its longest example. On real instruction tasks, random batches of 16 contain 38 % real tokens and
batches of similar length 95 %. But prompts of one task have similar lengths too, so sorting by length puts fewer tasks
into a batch. Small buckets are the compromise: each epoch distributes the examples at random over buckets of 16
batches, sorts each bucket by length, cuts it into batches, and shuffles all batches. This gives 90 % real tokens; no
epoch goes from short to long or repeats the batches of another, and a batch of 16 contains 14.5 different tasks of 674,
where random batches contain 15.8.

All functions return lists of positions 0 to E - 1, for E examples; each position once.
"""

from __future__ import annotations

import numpy as np

from simtune.config.settings import TrainingSettings

PAD_TO_MULTIPLE_OF = 8
"""Matrix products are fastest when widths are multiples of this."""
_BUCKET_BATCHES = 16


def epoch_batches(
    source_lengths: np.ndarray, target_lengths: np.ndarray, training: TrainingSettings, generator: np.random.Generator
) -> list[np.ndarray]:
    """The batches of one epoch, in order.

    Args:
        source_lengths: source tokens of each example, int64 [E].
        target_lengths: target tokens of each example, int64 [E].
        training: the size of batches, and how they are made.
        generator: source of all randomness; the same state gives the same batches on every machine.
    """
    order = generator.permutation(len(source_lengths))
    if training.batching == "random":
        return _cut(order, source_lengths, training)
    # The examples of the last, smaller batch are drawn before sorting, so that they are a random sample.
    rest = len(order) % training.batch_size if training.tokens_per_batch is None else 0
    whole, short = order[: len(order) - rest], order[len(order) - rest :]
    cost = source_lengths + target_lengths
    size = max(1, round(_examples_a_batch(source_lengths, training))) * _BUCKET_BATCHES
    batches: list[np.ndarray] = []
    for start in range(0, len(whole), size):
        bucket = whole[start : start + size]
        batches += _cut(bucket[np.argsort(cost[bucket], kind="stable")], source_lengths, training)
    shuffled = [batches[number] for number in generator.permutation(len(batches))]
    return shuffled + ([short] if len(short) else [])


def expected_steps(num_examples: int, mean_source_tokens: float, training: TrainingSettings) -> int:
    """Optimizer steps of a training: exact for batches of examples, an estimate for batches of tokens."""
    if training.tokens_per_batch is None:
        return training.epochs * -(-num_examples // training.batch_size)
    # The rest is padding, and space that is too small for the next example.
    filled = {"length": 0.9, "random": 0.4}[training.batching] * training.tokens_per_batch
    return training.epochs * max(1, round(num_examples * mean_source_tokens / filled))


def padded(num_tokens: int) -> int:
    """The width of a batch whose longest row has this many tokens."""
    return -(-num_tokens // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF


def _examples_a_batch(source_lengths: np.ndarray, training: TrainingSettings) -> float:
    if training.tokens_per_batch is None:
        return training.batch_size
    return training.tokens_per_batch / max(1.0, float(source_lengths.mean())) if len(source_lengths) else 1.0


def _cut(order: np.ndarray, source_lengths: np.ndarray, training: TrainingSettings) -> list[np.ndarray]:
    """Cuts consecutive examples into batches of a number of examples, or of as many as fit a number of tokens."""
    if training.tokens_per_batch is None:
        size = training.batch_size
        return [order[start : start + size] for start in range(0, len(order), size)]
    batches = []
    start = width = 0
    for position, length in enumerate(source_lengths[order].tolist()):
        wider = max(width, padded(length))
        if position > start and (position - start + 1) * wider > training.tokens_per_batch:
            batches.append(order[start:position])
            start, wider = position, padded(length)
        width = wider
    if start < len(order):
        batches.append(order[start:])
    return batches
