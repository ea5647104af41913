"""The README's first command in full: the model must learn, and the figures must show what they claim to show."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import in_process

from simtune.storage.parquet_files import read_table

SWEEP = Path(__file__).resolve().parents[1] / "sweeps" / "quickstart.yaml"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_quickstart_teaches_and_runs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", str(SWEEP), "--storage", str(tmp_path), "--json"]
    command = [sys.executable, "-m", "simtune.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    rows = outcome["results"]
    assert all(row["status"] == "done" for row in rows)
    rouge_l = {(row["arm"], row["size"]): row["rouge_l"] for row in rows}
    assert rouge_l["full", 70] >= rouge_l["untuned", None] + 15
    similarity = {(row["arm"], row["size"]): row["mean_similarity"] for row in rows}
    for size in (12, 36):
        assert similarity["different", size] < similarity["random", size] < similarity["similar", size]
    run = Path(outcome["run"])
    tasks = read_table(run / "tasks.parquet").to_pylist()
    dropped = [task["reason"] for task in tasks if task["role"] == "dropped"]
    assert dropped == ["instances: 15, fewer than min_instances: 60"] * 4
    for figure in ("scores_by_size", "similarity_by_size"):
        assert (run / "report/figures" / f"{figure}.svg").read_bytes().startswith(b"<?xml")
        assert (run / "report/figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    before = (run / "results.parquet").read_bytes()
    code, output, errors = in_process(monkeypatch, capsys)(shlex.join(words))
    assert code == 0, errors
    assert json.loads(output)["num_run"] == 0
    assert (run / "results.parquet").read_bytes() == before
