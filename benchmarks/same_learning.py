"""Whether batches of similar length teach what random batches do: the quickstart's whole pool, both ways, same seeds.

    python benchmarks/same_learning.py          some five minutes on two cores

The difference of the means is held against the spread between seeds of the random batches.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import machine, save, show

SWEEP = Path(__file__).resolve().parents[1] / "sweeps" / "quickstart.yaml"


def results(seeds: int, storage: str) -> list[dict[str, Any]]:
    fields = {
        "selection": json.dumps({"strategies": ["random"], "sizes": ["all"], "seeds": list(range(seeds))}),
        "grid": json.dumps({"training.batching": ["random", "length"]}),
        "baselines": "[]",
    }
    command = [sys.executable, "-m", "simtune.cli", "run", str(SWEEP), "--storage", storage, "--json"]
    for name, value in fields.items():
        command += ["--set", f"{name}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: list[dict[str, Any]] = json.loads(done.stdout)["results"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as storage:
        found = results(arguments.seeds, storage)
    rows = []
    for batching in ("random", "length"):
        mine = [row for row in found if row["training.batching"] == batching]
        scores = [row["rouge_l"] for row in mine]
        rows.append(
            {
                "batching": batching,
                "seeds": len(scores),
                "rouge_l": statistics.mean(scores),
                "lowest": min(scores),
                "highest": max(scores),
                "final_loss": statistics.mean(row["final_loss"] for row in mine),
            }
        )
    about = machine("torch", "deepspeed")
    show("ROUGE-L of the whole demo pool by how examples are batched", rows, about)
    save("same_learning", rows, about)


if __name__ == "__main__":
    main()
