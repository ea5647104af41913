from collections import Counter

import numpy as np
import pytest

from simtune.config import TrainingSettings
from simtune.training.examples import Ragged, TokenisedTasks
from simtune.training.steps import IGNORED_LABEL, micro_batches, pad_rows, training_steps

PAD = 0


def made(num_examples=23, seed=0):
    """Examples of one to four references; every token identifies its example, so that a mix-up is visible."""
    generator = np.random.default_rng(seed)
    num_references = generator.integers(1, 5, num_examples)
    offsets = np.concatenate([[0], np.cumsum(num_references)])
    sources = [[1000 + example] * generator.integers(1, 20) for example in range(num_examples)]
    references = [[5000 + row] * generator.integers(1, 12) for row in range(offsets[-1])]
    return TokenisedTasks(
        names=("a",),
        task_offsets=np.array([0, num_examples]),
        sources=Ragged.from_rows(sources),
        references=Ragged.from_rows(references),
        reference_offsets=offsets,
        num_cut=0,
        num_left_out=0,
    )


def steps_of(data, batch_size=8, epochs=3, seed=0, examples=None, **more):
    examples = np.arange(len(data.sources)) if examples is None else examples
    training = TrainingSettings(batch_size=batch_size, epochs=epochs, **more)
    return training_steps(data, examples, training, seed)


@pytest.mark.parametrize("batching", ["length", "random"])
@pytest.mark.parametrize("batch_size", [1, 8, 23, 100])
def test_every_epoch_visits_every_example_once_in_an_order_of_its_own(batch_size, batching):
    data, examples = made(), np.arange(3, 20)
    steps = steps_of(data, batch_size, epochs=3, examples=examples, batching=batching)
    assert len(steps) == 3 * -(-len(examples) // batch_size)
    orders = [np.concatenate([s.examples for s in steps if s.epoch == epoch]) for epoch in range(3)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), examples)
    assert len({tuple(order) for order in orders}) == 3
    in_epoch = [len(step.examples) for step in steps if step.epoch == 1]
    assert all(size == min(batch_size, 17) for size in in_epoch[:-1])
    assert in_epoch[-1] == (17 % batch_size or batch_size if batch_size <= 17 else 17)


def test_the_seed_decides_everything():
    data = made()

    def flat(**settings):
        return [(s.examples.tolist(), s.references.tolist(), s.num_target_tokens) for s in steps_of(data, **settings)]

    assert flat(seed=1) == flat(seed=1)
    assert flat(seed=1) != flat(seed=2)
    # A longer training begins as a shorter one.
    assert flat(seed=1, epochs=3)[:6] == flat(seed=1, epochs=2)


def test_references_are_drawn_among_the_instances_own_and_all_of_them():
    data = made(num_examples=6, seed=3)
    seen = Counter()
    for step in steps_of(data, batch_size=4, epochs=300):
        first, after = data.reference_offsets[step.examples], data.reference_offsets[step.examples + 1]
        assert ((first <= step.references) & (step.references < after)).all()
        assert step.num_target_tokens == sum(len(data.references[row]) for row in step.references)
        seen.update(step.references.tolist())
    for example in range(6):
        rows = range(data.reference_offsets[example], data.reference_offsets[example + 1])
        assert sum(seen[row] for row in rows) == 300
        assert all(seen[row] > 300 / len(rows) / 2 for row in rows)


def rows_of(batch):
    """(source, target) of each row that has labels, without padding."""
    for source, mask, labels in zip(batch.source_ids_BS, batch.source_mask_BS, batch.labels_BL, strict=True):
        if (labels != IGNORED_LABEL).any():
            yield tuple(source[mask == 1].tolist()), tuple(labels[labels != IGNORED_LABEL].tolist())


@pytest.mark.parametrize(("world_size", "accumulation_steps"), [(1, 1), (1, 4), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1)])
def test_the_micro_batches_of_all_workers_make_up_the_step(world_size, accumulation_steps):
    data, batch_size = made(), 8
    for step in steps_of(data, batch_size, epochs=2):
        taken = []
        for rank in range(world_size):
            batches = list(micro_batches(data, step, accumulation_steps, rank, world_size, PAD))
            # Every worker takes part in every exchange of gradients, in the short last step too.
            assert len(batches) == accumulation_steps
            assert all(len(batch.source_ids_BS) >= 1 for batch in batches)
            taken += [row for batch in batches for row in rows_of(batch)]
        expected = [
            (tuple(data.sources[example].tolist()), tuple(data.references[row].tolist()))
            for example, row in zip(step.examples, step.references, strict=True)
        ]
        assert Counter(taken) == Counter(expected)
        assert sum(len(target) for _, target in taken) == step.num_target_tokens


def test_a_step_of_one_example_leaves_the_other_workers_without_labels():
    data = made(num_examples=1)
    (step,) = steps_of(data, epochs=1)
    batches = [next(micro_batches(data, step, 1, rank, 4, PAD)) for rank in range(4)]
    assert [(batch.labels_BL != IGNORED_LABEL).any() for batch in batches] == [True, False, False, False]
    assert all((batch.source_mask_BS == 1).any() for batch in batches)


def test_rows_are_padded_to_a_multiple_of_eight_and_no_more():
    rows = Ragged.from_rows([[7] * 8, [9], [5] * 9, []])
    for numbers, width in (([0, 1], 8), ([1], 8), ([0, 2, 1, 3], 16)):
        ids, mask = pad_rows(rows, np.array(numbers), PAD)
        assert ids.shape == mask.shape == (len(numbers), width)
        assert ids.dtype == mask.dtype == np.int64
        for position, number in enumerate(numbers):
            length = len(rows[number])
            np.testing.assert_array_equal(ids[position], [*rows[number], *[PAD] * (width - length)])
            np.testing.assert_array_equal(mask[position], [1] * length + [0] * (width - length))


def test_a_token_that_equals_the_padding_is_still_a_label():
    data = TokenisedTasks(
        ("a",), np.array([0, 1]), Ragged.from_rows([[PAD, 4]]), Ragged.from_rows([[PAD, 6]]), np.array([0, 1]), 0, 0
    )
    (step,) = steps_of(data, epochs=1)
    batch = next(micro_batches(data, step, 1, 0, 1, PAD))
    np.testing.assert_array_equal(batch.labels_BL[0], [PAD, 6, *[IGNORED_LABEL] * 6])
    assert batch.source_mask_BS.sum() == 2
