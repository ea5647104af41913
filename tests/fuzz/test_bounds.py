"""Huge and deep files: read or refused in bounded time and memory, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from results_made_up import run_of

# Calls `read(path)` and prints the outcome and its peak memory.
SCRIPT = """
import resource, sys, time
from pathlib import Path
from simtune.errors import SimtuneError
path = Path(sys.argv[1])
{imports}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
try:
    found = {read}
    said = "read " + str(len(found))
except SimtuneError as error:
    said = "refused " + str(error)[:300]
    assert len(str(error)) < 20_000
seconds = time.perf_counter() - start
print(said)
print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
READERS = {
    "task": ("from simtune.corpus.natural_instructions import read_task_file", "read_task_file(path).problems"),
    "list": ("from simtune.corpus.task_lists import read_task_list", "read_task_list(path)"),
    "definitions": (
        "from simtune.corpus.definitions import read_definitions",
        "read_definitions(str(path)).tasks",
    ),
    "predictions": ("from simtune.evaluation.leaderboard import read_predictions", "read_predictions(path)"),
    "references": ("from simtune.evaluation.leaderboard import read_references", "read_references(path)"),
    "sweep": ("from simtune.config import load_sweep", "load_sweep(path).name"),
    "embeddings": ("from simtune.embedding.embedding_file import read_embeddings", "read_embeddings(path).names"),
    "status": ("from simtune.inspection.status import run_status", "run_status(path.parent).trials"),
    "run file": (
        "from simtune.storage.records import read_record; from simtune.sweep.run_files import Manifest",
        "read_record(path, Manifest).trials",
    ),
}


def read(reader: str, path: Path, most_s: float, most_mib: float) -> str:
    """What the reader says about a file, within a time and a memory beyond its imports'."""
    imports, call = READERS[reader]
    script = SCRIPT.format(imports=imports, read=call)
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False, timeout=10 * most_s
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *said, measured = done.stdout.splitlines()
    seconds, mib = map(float, measured.split())
    assert seconds < most_s
    assert mib < most_mib
    return "\n".join(said)


DEEP = 10_000
NESTED = {
    "task": (b'{"Instances": ', b"[", b"]", "}"),
    "definitions": (b'{"task": ', b"[", b"]", "}"),
    "predictions": (b'{"id": ', b"[", b"]", "}"),
    "references": (b'{"id": ', b'{"a":', b"}", "}"),
    "sweep": (b"selection: ", b"[", b"]", ""),
    "run file": (b'{"trials": ', b"[", b"]", "}"),
}


@pytest.mark.parametrize("reader", NESTED)
def test_nesting_of_ten_thousand_is_refused_at_once(tmp_path: Path, reader: str) -> None:
    before, opening, closing, after = NESTED[reader]
    path = tmp_path / {"definitions": "d.jsonl"}.get(reader, "manifest.json")
    path.write_bytes(before + opening * DEEP + closing * DEEP + after.encode())
    said = read(reader, path, most_s=20, most_mib=200)
    assert said.startswith("refused" if reader != "task" else "read 1")


def test_a_sweep_file_of_aliases_does_not_grow(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    (tmp_path / "lists.yaml").write_text("\n".join(lines))
    lines = ["a0: &a0 {k: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 12)]
    (tmp_path / "merged.yaml").write_text("\n".join(lines))
    for name, reason in (("lists.yaml", "expands to more than"), ("merged.yaml", "<< has a meaning of its own")):
        assert reason in read("sweep", tmp_path / name, most_s=20, most_mib=300)


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["task", "list", "definitions", "predictions", "sweep", "run file"])
def test_a_text_of_200_mb_is_read_or_refused(tmp_path: Path, reader: str) -> None:
    text = "x" * 200_000_000
    fields = {
        "task": {"Definition": [text], "Categories": ["c"], "Instances": [{"input": text[:9], "output": ["o"]}]},
        "definitions": {"task": "t", "definition": text},
        "predictions": {"id": "i", "prediction": text},
        "run file": [text],
    }
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps(fields[reader]) if reader in fields else f"name: {text}\n")
    said = read(reader, path, most_s=60, most_mib=1500)
    assert said.startswith("refused" if reader in {"sweep", "run file"} else "read")


def _million_lines(path: Path, line: str) -> Path:
    with path.open("w") as file:
        file.writelines(line.format(number) for number in range(1_000_000))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reader", "line", "most_mib"),
    [
        ("list", "task{:07d}_x\n", 600),
        ("predictions", '{{"id": "i{}", "prediction": "an answer"}}\n', 800),
        ("references", '{{"id": "i{}", "references": ["a"], "task_id": "t", "task_category": "c"}}\n', 1200),
        ("definitions", '{{"task": "t{}", "definition": "Say it."}}\n', 1500),
    ],
)
def test_a_million_tasks_or_instances_are_read(tmp_path: Path, reader: str, line: str, most_mib: float) -> None:
    path = _million_lines(tmp_path / "f.jsonl", line)
    assert read(reader, path, most_s=120, most_mib=most_mib) == "read 1000000"


@pytest.mark.slow
def test_a_million_embeddings_take_the_memory_of_their_vectors_and_names(tmp_path: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    vectors_ND = np.ones((1_000_000, 64), dtype=np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.ravel()), 64)
    pq.write_table(pa.table({"task": [f"t{n}" for n in range(1_000_000)], "embedding": lists}), tmp_path / "e.parquet")
    assert read("embeddings", tmp_path / "e.parquet", most_s=60, most_mib=900) == "read 1000000"


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["task", "predictions"])
def test_a_duplicate_among_a_million_keys_is_found(tmp_path: Path, reader: str) -> None:
    keys = ", ".join(f'"k{number}": 1' for number in range(1_000_000))
    (tmp_path / "f.json").write_text(f'{{{keys}, "k999999": 2}}')
    said = read(reader, tmp_path / "f.json", most_s=60, most_mib=900)
    assert said == "read 1" if reader == "task" else "the key 'k999999' is given twice" in said


@pytest.mark.slow
def test_a_sweep_file_of_half_a_million_characters_is_read_or_refused_in_a_minute(tmp_path: Path) -> None:
    started = time.perf_counter()
    (tmp_path / "s.yaml").write_text(f"name: s\nselection: {{sizes: [{', '.join(['1'] * 170_000)}]}}\n")
    assert read("sweep", tmp_path / "s.yaml", most_s=120, most_mib=1500).startswith("refused")
    assert time.perf_counter() - started < 120


@pytest.mark.slow
def test_a_run_of_a_hundred_thousand_trials_has_a_status(tmp_path: Path) -> None:
    run_of(tmp_path.parent, [f"{number:016x}" for number in range(100_000)], tmp_path.name)
    assert read("status", tmp_path / "manifest.json", most_s=60, most_mib=500) == "read 100000"
