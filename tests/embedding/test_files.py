"""Embeddings of one's own: every layout of the columns is read, every mistake is named with file, row and task."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simtune.embedding import files
from simtune.embedding.files import read_embeddings
from simtune.errors import CorpusError

VECTORS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
NAMES = [f"task{number}" for number in range(7)]

LISTS = {
    "list": pa.list_,
    "large_list": pa.large_list,
    "fixed_size_list": lambda kind: pa.list_(kind, 3),
}


@pytest.fixture
def write(tmp_path):
    def write(names=NAMES, vectors=None, kind=None, row_group_size=None, **columns):
        vectors = VECTORS.tolist() if vectors is None else vectors
        table = pa.table({"task": names, "embedding": pa.array(vectors, kind or pa.list_(pa.float32())), **columns})
        pq.write_table(table, tmp_path / "e.parquet", row_group_size=row_group_size)
        return tmp_path / "e.parquet"

    return write


@pytest.mark.parametrize("rows_at_once", [2, 8192])
@pytest.mark.parametrize("row_group_size", [1, 3, None])
@pytest.mark.parametrize("number", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("kind", LISTS.values(), ids=LISTS)
def test_every_layout_gives_the_same_vectors(write, monkeypatch, kind, number, row_group_size, rows_at_once):
    monkeypatch.setattr(files, "_ROWS_AT_ONCE", rows_at_once)
    vectors_ND = VECTORS.astype(np.float16) if number == pa.float16() else VECTORS
    path = write(vectors=[list(row) for row in vectors_ND], kind=kind(number), row_group_size=row_group_size)
    found = read_embeddings(path)
    assert (found.path, found.names) == (path, tuple(NAMES))
    assert found.vectors_ND.dtype == np.float32
    np.testing.assert_array_equal(found.vectors_ND, vectors_ND.astype(np.float32))
    assert (found.categories, found.sources) == (("",) * 7, ((),) * 7)


@pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_categories_and_sources_are_read_where_they_are(write, text):
    categories = pa.array(["a", None, "b", "", "a", "c", "ü"], text)
    found = read_embeddings(write(category=categories, source=["s", None, "", "t", "s", "s", "u"]))
    assert found.categories == ("a", "", "b", "", "a", "c", "ü")
    assert found.sources == (("s",), (), ("",), ("t",), ("s",), ("s",), ("u",))
    assert read_embeddings(write(category=pa.nulls(7), source=pa.nulls(7))).categories == ("",) * 7
    several = pa.array([["s", "t"], [], None, ["t"], ["s"], ["s"], ["u"]], pa.list_(pa.string()))
    assert read_embeddings(write(source=several)).sources[:4] == (("s", "t"), (), (), ("t",))


def without(row, value):
    vectors = VECTORS.tolist()
    vectors[row] = value
    return vectors


def renamed(row, value):
    return [*NAMES[:row], value, *NAMES[row + 1 :]]


WRONG = {
    "null row": ({"vectors": without(4, None)}, r"row 5 \(task 'task4'\): no embedding"),
    "empty row": ({"vectors": without(4, [])}, r"row 5 \(task 'task4'\): no embedding"),
    "first row null": ({"vectors": without(0, None)}, r"row 1 \(task 'task0'\): no embedding"),
    "all rows null": ({"vectors": [None] * 7}, r"row 1 \(task 'task0'\): no embedding"),
    "ragged": ({"vectors": without(4, [1.0, 2.0])}, r"row 5 \(task 'task4'\): 2 dimensions, the first row has 3"),
    "NaN": ({"vectors": without(6, [1.0, np.nan, 2.0])}, r"row 7 \(task 'task6'\): the embedding holds NaN or an inf"),
    "infinity": ({"vectors": without(3, [np.inf, 0.0, 2.0])}, r"row 4 \(task 'task3'\): the embedding holds NaN"),
    "null number": ({"vectors": without(2, [1.0, None, 2.0])}, r"row 3 \(task 'task2'\): the embedding holds NaN"),
    "null name": ({"names": renamed(3, None)}, "row 4: column task is empty"),
    "empty name": ({"names": renamed(5, "")}, "row 6: column task is empty"),
    "name twice": ({"names": renamed(5, "task1")}, "row 6: task 'task1' stands in row 2 already"),
    "numbers as names": ({"names": list(range(7))}, "column task: int64, not text"),
    "whole numbers": (
        {"vectors": [[1, 2]] * 7, "kind": pa.list_(pa.int64())},
        "column embedding: list<.*int64>, not list",
    ),
    "no lists": ({"vectors": [1.0] * 7, "kind": pa.float64()}, "column embedding: double, not lists of floating-point"),
    "category": ({"category": list(range(7))}, "column category: int64, not text"),
    "source": ({"source": [[1]] * 7}, "column source: list<.*int64>, neither text nor lists of text"),
}


@pytest.mark.parametrize("rows_at_once", [2, 8192])
@pytest.mark.parametrize(("changes", "complaint"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_named_with_row_and_task(write, monkeypatch, changes, complaint, rows_at_once):
    monkeypatch.setattr(files, "_ROWS_AT_ONCE", rows_at_once)
    path = write(**changes)
    with pytest.raises(CorpusError, match=complaint) as caught:
        read_embeddings(path)
    assert str(caught.value).startswith(str(path))


def test_null_rows_of_a_fixed_size_are_no_embeddings(write):
    with pytest.raises(CorpusError, match=r"row 3 \(task 'task2'\): no embedding"):
        read_embeddings(write(vectors=without(2, None), kind=pa.list_(pa.float32(), 3)))


def test_numbers_beyond_float32_are_named(write):
    with pytest.raises(CorpusError, match=r"row 2 \(task 'task1'\): the embedding holds NaN or an infinity"):
        read_embeddings(write(vectors=without(1, [1e300, 0.0, 1.0]), kind=pa.list_(pa.float64())))


def test_a_missing_column_is_named(tmp_path):
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table({"task": ["a"], "vector": [[1.0]]}), path)
    with pytest.raises(CorpusError, match=r"no column 'embedding' \(columns: task, vector\)"):
        read_embeddings(path)
    pq.write_table(pa.table({"embedding": [[1.0]]}), path)
    with pytest.raises(CorpusError, match=r"no column 'task' \(columns: embedding\)"):
        read_embeddings(path)


def test_a_file_that_is_none(tmp_path, write):
    with pytest.raises(CorpusError, match=r"none\.parquet: no such file of embeddings"):
        read_embeddings(tmp_path / "none.parquet")
    for path, content in ((tmp_path / "text.parquet", b"task,embedding\n"), (tmp_path / "empty.parquet", b"")):
        path.write_bytes(content)
        with pytest.raises(CorpusError, match=rf"{path.name}: not a parquet file \("):
            read_embeddings(path)
    with pytest.raises(CorpusError, match="not a parquet file"):
        read_embeddings(tmp_path)
    with pytest.raises(CorpusError, match=r"e\.parquet: holds no row"):
        read_embeddings(write(names=pa.array([], pa.string()), vectors=[]))


def test_a_file_cut_short_or_changed_is_refused(tmp_path):
    path = tmp_path / "e.parquet"
    table = pa.table(
        {
            "task": [f"t{row}" for row in range(500)],
            "embedding": np.random.default_rng(0).normal(size=(500, 8)).tolist(),
        }
    )
    pq.write_table(table, path, write_page_checksum=True, compression="none")
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 4):
        path.write_bytes(whole[:size])
        with pytest.raises(CorpusError, match=r"e\.parquet: not a parquet file"):
            read_embeddings(path)
    path.write_bytes(whole[:10_000] + bytes([whole[10_000] ^ 1]) + whole[10_001:])
    with pytest.raises(CorpusError, match=r"e\.parquet: damaged"):
        read_embeddings(path)
