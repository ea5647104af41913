"""Embeddings from a file: every layout of the columns is read, every mistake is named with file, row and task."""

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simtune.embedding import embedding_file as files
from simtune.embedding.embedding_file import EmbeddingFile, read_embeddings
from simtune.errors import CorpusError
from simtune.storage.parquet_size import check_decoded

VECTORS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
NAMES = [f"task{number}" for number in range(7)]

LISTS = {
    "list": pa.list_,
    "large_list": pa.large_list,
    "fixed_size_list": lambda kind: pa.list_(kind, 3),
    "list_view": pa.list_view,
    "large_list_view": pa.large_list_view,
    "fixed_shape_tensor": lambda kind: pa.fixed_shape_tensor(kind, [3]),
}
TEXTS = {
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
    "dictionary of large_string": pa.dictionary(pa.int8(), pa.large_string()),
}


def as_text(values, kind):
    if pa.types.is_dictionary(kind):
        return pa.array(values, pa.dictionary(kind.index_type, pa.string())).cast(kind)
    return pa.array(values, pa.string()).cast(kind)


def as_vectors(vectors, kind):
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(vectors, kind.storage_type))
    return pa.array(vectors, kind)


@pytest.fixture
def write(tmp_path):
    def write(names=NAMES, vectors=None, kind=None, row_group_size=None, **columns):
        vectors = VECTORS.tolist() if vectors is None else vectors
        table = pa.table({"task": names, "embedding": as_vectors(vectors, kind or pa.list_(pa.float32())), **columns})
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


@pytest.mark.parametrize("rows_at_once", [2, 8192])
@pytest.mark.parametrize("row_group_size", [3, None])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_tasks_categories_and_sources_are_read_in_every_encoding(
    write, monkeypatch, text, row_group_size, rows_at_once
):
    monkeypatch.setattr(files, "_ROWS_AT_ONCE", rows_at_once)
    categories = ["a", None, "b", "", "a", "c", "ü"]
    sources = ["s", None, "", "t", "s", "s", "u"]
    path = write(
        names=as_text(NAMES, text), category=as_text(categories, text), source=as_text(sources, text),
        row_group_size=row_group_size,
    )  # fmt: skip
    found = read_embeddings(path)
    assert found.names == tuple(NAMES)
    assert found.categories == ("a", "", "b", "", "a", "c", "ü")
    assert found.sources == (("s",), (), ("",), ("t",), ("s",), ("s",), ("u",))


@pytest.mark.parametrize("rows_at_once", [2, 8192])
def test_categories_and_sources_are_read_where_they_are(write, monkeypatch, rows_at_once):
    monkeypatch.setattr(files, "_ROWS_AT_ONCE", rows_at_once)
    categories = pa.array(["a", None, "b", "", "a", "c", "ü"])
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
    "ragged": ({"vectors": without(4, [1.0, 2.0])}, r"row 5 \(task 'task4'\): 2 dimensions, but the first row has 3"),
    "NaN": (
        {"vectors": without(6, [1.0, np.nan, 2.0])},
        r"row 7 \(task 'task6'\): the embedding contains NaN or an inf",
    ),
    "infinity": ({"vectors": without(3, [np.inf, 0.0, 2.0])}, r"row 4 \(task 'task3'\): the embedding contains NaN"),
    "null number": ({"vectors": without(2, [1.0, None, 2.0])}, r"row 3 \(task 'task2'\): the embedding contains NaN"),
    "null name": ({"names": renamed(3, None)}, "row 4: column task is empty"),
    "empty name": ({"names": renamed(5, "")}, "row 6: column task is empty"),
    "name twice": ({"names": renamed(5, "task1")}, "row 6: task 'task1' is already in row 2"),
    "numbers as names": ({"names": list(range(7))}, "column task: int64, not text"),
    "whole numbers": (
        {"vectors": [[1, 2]] * 7, "kind": pa.list_(pa.int64())},
        "column embedding: list<.*int64>, not list",
    ),
    "matrices": (
        {"vectors": [[1.0] * 4] * 7, "kind": pa.fixed_shape_tensor(pa.float32(), [2, 2])},
        "column embedding: tensors of 2 x 2 numbers; write one vector a row",
    ),
    "bytes as names": ({"names": pa.array([b"a"] * 7)}, "column task: binary, not text"),
    "nothing as names": ({"names": pa.nulls(7)}, "column task: null, not text"),
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
    with pytest.raises(CorpusError, match=r"row 2 \(task 'task1'\): the embedding contains NaN or an infinity"):
        read_embeddings(write(vectors=without(1, [1e300, 0.0, 1.0]), kind=pa.list_(pa.float64())))


def test_a_missing_column_is_named(tmp_path):
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table({"task": ["a"], "vector": [[1.0]]}), path)
    with pytest.raises(CorpusError, match=r"no column 'embedding' \(columns: task, vector\)"):
        read_embeddings(path)
    pq.write_table(pa.table({"embedding": [[1.0]]}), path)
    with pytest.raises(CorpusError, match=r"no column 'task' \(columns: embedding\)"):
        read_embeddings(path)


def test_files_that_are_not_parquet_are_refused(tmp_path, write):
    with pytest.raises(CorpusError, match=r"none\.parquet: no such file of embeddings"):
        read_embeddings(tmp_path / "none.parquet")
    for path, content in ((tmp_path / "text.parquet", b"task,embedding\n"), (tmp_path / "empty.parquet", b"")):
        path.write_bytes(content)
        with pytest.raises(CorpusError, match=rf"{path.name}: not a parquet file \("):
            read_embeddings(path)
    with pytest.raises(CorpusError, match="not a parquet file"):
        read_embeddings(tmp_path)
    with pytest.raises(CorpusError, match=r"e\.parquet: has no row"):
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


def bomb(path, names, vectors, times, **columns):
    """A file of at most a megabyte whose footer names its one row group many times."""
    pq.write_table(pa.table({"task": names, "embedding": vectors, **columns}), path, compression="zstd")
    data = path.read_bytes()
    footer_bytes = int.from_bytes(data[-8:-4], "little")
    metadata = pq.read_metadata(path)
    for _ in range(times - 1):
        metadata.append_row_groups(pq.read_metadata(path))
    footer = io.BytesIO()
    metadata.write_metadata_file(footer)
    path.write_bytes(data[: -8 - footer_bytes] + footer.getvalue()[4:])
    assert path.stat().st_size < 1 << 20
    assert pq.read_metadata(path).num_rows == times * len(names)
    return path


def zeros(num_rows, num_dimensions):
    return pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(num_rows * num_dimensions, np.float32)), num_dimensions)


READ = """
import resource, sys
from pathlib import Path
from simtune.embedding.embedding_file import EmbeddingFile, read_embeddings
from simtune.errors import CorpusError
read_embeddings(Path(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_embeddings(Path(sys.argv[2]))
except CorpusError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def refused(write, path):
    """What the reader says about a file, and the MiB that it took."""
    done = subprocess.run([sys.executable, "-c", READ, write(), path], capture_output=True, text=True, check=True)
    said, mib = done.stdout.splitlines()
    return said, int(mib)


def test_a_file_of_a_megabyte_that_decodes_to_gigabytes_is_refused_unread(write, tmp_path):
    names = pa.array([f"t{row}" for row in range(100)])
    said, mib = refused(write, bomb(tmp_path / "bomb.parquet", names, zeros(100, 100_000), times=150))
    assert re.search(r"bomb\.parquet: its 0\.\d MiB unpack to 5\.6 GiB, more than the limit of 2\.0 GiB", said)
    assert mib < 100


def test_a_text_that_comes_in_every_row_is_in_memory_once(write, tmp_path):
    rows = 1000
    category = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * 20_000_000]))
    names = pa.array([f"t{row}" for row in range(rows)])
    said, mib = refused(write, bomb(tmp_path / "bomb.parquet", names, zeros(rows, 2), times=2, category=category))
    assert "row 1001: task 't0' is already in row 1" in said
    assert mib < 300


def test_what_is_really_decoded_is_counted_where_the_footer_says_less(write, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "decoded_bytes", lambda file, columns: 0)
    monkeypatch.setattr("simtune.storage.parquet_size.ALWAYS_READ", 3000)
    monkeypatch.setattr("simtune.storage.parquet_size.MOST_TIMES_LARGER", 0)
    monkeypatch.setattr(files, "_ROWS_AT_ONCE", 2)
    assert read_embeddings(write()).names == tuple(NAMES)
    with pytest.raises(CorpusError, match=r"e\.parquet: its .* MiB unpack to"):
        read_embeddings(write(category=[f"{row}" * 1000 for row in range(7)]))


def test_a_million_vectors_of_384_numbers_are_within_the_limit():
    check_decoded(1_000_000 * (384 * 4 + 2 * 40), 1 << 20)
    with pytest.raises(ValueError, match=r"unpack to 5\.6 GiB, more than the limit of 2\.0 GiB"):
        check_decoded(6_000_000_000, 800_000)


def test_the_hash_is_of_every_text_and_vector_and_of_no_order() -> None:
    rows = [("b", "x", ("s", "t")), ("a", "y", ("s",)), ("c", "x", ())]

    def sha256(rows: list[tuple[str, str, tuple[str, ...]]], vectors_ND: np.ndarray = VECTORS[:3]) -> str:
        names, categories, sources = zip(*rows, strict=True)
        return EmbeddingFile(Path("x"), names, vectors_ND, categories, sources).sha256()

    order = [2, 0, 1]
    assert sha256([rows[row] for row in order], VECTORS[:3][order]) == sha256(rows)
    others = [
        [("b", "x", ("t", "s")), *rows[1:]],
        [("b", "y", ("s", "t")), *rows[1:]],
        [("b", "s", ("x", "t")), ("a", "y", ("x",)), ("c", "s", ())],
        [("bb", "x", ("s", "t")), *rows[1:]],
    ]
    assert len({sha256(rows), sha256(rows, VECTORS[3:6]), *map(sha256, others)}) == 6
