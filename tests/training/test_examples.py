import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtune.config import EncodingSettings
from simtune.corpus.task import Demonstration, Instance, Task
from simtune.prompting.tokenizer import train_tokenizer
from simtune.training.examples import Ragged, tokenise_tasks


def task(name, num_instances=3, words=4, outputs=("yes", "no it is not")):
    return Task(
        name=name,
        definition="Say whether the words are in order",
        categories=("Order",),
        positive=(Demonstration("one two", "yes"), Demonstration("two one", "no")),
        negative=(),
        instances=tuple(
            Instance(str(number), " ".join(f"word{number} and{k}" for k in range(words)), outputs[: number % 2 + 1])
            for number in range(num_instances)
        ),
    )


TASKS = [task("b", 3), task("a", 2), task("c", 1)]
TOKENIZER = train_tokenizer(TASKS, 300)


def tokenised(tasks=TASKS, max_source=512, max_target=128, encoding=EncodingSettings()):  # noqa: B008
    return tokenise_tasks(tasks, encoding, max_source, max_target, TOKENIZER)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=6), max_size=8))
def test_ragged_rows_come_back(rows):
    ragged = Ragged.of(rows)
    assert len(ragged) == len(rows)
    assert [ragged[number].tolist() for number in range(len(rows))] == rows
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert (ragged.ids.dtype, ragged.offsets.dtype) == (np.int32, np.int64)


def test_examples_lie_task_after_task_with_all_their_references():
    data = tokenised()
    assert data.names == ("b", "a", "c")
    assert data.task_offsets.tolist() == [0, 3, 5, 6]
    assert data.reference_offsets.tolist() == [0, 1, 3, 4, 5, 7, 8]
    assert (data.num_cut, data.num_left_out) == (0, 0)
    assert [TOKENIZER.decode(data.references[row]) for row in (1, 2)] == ["yes", "no it is not"]
    for example in range(6):
        text = TOKENIZER.decode(data.sources[example])
        assert text.startswith("Definition: Say whether")
        assert text.endswith("Output:")
    for rows in (data.sources, data.references):
        assert all(rows[number][-1] == TOKENIZER.eos_id for number in range(len(rows)))


def test_a_long_source_loses_demonstrations_first_and_its_tail_last():
    whole = tokenised()
    longest = int(whole.sources.lengths.max())
    shorter = tokenised(max_source=longest - 1)
    assert shorter.num_left_out > 0
    assert shorter.num_cut == 0
    cut = tokenised(max_source=16)
    assert cut.num_cut == 6
    assert cut.num_left_out == 12
    assert cut.sources.lengths.max() <= 16
    assert "Output" not in TOKENIZER.decode(cut.sources[0])


def test_targets_are_cut_to_their_length():
    whole, cut = tokenised(), tokenised(max_target=2)
    assert cut.references.lengths.max() == 2
    for row in range(len(whole.references)):
        np.testing.assert_array_equal(cut.references[row], whole.references[row][:2])


def test_examples_of_tasks_do_not_depend_on_the_order_of_their_names():
    data = tokenised()
    assert data.examples_of(["c", "b"]).tolist() == data.examples_of(["b", "c"]).tolist() == [0, 1, 2, 5]
    assert data.examples_of(["a", "a"]).tolist() == [3, 4]
    assert data.examples_of([]).dtype == np.int64
    with pytest.raises(KeyError, match=r"not tokenised: .*'d'"):
        data.examples_of(["a", "d"])


def test_a_tasks_examples_do_not_depend_on_its_neighbours():
    alone, together = tokenised([TASKS[1]], max_source=40), tokenised(max_source=40)
    for own, example in enumerate(together.examples_of(["a"])):
        np.testing.assert_array_equal(alone.sources[own], together.sources[example])
