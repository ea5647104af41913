"""The cross-lingual track: pieces of GPT-2's tokenizer, from files in each form, scored as published."""

import json

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from published_scores import published_rouge_l, texts
from rouge_score.rouge_scorer import RougeScorer

from simtune.errors import ModelError
from simtune.evaluation.metrics import rouge_l_scores
from simtune.evaluation.xlingual import Gpt2Tokenize, gpt2_tokenize

BYTE_LEVEL = tokenizers.ByteLevelBPETokenizer()
BYTE_LEVEL.train_from_iterator(["the cat  sat", "the cat", "東京"], vocab_size=300, show_progress=False)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=2)), max_size=5))
def test_bpe_tokens_score_as_rouge_score_with_them_many_at_once(pairs):
    tokenizer = tokenizers.Tokenizer.from_str(BYTE_LEVEL.to_str())

    class Official:
        def tokenize(self, text):
            return [token.lstrip("Ġ") for token in tokenizer.encode(text).tokens]

    scorer = RougeScorer(["rougeL"], tokenizer=Official())
    expected = [published_rouge_l(*pair, scorer) for pair in pairs]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simtune.evaluation.xlingual._BATCH_CHARS", 8)
        assert rouge_l_scores(pairs, Gpt2Tokenize(tokenizer)) == expected


def test_the_tokenizer_is_found_in_each_local_form(byte_level_tokenizer, tmp_path):
    # The older pair of files lists no special tokens, but GPT-2's end of text is one all the same.
    model = json.loads((byte_level_tokenizer / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    text = "the cat  東京 sat"
    forms = [byte_level_tokenizer, byte_level_tokenizer / "tokenizer.json", tmp_path]
    first, second, third = (list(gpt2_tokenize(str(form))(text)) for form in forms)
    assert first == second == third
    assert "cat" in first
    assert "<|endoftext|>" in gpt2_tokenize(str(tmp_path))("cat<|endoftext|>")


def test_a_tokenizer_of_bytes_has_no_pieces_to_score(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    with pytest.raises(ModelError, match=r"\(ByT5Tokenizer\) reads bytes, not pieces of words.*openai-community/gpt2"):
        gpt2_tokenize(str(tmp_path), "evaluation.rouge_tokenizer")


def test_a_tokenizer_without_a_vocabulary_is_refused(tmp_path):
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(ModelError, match="has no pieces, so that every word would be unknown"):
        gpt2_tokenize(str(tmp_path), "evaluation.rouge_tokenizer")
