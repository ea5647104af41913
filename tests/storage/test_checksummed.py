"""A file with its checksum is read as it was written, or not at all: every bit of it counts."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simtune.errors import RunError
from simtune.storage.checksummed import check_parquet, checksummed_json, verified_json
from simtune.storage.files import json_text
from simtune.storage.parquet_files import read_table, table_bytes

VALUE = {"trial": "0123456789abcdef", "overall": {"rouge_l": 21.5, "count": 100}, "losses": [1e-5, 2.0], "text": "é\n"}
TABLE = pa.table({"arm": ["random", "full", None], "size": [10, None, 674], "rouge_l": [20.5, 1e-9, 100.0]})


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_every_flipped_bit_and_every_cut_of_a_checksummed_object_is_found() -> None:
    data = checksummed_json(json_text(VALUE))
    assert {key: value for key, value in json.loads(data).items() if key != "sha256"} == VALUE
    assert json.loads(verified_json(data, "x")) == VALUE
    damaged = [flipped(data, bit) for bit in range(8 * len(data))]
    damaged += [data[:length] for length in range(len(data))] + [data + b"\n", json_text(VALUE)]
    for each in damaged:
        with pytest.raises(RunError, match=r"^x: damaged: .*; do this$"):
            verified_json(each, "x", "do this")


def test_every_flipped_bit_and_every_cut_of_a_checksummed_table_is_found(tmp_path: Path) -> None:
    # Without the checksum, one in thirty bits outside a table's pages, if flipped, gives other values.
    data = table_bytes(TABLE.replace_schema_metadata({b"simtune.schema": b"2"}))
    damaged = [flipped(data, bit) for bit in range(8 * len(data))]
    for each in [*damaged, *(data[:length] for length in range(len(data))), data + b"\0"]:
        with pytest.raises(RunError, match=r"^x: damaged parquet file"):
            check_parquet(each, "x")
    path = tmp_path / "t.parquet"
    path.write_bytes(data)
    assert read_table(path).equals(TABLE)
    # Other tools read it as any parquet file.
    assert pq.read_table(path).equals(TABLE)
    pq.write_table(TABLE, path)
    with pytest.raises(RunError, match="the content does not match its checksum"):
        read_table(path)
