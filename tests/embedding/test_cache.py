"""Damaged and foreign vectors are never used, and nothing else is computed again."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fake_encoder import TASKS, FakeEncode

from simtune.embedding import cache as cache_module
from simtune.embedding.cache import EmbeddingCache, Encoded, text_key
from simtune.embedding.embed import embed_tasks
from simtune.errors import RunError
from simtune.storage.parquet_files import table_bytes


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
