"""Which examples share a batch: examples in random order, or those of similar length.

A batch is padded to its longest example. On real instruction tasks random batches of 16 are 38 % real tokens, batches
of similar length 95 %. But prompts of one task are alike in length too, so the more alike a batch is, the fewer tasks
it holds. Hence small buckets: each epoch deals the examples into new ones, of 16 batches each, sorts each by length,
cuts it, and shuffles the batches of all. That is 90 % real tokens; no epoch goes from short to long, none makes the
batches of another, and a batch of 16 holds 14.5 of 674 tasks, where random ones hold 15.8.

All functions give lists of positions 0 to E - 1, for E examples; each position once.
"""

from __future__ import annotations

import numpy as np

from simtune.config.settings import TrainingSettings

PAD_TO_MULTIPLE_OF = 8
"""Matrix products are fastest at such widths."""
_BUCKET_BATCHES = 16


def epoch_batches(
    source_lengths: np.ndarray, target_lengths: np.ndarray, training: TrainingSettings, generator: np.random.Generator
) -> list[np.ndarray]:
    """The batches of one epoch, in the order they are taken.

    Args:
        source_lengths, target_lengths: tokens of each example, int64 [E].
        generator: decides everything that is left to chance; the same state gives the same batches anywhere.
    """
    order = generator.permutation(len(source_lengths))
    if training.batching == "random":
        return _cut(order, source_lengths, training)
    # What fills no batch is drawn before lengths are looked at, so that no kind of example is always among it.
    rest = len(order) % training.batch_size if training.tokens_per_batch is None else 0
    whole, short = order[: len(order) - rest], order[len(order) - rest :]
    cost = source_lengths + target_lengths
    size = max(1, round(_examples_a_batch(source_lengths, training))) * _BUCKET_BATCHES
    batches: list[np.ndarray] = []
    for start in range(0, len(whole), size):
        bucket = whole[start : start + size]
        batches += _cut(bucket[np.argsort(cost[bucket], kind="stable")], source_lengths, training)
    shuffled = [batches[place] for place in generator.permutation(len(batches))]
    return shuffled + ([short] if len(short) else [])


def expected_steps(num_examples: int, mean_source_tokens: float, training: TrainingSettings) -> int:
    """Optimizer steps of a training: exact for batches of examples, about so many for batches of tokens."""
    if training.tokens_per_batch is None:
        return training.epochs * -(-num_examples // training.batch_size)
    # Padding, and the place that the next example would not have fitted into.
    filled = {"length": 0.9, "random": 0.4}[training.batching] * training.tokens_per_batch
    return training.epochs * max(1, round(num_examples * mean_source_tokens / filled))


def padded(num_tokens: int) -> int:
    """A width that holds so many tokens."""
    return -(-num_tokens // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF


def _examples_a_batch(source_lengths: np.ndarray, training: TrainingSettings) -> float:
    if training.tokens_per_batch is None:
        return training.batch_size
    return training.tokens_per_batch / max(1.0, float(source_lengths.mean())) if len(source_lengths) else 1.0


def _cut(order: np.ndarray, source_lengths: np.ndarray, training: TrainingSettings) -> list[np.ndarray]:
    """Consecutive examples as batches of a number of examples, or of as many as a budget of tokens holds."""
    if training.tokens_per_batch is None:
        size = training.batch_size
        return [order[start : start + size] for start in range(0, len(order), size)]
    batches = []
    start = width = 0
    for place, length in enumerate(source_lengths[order].tolist()):
        wider = max(width, padded(length))
        if place > start and (place - start + 1) * wider > training.tokens_per_batch:
            batches.append(order[start:place])
            start, wider = place, padded(length)
        width = wider
    if start < len(order):
        batches.append(order[start:])
    return batches
