"""Batches of similar length: every example once, little padding, and chance in everything but who shares a batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtune.config import TrainingSettings
from simtune.training.batch_order import epoch_batches, expected_steps, padded


def lengths_like_the_real_ones(num_examples: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.clip(generator.lognormal(5.5, 0.6, num_examples), 16, 1024).astype(np.int64)


def batches_of(
    lengths: np.ndarray, seed: int = 0, targets: np.ndarray | None = None, **fields: object
) -> list[np.ndarray]:
    targets = np.full(len(lengths), 4) if targets is None else targets
    return epoch_batches(lengths, targets, TrainingSettings(**fields), np.random.default_rng(seed))


def real_share(batches: list[np.ndarray], lengths: np.ndarray) -> float:
    return float(lengths.sum() / sum(len(batch) * padded(int(lengths[batch].max())) for batch in batches))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 64), max_size=300),
    st.sampled_from(["length", "random"]),
    st.integers(1, 40),
    st.none() | st.integers(64, 600),
    st.integers(0, 5),
)
def test_every_example_comes_once_and_no_batch_is_too_large(
    lengths: list[int], batching: str, batch_size: int, tokens: int | None, seed: int
) -> None:
    array = np.array(lengths, dtype=np.int64)
    fields = {"batching": batching, "batch_size": batch_size, "tokens_per_batch": tokens, "max_source_tokens": 64}
    batches = batches_of(array, seed, **fields)
    assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(len(array)))
    assert all(len(batch) for batch in batches)
    if tokens is None:
        assert len(batches) == expected_steps(len(array), 1.0, TrainingSettings(epochs=1, **fields))
        assert all(len(batch) == batch_size for batch in batches[:-1])
    else:
        assert all(len(batch) * padded(int(array[batch].max())) <= tokens for batch in batches)


def test_little_is_padding_and_the_order_does_not_depend_on_length() -> None:
    lengths = lengths_like_the_real_ones(6000)
    batches = batches_of(lengths)
    assert real_share(batches, lengths) > 0.85 > 0.5 > real_share(batches_of(lengths, batching="random"), lengths)
    means = [lengths[batch].mean() for batch in batches]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.15


@pytest.mark.parametrize("num_examples", [320, 6000])
def test_batches_have_other_examples_in_every_epoch(num_examples: int) -> None:
    lengths = lengths_like_the_real_ones(num_examples)
    one, two = ({frozenset(batch.tolist()) for batch in batches_of(lengths, seed)} for seed in (1, 2))
    # The few longest are alike in nothing but being long.
    assert len(one & two) <= 0.15 * len(one)


def test_the_short_batch_is_of_any_length() -> None:
    lengths = np.arange(1, 101)
    short = [lengths[batches_of(lengths, seed, batch_size=16)[-1]].mean() for seed in range(200)]
    assert 45 < np.mean(short) < 56


def test_long_targets_are_kept_apart_from_short_ones() -> None:
    lengths, targets = np.full(64, 40), np.tile([2, 120], 32)
    batches = batches_of(lengths, targets=targets, batch_size=8)
    assert all(len(set(targets[batch])) == 1 for batch in batches)


def test_the_expected_steps_of_a_budget_of_tokens_are_about_right() -> None:
    lengths = lengths_like_the_real_ones(6000)
    for batching in ("length", "random"):
        fields = {"batching": batching, "tokens_per_batch": 8192}
        expected = expected_steps(len(lengths), float(lengths.mean()), TrainingSettings(epochs=1, **fields))
        assert expected == pytest.approx(len(batches_of(lengths, **fields)), rel=0.25)
