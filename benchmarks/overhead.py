"""What a sweep costs beside its trials: 20 equal trials on the demo corpus, each about 15 s of training and evaluation.

    python benchmarks/overhead.py                 five sweeps and two of other lengths, some 25 minutes on two cores
    python benchmarks/overhead.py --runs 1

`ideal_s` is the trials' own seconds of training and evaluation, shared out among the slots; `ratio` is the whole
command's seconds (reading, embedding, choosing, starting Ray, training, scoring, report) over it. Sweeps of shorter and
of longer trials, once each, show how it falls.
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

SWEEP: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("overhead.yaml").read_text(encoding="utf-8"))
TRIALS = len(SWEEP["selection"]["seeds"])
EPOCHS, OTHER_EPOCHS = SWEEP["training"]["epochs"], (1, 4)


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


def measured(run: str, epochs: int, slots: int) -> dict[str, Any]:
    fields = {**SWEEP, "training": {**SWEEP["training"], "epochs": epochs}}
    sweep = run_sweep(fields)
    ideal_s = sweep["busy_s"] / min(slots, TRIALS)
    return {
        "run": run,
        "trials": TRIALS,
        "slots": slots,
        **sweep,
        "ideal_s": ideal_s,
        "ratio": sweep["wall_s"] / ideal_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=RUNS)
    arguments = parser.parse_args()
    about = machine("ray", "torch", "deepspeed")
    slots = about["cores"]
    rows = [measured(str(number + 1), EPOCHS, slots) for number in range(arguments.runs)]
    middle = sorted(rows, key=lambda row: row["ratio"])[len(rows) // 2]
    rows.append({**middle, "run": "median"})
    rows += [measured(f"epochs: {epochs} instead of {EPOCHS}", epochs, slots) for epochs in OTHER_EPOCHS]
    show("Sweep overhead", rows, about)
    by_length = sorted((row["trial_s"], row["ratio"]) for row in rows[arguments.runs :])
    seconds, ratios = [s for s, _ in by_length], [r for _, r in by_length]
    scaling = {
        "x": "seconds a trial",
        "y": "seconds over the ideal",
        "series": [
            {"name": "20 trials", "x": seconds, "y": ratios},
            {"name": "no overhead", "x": [seconds[0], seconds[-1]], "y": [1, 1], "limit": True},
        ],
    }
    save("overhead", rows, about, scaling=scaling)


if __name__ == "__main__":
    main()
