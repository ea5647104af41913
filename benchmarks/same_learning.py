"""Whether batches of similar length teach what random batches do: the quickstart's whole pool, both ways, same seeds.

    python benchmarks/same_learning.py          some eight minutes on two cores

`difference` is that of the means, `standard_error` what the spread between seeds alone makes of such a difference: the
two learn the same where the first is no more than twice the second.
"""

from __future__ import annotations

import argparse
import json
import math
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
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--storage", help="keeps the trials there, and continues where it was interrupted")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = results(arguments.seeds, arguments.storage or scratch)
    rows: list[dict[str, Any]] = []
    for batching in ("random", "length"):
        mine = [row for row in found if row["training.batching"] == batching]
        row: dict[str, Any] = {"batching": batching, "seeds": len(mine)}
        for name in ("rouge_l", "final_loss"):
            values = [trial[name] for trial in mine]
            row |= {name: statistics.mean(values), f"{name}_deviation": statistics.stdev(values)}
        scores = [trial["rouge_l"] for trial in mine]
        rows.append(row | {"lowest": min(scores), "highest": max(scores)})
    differences = [
        {
            "of": name,
            "difference": rows[1][name] - rows[0][name],
            "standard_error": math.sqrt(sum(row[f"{name}_deviation"] ** 2 / row["seeds"] for row in rows)),
        }
        for name in ("rouge_l", "final_loss")
    ]
    about = machine("torch", "deepspeed")
    show("ROUGE-L of the whole demo pool by how examples are batched", rows, about)
    show("\nSimilar length minus random", differences, about)
    save("same_learning", rows, about, differences=differences)


if __name__ == "__main__":
    main()
