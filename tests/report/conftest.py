from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from made_report import EVIL, row, table, write_manifest

from simtune.storage.files import write_text
from simtune.storage.parquet_files import write_table


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Three arms, two sizes, three seeds, one trial failed, a full pool and a baseline."""
    made = [
        row(arm, size, seed, 20.0 + 3 * i + 0.02 * size + 0.3 * seed * (i + 1))
        for i, arm in enumerate(["similar", "random", "different"])
        for size in (10, 100)
        for seed in (0, 1, 2)
    ]
    made[4] = row("similar", 100, 1, None, error="CUDA out of memory")
    return [*made, row("full", 674, 0, 30.0), row("untuned", None, None, 9.0)]


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[[list[dict[str, Any]]], Path]:
    def make(made: list[dict[str, Any]]) -> Path:
        run = tmp_path / "run"
        write_table(run / "results.parquet", table(made))
        write_text(run / "sweep.yaml", f"name: {EVIL}\n")
        write_manifest(run, {"versions": {"simtune": EVIL}, "fingerprints": {"corpus": "ab12"}})
        write_table(
            run / "tasks.parquet",
            pa.Table.from_pylist([
                {"task": "t1", "role": "pool", "category": "qa", "num_instances": 5, "reason": ""},
                {"task": EVIL, "role": "dropped", "category": EVIL, "num_instances": 1, "reason": EVIL},
            ]),
        )  # fmt: skip
        write_table(
            run / "scores.parquet",
            pa.Table.from_pylist([
                {"trial": r["trial"], "score": r["score"], "level": "category", "name": EVIL, "metric": "rouge-l",
                 "value": r["rouge_l"], "is_headline": True, "num_instances": 10}
                for r in made if r["status"] == "done"
            ]),
        )  # fmt: skip
        return run

    return make
