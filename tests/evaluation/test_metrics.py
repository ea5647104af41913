import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_scores import published_exact_match, published_rouge_l, texts
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from simtune.evaluation import metrics
from simtune.evaluation.metrics import exact_matches, rouge_l, rouge_l_scores, rouge_tokenize


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("", "yes", 0.0),
        ("yes", "", 0.0),
        ("Yes.", "yes", 1.0),
        ("#", "#", 0.0),
        ("a a a", "a", 0.5),
        ("-3", "3", 1.0),
        ("relations relate", "relational relating", 1.0),
        ("こんにちは", "こんにちは", 0.0),
        ("the cat sat", "sat the cat", 2 / 3),
    ],
)
def test_known_behaviour_of_rouge_l(prediction, reference, expected):
    assert rouge_l(prediction, [reference]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        ("  YES!! ", ["no", "yes"], True),
        ("the cat", ["cat"], False),
        ("state-of-the-art", ["stateoftheart"], True),
        ("a\u00a0b\tc", ["a b c"], True),
        ("", ["!"], True),
        ("“yes”", ["yes"], False),
    ],
)
def test_exact_match_keeps_articles_and_removes_ascii_punctuation_only(prediction, references, expected):
    assert exact_matches([(prediction, references)]) == [expected]


def test_the_best_reference_counts_whatever_its_position():
    references = ["nothing alike", "a dog", "the big dog barked"]
    assert rouge_l("the big dog barked", references) == rouge_l("the big dog barked", references[::-1]) == 1.0


@pytest.mark.parametrize("references", [[], "yes"])
def test_a_missing_reference_list_is_an_error(references):
    with pytest.raises(ValueError, match="references"):
        rouge_l("yes", references)
    with pytest.raises(ValueError, match="references"):
        exact_matches([("yes", references)])


@settings(max_examples=300, deadline=None)
@given(texts, st.lists(texts, min_size=1, max_size=3))
def test_any_pair_scores_as_published(prediction, references):
    assert rouge_l(prediction, references) == pytest.approx(published_rouge_l(prediction, references), abs=1e-9)
    assert exact_matches([(prediction, references)])[0] == published_exact_match(prediction, references)


@settings(max_examples=200, deadline=None)
@given(texts, texts)
def test_another_tokenizer_scores_as_rouge_score_with_it(prediction, reference):
    class Spaces:
        def tokenize(self, text):
            return text.split(" ")  # yields empty tokens, which count

    expected = published_rouge_l(prediction, [reference], RougeScorer(["rougeL"], tokenizer=Spaces()))
    assert rouge_l(prediction, [reference], Spaces().tokenize) == pytest.approx(expected, abs=1e-9)


# Words that apply one rule of the stemmer after another.
stemmed = st.lists(
    st.builds(
        "".join,
        st.tuples(
            st.text("abcdeilosty0", max_size=5),
            st.sampled_from(["", "ed", "ing", "ies", "eed", "ation", "izer", "alli", "biliti", "ful", "ness", "logi"]),
            st.sampled_from(
                ["", "s", "ly", "al", "ence", "er", "or", "ism", "ic", "ement", "ion", "ou", "y", "ll", "um"]
            ),
        ),
    ),
    max_size=8,
).map(" ".join)


@settings(max_examples=500, deadline=None)
@given(st.one_of(stemmed, texts))
def test_tokens_are_those_of_rouge_score_however_little_is_remembered(text):
    expected = DefaultTokenizer(use_stemmer=True).tokenize(text)
    assert rouge_tokenize(text) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "_STEMS", metrics._Stems())
        patch.setattr(metrics, "_REMEMBERED_WORDS", 2)
        patch.setattr(metrics, "_REMEMBERED_WORD_CHARS", 6)
        patch.setattr(metrics, "_PIECE_CHARS", 7)
        assert rouge_tokenize(text) == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), max_size=8), st.integers(1, 3))
def test_many_pairs_score_as_each_by_itself_wherever_they_are_cut(pairs, chunk):
    expected = [(published_rouge_l(*pair), published_exact_match(*pair)) for pair in pairs]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "_CHUNK", chunk)
        assert list(zip(rouge_l_scores(iter(pairs)), exact_matches(iter(pairs)), strict=True)) == expected


def test_long_texts_score_as_published():
    # Above 64 tokens the bit-parallel algorithm goes over several machine words.
    draw = random.Random(0)
    for length in (63, 64, 65, 128, 129, 400):
        first, second = (" ".join(draw.choices("abcdefgh", k=length)) for _ in range(2))
        assert rouge_l(first, [second]) == pytest.approx(published_rouge_l(first, [second]), abs=1e-9)


def test_a_batch_scores_each_pair_in_order():
    pairs = [("Yes.", ["yes"]), ("", ["no"]), ("a a a", ["b", "a"]), ("Yes.", ["yes"])]
    scores = zip(rouge_l_scores(pairs), exact_matches(pairs), strict=True)
    assert list(scores) == [
        (1.0, True),
        (0.0, False),
        (0.5, False),
        (1.0, True),
    ]
    assert rouge_l_scores([]) == exact_matches([]) == []
    assert rouge_l_scores([("Yes", ["yes"])], str.split) == [0.0]


def test_tokens_are_lower_case_stems():
    assert list(rouge_tokenize("The 2 running dogs' ties")) == ["the", "2", "run", "dog", "tie"]


def test_thousands_of_real_pairs_score_as_published(shared_data: Path):
    draw = random.Random(0)
    pairs = []
    for path in sorted((shared_data / "sup-natinst/tasks").glob("*.json"))[::8]:
        instances = json.loads(path.read_text(encoding="utf-8"))["Instances"]
        outputs = [output for instance in instances for output in instance["output"]]
        for instance in draw.sample(instances, min(12, len(instances))):
            pairs.append((draw.choice(outputs), instance["output"]))
            pairs.append((instance["input"][:400], instance["output"]))
    assert len(pairs) > 3000
    for (prediction, references), rouge, exact in zip(pairs, rouge_l_scores(pairs), exact_matches(pairs), strict=True):
        assert rouge == pytest.approx(published_rouge_l(prediction, references), abs=1e-9)
        assert exact == published_exact_match(prediction, references)
