"""What a sweep costs beside its trials: 20 equal trials on the demo corpus, each about 15 s of training and evaluation.

    python benchmarks/overhead.py                 five sweeps, some 15 minutes on two cores
    python benchmarks/overhead.py --runs 1

`ideal_s` is the trials' own seconds of training and evaluation, shared out among the slots; `ratio` is the whole
command's seconds (reading, embedding, choosing, starting Ray, training, scoring, report) over it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from harness import RUNS, machine, median, save, show

TRIALS = 20
SWEEP: dict[str, Any] = {
    "name": "overhead",
    "corpus": {"path": "demo", "min_instances": 60, "instances_per_task": 60},
    "selection": {"strategies": ["random"], "sizes": [36], "seeds": list(range(TRIALS))},
    "model": {
        "init": "random",
        "tokenizer": "pool",
        "vocab_size": 1500,
        "config": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 8},
    },
    "encoding": {"positive": 0},
    "training": {
        "epochs": 1,
        "learning_rate": 2e-3,
        "batch_size": 16,
        "max_source_tokens": 128,
        "max_target_tokens": 8,
        "precision": "fp32",
        "zero_stage": 1,
    },
    "evaluation": {"instances_per_task": 20, "max_new_tokens": 12},
    "baselines": [],
    "resources": {"cpus_per_worker": 1},
}


def run_sweep(fields: dict[str, Any]) -> dict[str, float]:
    """Seconds of one whole command in a new storage, and what its trials say of themselves."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sweep.yaml"
        path.write_text(yaml.safe_dump({**fields, "storage": str(Path(folder) / "runs")}))
        command = [sys.executable, "-m", "simtune.cli", "run", str(path), "--executor", "local", "--json"]
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wall_s = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(done.stderr)
        run = Path(json.loads(done.stdout)["run"])
        costs = [json.loads(path.read_text()) for path in (run.parent / "trials").glob("*/costs.json")]
    busy_s = [cost["train_s"] + cost["evaluate_s"] for cost in costs]
    return {
        "wall_s": wall_s,
        "trial_s": median(busy_s),
        "busy_s": sum(busy_s),
        "peak_mib": max(cost["peak_host_memory_mib"] for cost in costs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--epochs", type=int, default=SWEEP["training"]["epochs"])
    arguments = parser.parse_args()
    about = machine("ray", "torch", "deepspeed")
    slots = about["cores"]
    SWEEP["training"]["epochs"] = arguments.epochs
    found = [run_sweep(SWEEP) for _ in range(arguments.runs)]
    rows = []
    for number, sweep in enumerate(found, start=1):
        ideal_s = sweep["busy_s"] / min(slots, TRIALS)
        rows.append({"run": number, "trials": TRIALS, "slots": slots, **sweep, "ideal_s": ideal_s})
        rows[-1]["ratio"] = sweep["wall_s"] / ideal_s
    middle = sorted(rows, key=lambda row: row["ratio"])[len(rows) // 2]
    rows.append({**middle, "run": "median"})
    show("Sweep overhead", rows, about)
    save("overhead", rows, about)


if __name__ == "__main__":
    main()
