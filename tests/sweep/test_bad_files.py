"""A corpus with bad files of every kind: a run names them all, or leaves them out and records why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from displays import RecordingDisplay

from simtune.config import load_sweep
from simtune.corpus.demo import demo_tasks
from simtune.embedding.cache import Encoded
from simtune.errors import CorpusError
from simtune.executors.inline import InlineExecutor
from simtune.storage.parquet_files import read_table
from simtune.sweep.train_one import embed_and_select

SOUND = dict(list(demo_tasks().items())[:3])
FIELDS: dict[str, Any] = dict(next(iter(SOUND.values())))
TEXT = json.dumps(FIELDS)

# What the message says beyond the file: the position or the field.
BAD = {
    "truncated": (TEXT[: len(TEXT) // 2].encode(), "line 1, column"),
    "utf-16": (TEXT.encode("utf-16"), "byte 0: UTF-16"),
    "nan-token": (json.dumps(FIELDS | {"Definition": [float("nan")]}).encode(), "Definition: expected a string"),
    "duplicate-keys": (TEXT[:-1].encode() + b', "Instances": []}', "the key 'Instances' is given twice"),
    "no-instances": (json.dumps({k: v for k, v in FIELDS.items() if k != "Instances"}).encode(), "Instances: missing"),
    "empty-output": (
        json.dumps(FIELDS | {"Instances": [{"input": "x", "output": []}]}).encode(),
        "Instances[0].output: expected at least one string, found an empty list",
    ),
    "very-deep": (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    "very-large": (TEXT[:-1].encode() + b', "more": "' + b"x" * 20_000_000, "line 1, column"),
}


def encode(texts: Sequence[str], *_: Any) -> list[Encoded | str]:
    return [Encoded(row, 5, 128) for row in np.eye(len(texts), dtype=np.float32)]


@pytest.fixture
def fields(tiny_sweep: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    root = tmp_path / "corpus"
    (root / "tasks").mkdir(parents=True)
    (root / "splits/default").mkdir(parents=True)
    files = {name: json.dumps(task).encode() for name, task in SOUND.items()}
    # A byte order mark does no harm, and is reported.
    first, *_, held_out = files
    files[first] = b"\xef\xbb\xbf" + files[first]
    files |= {name: content for name, (content, _) in BAD.items()}
    for name, content in files.items():
        (root / "tasks" / f"{name}.json").write_bytes(content)
    (root / "splits/default/train_tasks.txt").write_text("\n".join(files.keys() - {held_out}))
    (root / "splits/default/test_tasks.txt").write_text(held_out)
    return tiny_sweep | {"corpus": {"path": str(root), "min_instances": 1}, "leakage": "allow"}


def embed(fields: dict[str, Any], *overrides: str) -> tuple[Path, list[str]]:
    path = Path(fields["storage"]) / "sweep-file.yaml"
    path.write_text(yaml.safe_dump(fields))
    executor, display = InlineExecutor(), RecordingDisplay()
    executor.encode_texts = encode
    stages = embed_and_select(load_sweep(path, overrides), executor, display, with_subsets=False)
    return stages.run_directory, display.warnings


def test_bad_files_stop_a_run_by_name_or_are_left_out_on_record(fields: dict[str, Any]) -> None:
    with pytest.raises(CorpusError) as caught:
        embed(fields)
    lines = str(caught.value).splitlines()
    for name, (_, problem) in BAD.items():
        (line,) = [line for line in lines if f"/tasks/{name}.json" in line]
        assert problem in line
    assert "--set corpus.skip_bad=true" in lines[-1]
    assert not (Path(fields["storage"]) / "tiny").exists()

    run_directory, warnings = embed(fields, "corpus.skip_bad=true")
    rows = {row["task"]: row for row in read_table(run_directory / "tasks.parquet").to_pylist()}
    for name, (_, problem) in BAD.items():
        assert rows[name]["role"] == "dropped"
        assert rows[name]["reason"].startswith("unreadable: ")
        assert f"{name}.json" in rows[name]["reason"]
        assert problem in rows[name]["reason"]
    assert sorted(row["role"] for row in rows.values()) == ["dropped"] * len(BAD) + ["pool"] * 2 + ["test"]
    said = "\n".join(warnings)
    assert f"{len(BAD)} unreadable task files were left out" in said
    assert "begins with a byte order mark, which was ignored" in said
