import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from simtune.config import EncodingSettings
from simtune.corpus.task import Demonstration, Instance, Task
from simtune.prompting.registry import make_renderer
from simtune.prompting.tokenizer import TextTokenizer, train_tokenizer
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
    ragged = Ragged.from_rows(rows)
    assert len(ragged) == len(rows)
    assert [ragged[number].tolist() for number in range(len(rows))] == rows
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert (ragged.ids.dtype, ragged.offsets.dtype) == (np.int32, np.int64)


def test_examples_are_ordered_by_task_with_all_their_references():
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


@pytest.mark.parametrize("limit", [8, 16, 20])
def test_a_cut_source_ends_as_the_collators_does(limit):
    """Against the library: ids cut, decoded, spaces closed, and that text read again with truncation."""
    library = library_tokenizer()
    prompts = [prompt.source for one in TASKS for prompt in whole_prompts(one, limit)]
    expected = []
    for prompt in prompts:
        ids = library(prompt)["input_ids"]
        text = prompt
        if len(ids) > limit:
            text = library.decode(ids[:limit], skip_special_tokens=True, clean_up_tokenization_spaces=True)
        expected.append(library(text, max_length=limit, truncation=True)["input_ids"])
    cut = tokenised(max_source=limit)
    assert [cut.sources[row].tolist() for row in range(len(prompts))] == expected
    assert cut.num_cut > 0
    assert all(row[-1] == TOKENIZER.eos_id for row in expected)


def test_a_token_on_either_side_of_a_text_is_kept():
    whole = Tokenizer(models.WordLevel({"?": 0, "<s>": 1, "</s>": 2, "a": 3, "b": 4, "c": 5}, unk_token="?"))  # noqa: S106
    whole.pre_tokenizer = pre_tokenizers.Whitespace()
    whole.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    tokenizer = TextTokenizer(whole, 0, 2, "test")
    texts = ["a b c", "a b", "", "a b c a b c"]
    for limit in range(2, 9):
        whole.enable_truncation(limit)
        expected = [encoding.ids for encoding in whole.encode_batch(texts)]
        whole.no_truncation()
        assert tokenizer.encode_within(texts, limit) == expected


def library_tokenizer():
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=TOKENIZER.tokenizer, pad_token="<pad>", eos_token="</s>")  # noqa: S106


def whole_prompts(one, limit):
    return make_renderer(EncodingSettings()).render(one, one.instances, limit, TOKENIZER.count_tokens)


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_targets_are_cut_to_their_length_and_end_all_the_same(limit):
    cut = tokenised(max_target=limit)
    outputs = [output for one in TASKS for instance in one.instances for output in instance.outputs]
    expected = library_tokenizer()(outputs, max_length=limit, truncation=True)["input_ids"]
    assert [cut.references[row].tolist() for row in range(len(outputs))] == expected
    assert cut.references.lengths.max() == limit
    assert all(row[-1] == TOKENIZER.eos_id for row in expected)


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


def test_sources_without_the_end_token_may_have_one_more_of_text():
    without = EncodingSettings(end_of_source=False)
    ended, open_ended = tokenised(), tokenised(encoding=without)
    for example in range(len(ended.sources)):
        assert ended.sources[example][-1] == TOKENIZER.eos_id
        assert open_ended.sources[example].tolist() == ended.sources[example][:-1].tolist()
    assert open_ended.references.ids.tolist() == ended.references.ids.tolist()
    longest = int(ended.sources.lengths.max())
    assert tokenised(max_source=longest - 1).num_left_out > 0
    assert tokenised(max_source=longest - 1, encoding=without).num_left_out == 0
    cut = tokenised(max_source=16, encoding=without)
    assert cut.num_cut == 6
    assert all(15 <= len(cut.sources[example]) <= 16 for example in range(6))
    assert TOKENIZER.eos_id not in [cut.sources[example][-1] for example in range(6)]


def test_answer_choices_are_the_labels_of_tasks_that_have_few():
    labels, free = task("labels", 8), task("free", 3)
    assert tokenised([labels]).choices is None
    data = tokenise_tasks([labels, free], EncodingSettings(), 512, 128, TOKENIZER, max_choices=3)
    assert data.choices is not None
    assert data.choices.offsets.tolist() == [0, 3, 6, 9, 12, 15, 18, 21, 24, 24, 24, 24]
    assert data.choices.texts_of(7) == ("no", "no it is not", "yes")
    assert [ids.tolist() for ids in data.choices.ids_of(7)] == TOKENIZER.encode_batch(["no", "no it is not", "yes"])
    assert data.choices.ids_of(8) == []
    few = tokenise_tasks([labels], EncodingSettings(), 512, 128, TOKENIZER, max_choices=2)
    assert few.choices is not None
    assert len(few.choices.ids) == 0
