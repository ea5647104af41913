"""Each text is encoded once, and one that cannot be is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_encoder import NAME, TASKS, FakeEncode, needs_wheel, task

from simtune.config import EmbeddingSettings
from simtune.embedding.cache import Encoded
from simtune.embedding.embed import embed_tasks, encode_batch, encode_here
from simtune.embedding.encoder import Encoder, resolve_encoder
from simtune.embedding.task_text import task_text
from simtune.errors import CorpusError, ModelError


def test_a_second_call_encodes_nothing_and_a_third_only_what_is_new(settings, tmp_path):
    encode = FakeEncode()
    first = embed_tasks(TASKS[:4], settings, tmp_path / "cache", encode)
    assert (first.num_computed, first.num_damaged, len(encode.texts)) == (4, 0, 4)
    again = embed_tasks(TASKS[:4], settings, tmp_path / "cache", encode)
    assert (again.num_computed, len(encode.texts)) == (0, 4)
    np.testing.assert_array_equal(first.embeddings_ND, again.embeddings_ND)
    grown = embed_tasks(TASKS[::-1], settings, tmp_path / "cache", encode)
    assert set(encode.texts[4:]) == {task_text(new, settings) for new in TASKS[4:]}
    assert len(encode.texts) == 6
    np.testing.assert_array_equal(grown.rows_of(first.names), first.embeddings_ND)
    assert grown.embeddings_ND.dtype == np.float32
    # Another encoder has a cache of its own.
    (Path(settings.encoder) / "model.safetensors").write_bytes(b"other weights")
    assert embed_tasks(TASKS[:4], settings, tmp_path / "cache", encode).num_computed == 4


def test_tasks_with_one_text_are_encoded_once(settings, tmp_path):
    encode = FakeEncode()
    twins = embed_tasks([task("a"), task("b")], settings, tmp_path / "cache", encode)
    assert len(encode.texts) == 1
    np.testing.assert_array_equal(*twins.embeddings_ND)


def test_texts_longer_than_the_encoder_reads_are_counted(settings, tmp_path):
    tasks = [task("short"), task("long", "many words " * 20)]
    found = embed_tasks(
        tasks, EmbeddingSettings(encoder=settings.encoder, fields=("definition",)), tmp_path, FakeEncode()
    )
    assert (found.max_tokens, found.num_cut) == (12, 1)
    assert found.num_tokens_N.tolist() == [2, 40]


def test_a_text_that_cannot_be_encoded_is_named_and_the_others_are_kept(settings, tmp_path):
    with pytest.raises(CorpusError, match=r"task task3: .*ValueError: too strange"):
        embed_tasks(TASKS, settings, tmp_path / "cache", FakeEncode(broken=["Definition 3"]))
    encode = FakeEncode()
    assert embed_tasks(TASKS, settings, tmp_path / "cache", encode).num_computed == 1
    assert encode.texts == [task_text(TASKS[3], settings)]


def test_an_encoder_that_embeds_no_text_is_named_and_no_task_is(settings, tmp_path):
    with pytest.raises(
        ModelError, match=r"^embedding\.encoder: .*could embed none of 6 texts \(ValueError: too strange"
    ):
        embed_tasks(TASKS, settings, tmp_path / "cache", FakeEncode(broken=["Definition"]))


class StrangeEncoder:
    """Fails on a batch that contains `bad`, and returns a zero vector for `empty`."""

    def encode(self, texts):
        if "bad" in texts:
            raise ValueError("cannot read it")
        vectors = {"empty": [0.0, 0.0], "nan": [np.nan, 0.0]}
        return np.array([vectors.get(text, [0.6, 0.8]) for text in texts])


def test_one_bad_text_of_a_batch_does_not_cost_the_others():
    results = encode_batch(StrangeEncoder(), ["good", "bad", "empty", "nan", "fine"])
    assert [isinstance(result, np.ndarray) for result in results] == [True, False, False, False, True]
    assert results[1] == "ValueError: cannot read it"
    assert "length 0.0" in results[2]
    assert "length nan" in results[3]


TEXTS = [
    "Title Generation\nDo it.",
    " ",
    ".",
    "word " * 2000,
    "質問に答えてください",
    "Ответь на вопрос",
    "ﷺ \u200b 🙂",
]


@needs_wheel
def test_a_text_that_no_tokenizer_reads_is_named_among_the_others():
    resolved = resolve_encoder(NAME)
    texts = ["one text", "half a pair \ud83d", "a longer text"]
    assert Encoder(resolved, device="cpu").count_tokens(texts).tolist() == [4, 0, 5]
    results = encode_here(texts, resolved, 32, lambda *progress: None)
    assert [isinstance(result, Encoded) for result in results] == [True, False, True]
    assert "Error" in results[1]


@needs_wheel
def test_vectors_are_those_of_the_library_whatever_the_batch():
    from sentence_transformers import SentenceTransformer

    resolved = resolve_encoder(NAME)
    library = SentenceTransformer(str(resolved.folder), device="cpu")
    expected_ND = np.stack([library.encode(text, normalize_embeddings=True) for text in TEXTS])
    done = []
    results = encode_here(TEXTS, resolved, 3, lambda *progress: done.append(progress))
    assert all(isinstance(result, Encoded) for result in results)
    found_ND = np.stack([result.vector_D for result in results])
    np.testing.assert_allclose(found_ND, expected_ND, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found_ND, axis=1), 1.0, atol=1e-6)
    assert found_ND.dtype == np.float32
    # Before any cut, with the two tokens that every text has.
    assert [result.num_tokens for result in results[:4]] == [2 + 5, 2, 2 + 1, 2 + 2000]
    assert done == [(3, 7), (6, 7), (7, 7)]
    assert {result.max_tokens for result in results} == {library.max_seq_length} == {256}
