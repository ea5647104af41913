"""Commands that choose, given what is wrong: one clear message, exit code 2, and nothing written."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

WRONG = [
    ("select", "give either a sweep file or --embeddings"),
    ("select tiny.yaml --sizes 5 --seeds 1", "--sizes, --seeds: only with --embeddings"),
    ("select --embeddings pool.parquet --set name=x", "--set and --storage: only with a sweep file"),
    ("select --embeddings none.parquet", "none.parquet: no such file of embeddings"),
    ("select --embeddings nan.parquet", "nan.parquet, row 2 (task 'b'): the embedding contains NaN"),
    ("select --embeddings tiny.yaml", "tiny.yaml: not a parquet file"),
    ("select --embeddings pool.parquet --strategy diferent", "unknown strategy 'diferent'; did you mean 'different'?"),
    ("select --embeddings pool.parquet --strategy graph-cut(lambda=-1)", "graph-cut: lambda: -1 is not a number of at"),
    ("select --embeddings pool.parquet --strategy log-det(ridge=0)", "log-det: ridge: 0 is not a number above 0"),
    (
        "select --embeddings pool.parquet --strategy random(max_pair_similarity=2)",
        "strategy random: max_pair_similarity: 2 is wrong: expected a number above -1 and at most 1",
    ),
    ("select --embeddings pool.parquet --strategy random(exclude=[zz])", "strategy random: exclude: the pool has no"),
    ("select --embeddings pool.parquet --strategy list:none.txt", "none.txt: no such split list"),
    ("select --embeddings pool.parquet --strategy near-target", "near-target (oracle): needs the target tasks"),
    ("select --embeddings pool.parquet --sizes ten", "--sizes: 'ten' is wrong"),
    ("select --embeddings pool.parquet --output tiny.yaml", "tiny.yaml is not a folder; give --output a folder"),
    ("select --embeddings pool.parquet --output /proc/none", "/proc/none: cannot be written"),
    ("select tiny.yaml --storage tiny.yaml/runs --executor inline", "tiny.yaml is not a folder; give storage a folder"),
    ("train tiny.yaml --arm random --size 2 --storage /proc/none", "/proc/none: cannot be written"),
    ("mixture tiny.yaml --storage /proc/none", "/proc/none: cannot be written"),
    ("recommend pool.parquet --candidates more.parquet --storage /proc/none", "/proc/none: cannot be written"),
    ("recommend pool.parquet", "Missing option '--candidates'"),
    ("recommend nowhere --candidates demo", "nowhere: no such folder"),
    ("recommend pool.parquet --candidates nan.parquet --size 0", "Invalid value for '--size': 0 is not at least 1"),
    ("recommend pool.parquet --candidates pool.parquet", "nothing new: its 9 tasks are already in pool.parquet"),
    ("recommend pool.parquet --candidates more.parquet --objective near-target", "needs a target; give --target"),
    (
        "recommend pool.parquet --candidates more.parquet --objective log-det(ridge=-1)",
        "ridge: -1 is not a number abov",
    ),
    ("recommend pool.parquet --candidates more.parquet --explain zz", "--explain: no task 'zz' in"),
    ("recommend pool.parquet --candidates more.parquet --output x.txt", "x.txt: give the name of a file that ends in"),
    (
        "recommend pool.parquet --candidates more.parquet --output folder.csv",
        "folder.csv: this is a folder; give the name",
    ),
    ("recommend pool.parquet --candidates more.parquet --output tiny.yaml/x.csv", "tiny.yaml is not a folder"),
    ("recommend pool.parquet --candidates more.parquet --output /proc/x.csv", "/proc/x.csv: cannot be written"),
    ("graph", "Missing argument 'SWEEP'"),
    ("graph none.yaml", "none.yaml: no such sweep file"),
    ("graph pool.parquet", "pool.parquet, byte "),
    ("graph tiny.yaml --top-k 0", "Invalid value for '--top-k'"),
    ("graph tiny.yaml --near-duplicates 2", "Invalid value for '--near-duplicates'"),
    ("graph tiny.yaml --near-duplicates nan", "'nan' is not a number in JSON notation"),
    ("graph tiny.yaml --top-k 1_0", "'1_0' is not a whole number in plain digits"),
    ("select --embeddings pool.parquet --sizes 010,12", "--sizes: '010' is not a value (010 is not a number in JSON"),
    (
        f"select --embeddings pool.parquet --sizes {','.join(map(str, range(1, 20002)))}",
        "selection: 1 strategy x 20,001 sizes x 1 seed are 20,001 subsets, more than 20,000",
    ),
    ("select --embeddings pool.parquet --sizes 10,,12", "--sizes: no value"),
    ("select --embeddings pool.parquet --seeds 1_0", "--seeds: '1_0' is not a value"),
    ("graph tiny.yaml --set selection.strategies=[diferent]", "did you mean 'different'?"),
    ("graph tiny.yaml --storage pool.parquet --executor inline", "pool.parquet is not a folder; give storage a folder"),
    ("export nowhere --arm full --output new", "nowhere: no such run directory"),
    ("export run --arm diferent --output new", "--arm: 'diferent' has no subset"),
    ("export run --arm different --output new", "--size: missing; arm 'different' has several"),
    ("export run --arm different --size 3 --output new", "no subset of size 3"),
    ("export run --arm different --size 2 --seed 7 --output new", "no subset of seed 7"),
    ("export run --arm different --size 2 --grid a=1 --output new", "no grid that decides a subset"),
    ("export run --arm different --size 2 --output run", "not empty; give --output a folder"),
    ("export run --arm different --size 2 --output pool.parquet", "pool.parquet is not a folder; give --output"),
    ("strategies all", "unexpected extra argument"),
    ("strategies --json", "No such option: --json"),
    ("strategies --arm random", "No such option: --arm"),
    ("strategies -x", "No such option: -x"),
    ("strategy", "No such command 'strategy'"),
]


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory after `simtune select`."""
    from simtune.config import Sweep, dump_sweep
    from simtune.storage.parquet_files import write_table

    root = tmp_path_factory.mktemp("run")
    (root / "sweep.yaml").write_text(dump_sweep(Sweep.model_validate({"name": "run"})))
    rows = [
        {"grid": "", "arm": "different", "seed": 0, "size": size, "rank": rank, "task": f"t{rank}"}
        for size in (2, 4)
        for rank in range(size)
    ]
    write_table(root / "subsets.parquet", pa.Table.from_pylist(rows))
    return root


@pytest.fixture
def place(tmp_path: Path, tiny_sweep: dict[str, Any], run_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with one of everything."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "tiny.yaml").write_text(yaml.safe_dump(tiny_sweep))
    (place / "folder.csv").mkdir()
    shutil.copytree(run_directory, place / "run")
    vectors_ND = np.random.default_rng(0).normal(size=(12, 4))
    for name, names, rows_ND in (
        ("pool", "abcdefghi", vectors_ND[:9]),
        ("more", "xyw", vectors_ND[9:]),
        ("nan", "ab", vectors_ND[:2] * [[1.0], [np.nan]]),
    ):
        pq.write_table(pa.table({"task": list(names), "embedding": rows_ND.tolist()}), place / f"{name}.parquet")
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "200")
    return place


@pytest.mark.parametrize(("line", "expected"), WRONG, ids=[line for line, _ in WRONG])
def test_wrong_input_is_one_clear_message_exit_2_and_nothing_written(
    line: str, expected: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_line = importlib.import_module("simtune.cli.main")
    monkeypatch.setattr(command_line.signals, "install", lambda: None)
    monkeypatch.setattr(sys, "argv", ["simtune", *line.split(" ")])
    before = sorted(path for path in place.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        command_line.main()
    said = capsys.readouterr()
    assert stopped.value.code == 2, said.err
    assert expected in " ".join(said.err.split())
    assert said.err.count("error: ") + said.err.count("Usage:") == 1
    assert "Traceback" not in said.err
    assert sorted(path for path in place.rglob("*")) == before
