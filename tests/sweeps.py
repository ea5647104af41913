"""Runs sweeps in this process for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from json_files import read_json

from simtune.config import load_sweep
from simtune.executors.inline import InlineExecutor
from simtune.progress import Display, Quiet
from simtune.sweep.run import RunOutcome, run_sweep


def run(fields: dict[str, Any], *overrides: str, display: Display | None = None, **options: bool) -> RunOutcome:
    """Runs a sweep given as the fields of its file, with `--set` overrides; `options` are those of `run_sweep`."""
    path = Path(fields["storage"]) / "sweep-file.yaml"
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    return run_sweep(load_sweep(path, overrides), InlineExecutor(), display or Quiet(), **options)


def run_file(fields: dict[str, Any], name: str, *overrides: str) -> Any:
    """A JSON file of the one score of a sweep's one trial."""
    (row,) = run(fields, *overrides).results.to_pylist()
    return read_json(Path(fields["storage"]) / "trials" / row["trial"] / "scores" / row["score"] / name)


def only_score(trial: Path) -> Path:
    """The folder of a trial's only score."""
    (folder,) = (trial / "scores").iterdir()
    return folder


def undo(trial: Path) -> None:
    """Changes a trial as if its driver had been killed before the end."""
    (trial / "training.json").unlink(missing_ok=True)
    for metrics in trial.glob("scores/*/metrics.json"):
        metrics.unlink()


def tiny_fields(storage: Path) -> dict[str, Any]:
    """A sweep of seconds on the demo corpus, as the fields of its file."""
    return {
        "name": "tiny",
        "corpus": {"path": "demo", "min_instances": 60, "instances_per_task": 8},
        "selection": {"strategies": ["different", "random"], "sizes": [2, 4], "seeds": [0]},
        "model": {
            "init": "random",
            "tokenizer": "pool",
            "vocab_size": 600,
            "config": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2},
        },
        "encoding": {"positive": 0},
        "training": {
            "epochs": 1,
            "learning_rate": 1e-3,
            "batch_size": 8,
            "max_source_tokens": 64,
            "max_target_tokens": 8,
            "precision": "fp32",
            "zero_stage": 0,
            "dropout": 0.0,
        },
        "evaluation": {"instances_per_task": 2, "max_new_tokens": 4},
        "baselines": ["untuned", "copy-input"],
        "storage": str(storage),
    }
