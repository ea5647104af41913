"""A run's own tables are read with limits too: a storage may be shared, and a run may come from anyone."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simtune.embedding.embedding_file import read_embeddings
from simtune.errors import CorpusError, RunError
from simtune.storage.parquet_files import read_table, write_table
from simtune.storage.parquet_footer import column_chunks
from simtune.storage.parquet_size import decoded_bytes

ROWS = 200_000


def test_a_table_out_of_proportion_to_its_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(tmp_path / "t.parquet", pa.table({"a": [0] * ROWS}))
    monkeypatch.setattr("simtune.storage.parquet_size.ALWAYS_READ", 1 << 20)
    monkeypatch.setattr("simtune.storage.parquet_size.MOST_TIMES_LARGER", 100)
    with pytest.raises(RunError, match=r"t\.parquet: .*its 0\.0 MiB unpack to .* GiB, more than"):
        read_table(tmp_path / "t.parquet")


def test_a_text_in_many_rows_counts_in_each_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 20 kB in each of 10,000 rows, which the footer counts once.
    write_table(tmp_path / "t.parquet", pa.table({"a": ["x" * 20_000] * 10_000}))
    with (tmp_path / "t.parquet").open("rb") as file:
        assert decoded_bytes(file) < 1 << 20
    monkeypatch.setattr("simtune.storage.parquet_size.ALWAYS_READ", 1 << 20)
    with pytest.raises(RunError, match=r"its 0\.0 MiB unpack to 0\.2 GiB, more than"):
        read_table(tmp_path / "t.parquet")


def test_a_table_reads_back_as_it_was_written(tmp_path: Path) -> None:
    table = pa.table({"a": list(range(ROWS)), "b": [None, "x"] * (ROWS // 2), "c": [[1.5], []] * (ROWS // 2)})
    write_table(tmp_path / "t.parquet", table)
    assert read_table(tmp_path / "t.parquet").equals(table)
    write_table(tmp_path / "none.parquet", table.slice(0, 0))
    assert read_table(tmp_path / "none.parquet").equals(table.slice(0, 0))


def test_the_footer_says_what_the_library_says(tmp_path: Path) -> None:
    table = pa.table(
        {"a": list(range(1000)), "b": ["x", None] * 500, "c": [[1.5, 2.5], []] * 500, "d": [True, False] * 500}
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=300, compression="zstd")
    with (tmp_path / "t.parquet").open("rb") as file:
        found = [(chunk.name, chunk.num_values, chunk.num_bytes) for chunk in column_chunks(file)]
    metadata = pq.read_metadata(tmp_path / "t.parquet")
    columns = [metadata.row_group(group).column(index) for group in range(4) for index in range(4)]
    assert found == [(c.path_in_schema.split(".")[0], c.num_values, c.total_uncompressed_size) for c in columns]


def test_a_damaged_footer_is_an_error_and_never_ends_the_process(tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table({"task": ["a", "b"], "embedding": [[1.0], [2.0]]}), path)
    data = path.read_bytes()
    footer_at = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for position in range(footer_at, len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1 << position % 8]) + data[position + 1 :])
        for read, error in ((read_table, RunError), (read_embeddings, CorpusError)):
            with suppress(error):
                read(path)
