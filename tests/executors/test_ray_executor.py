"""The Ray executor: real Ray Data, Tune, Train and DeepSpeed processes, compared with the in-process executor."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from simtune.storage.files import read_json
from simtune.storage.parquet_files import read_table


def run(fields: dict[str, Any], executor: str) -> Path:
    """Runs a sweep by the command line, since Ray may end a driver's process; returns the run directory."""
    path = Path(fields["storage"]) / "sweep-file.yaml"
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    command = [sys.executable, "-m", "simtune.cli", "run", str(path), "--executor", executor, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "available: 1" in done.stderr:
        pytest.skip(f"this machine has one CPU: {done.stderr}")
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert all(row["status"] == "done" for row in outcome["results"])
    return Path(outcome["run"])


@pytest.mark.ray
@pytest.mark.slow
def test_warm_workers_give_the_bytes_of_the_inline_executor(tiny_sweep: dict[str, Any], tmp_path: Path) -> None:
    # The same number of threads, or matrix products add up in another order; one slot, so that one process runs all.
    tiny_sweep["selection"] = {"strategies": ["different"], "sizes": [2, 3], "seeds": [0]}
    tiny_sweep["resources"] = {"cpus_per_worker": 1, "max_concurrent": 1}
    tiny_sweep["training"]["zero_stage"] = 1
    inline = run(tiny_sweep, "inline")
    warm = run({**tiny_sweep, "storage": str(elsewhere(tmp_path, "warm"))}, "local")
    for name in ("results.parquet", "scores.parquet", "subsets.parquet", "results.csv"):
        assert (warm / name).read_bytes() == (inline / name).read_bytes(), name
    assert not (warm / ".ray").exists()
    # A fresh process for one trial of them.
    command = [sys.executable, "-m", "simtune.cli", "train", str(tmp_path / "runs" / "sweep-file.yaml")]
    command += ["--arm", "different", "--size", "2", "--seed", "0", "--json"]
    (fresh,) = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout).values()
    assert metrics(warm, arm="different", size=2).keys() - fresh.keys() == {"sha256"}
    assert metrics(warm, arm="different", size=2) | fresh == metrics(warm, arm="different", size=2)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.fault
def test_two_workers_learn_the_same_and_a_killed_one_costs_only_its_own_trial_a_start(
    tiny_sweep: dict[str, Any], tmp_path: Path
) -> None:
    tiny_sweep["selection"] = {"strategies": ["different"], "sizes": [2, 3], "seeds": [0]}
    tiny_sweep["training"] |= {"zero_stage": 2, "epochs": 6}
    tiny_sweep["baselines"] = []
    tiny_sweep["resources"] = {"cpus_per_worker": 1}
    alone = run(tiny_sweep, "inline")
    pair_fields = {**tiny_sweep, "storage": str(elsewhere(tmp_path, "pair"))}
    pair_fields["resources"] = {"cpus_per_worker": 1, "workers": 2}
    killer = threading.Thread(target=kill_one_worker, args=(Path(pair_fields["storage"]) / "trials",))
    killer.start()
    pair = run(pair_fields, "local")
    killer.join()
    assert killed, "no worker was found in time"
    for size in (2, 3):
        one, two = metrics(alone, "different", size), metrics(pair, "different", size)
        np.testing.assert_allclose(two["training"]["losses"], one["training"]["losses"], atol=1e-5)
    costs = [read_json(path) for path in (pair.parent / "trials").glob("*/scores/*/costs.json")]
    assert sorted(cost["failed_attempts"] for cost in costs) == [0, 1]


killed: list[int] = []


def kill_one_worker(trials: Path) -> None:
    """Kills a worker of this test's own Ray once one trial has its results and another is running."""
    me = psutil.Process()
    for _ in range(2400):
        under_way = [path for path in trials.glob("*/.claim") if not any(path.parent.glob("scores/*/metrics.json"))]
        if under_way and any(trials.glob("*/scores/*/metrics.json")):
            for process in me.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "RayTrainWorker" in " ".join(process.cmdline()):
                        process.kill()
                        killed.append(process.pid)
                        return
        time.sleep(0.05)


def elsewhere(tmp_path: Path, name: str) -> Path:
    """Another storage beside the first, with the same embeddings."""
    root = tmp_path / name
    (root / "cache").mkdir(parents=True)
    (root / "cache" / "embeddings").symlink_to(tmp_path / "runs" / "cache" / "embeddings")
    return root


def metrics(run_directory: Path, arm: str, size: int) -> dict[str, Any]:
    rows = read_table(run_directory / "results.parquet").to_pylist()
    (row,) = [row for row in rows if (row["arm"], row["size"]) == (arm, size)]
    found: dict[str, Any] = read_json(
        run_directory.parent / "trials" / row["trial"] / "scores" / row["score"] / "metrics.json"
    )
    return found
