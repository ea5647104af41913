"""The environment of every trial is recorded, and a run with trials from several environments says so."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest
import torch
from displays import RecordingDisplay
from json_files import read_json

from simtune.config import load_sweep
from simtune.executors.inline import InlineExecutor
from simtune.storage.parquet_files import read_table
from simtune.storage.records import read_record, write_record
from simtune.sweep.run import run_sweep
from simtune.training.environment import processor_name
from simtune.trial.records import Costs
from sweeps import run


def test_a_run_continued_on_another_machine_says_once_how_many_trials_came_from_where(
    tiny_sweep: dict[str, Any],
) -> None:
    tiny_sweep["selection"] = {"strategies": ["random"], "sizes": [2], "seeds": [0]}
    tiny_sweep["resources"] = {"cpus_per_worker": 1}
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    outcome = run(tiny_sweep)
    # `auto` in the next sweep of this process is not what this one was given.
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
    (environment,) = read_json(outcome.run_directory / "manifest.json")["trained_on"]
    # The baseline that copies its input computes nothing that is rounded.
    assert environment["trials"] == 2
    found = [environment[field] for field in ("device", "threads", "workers", "torch")]
    assert found == ["cpu", 1, 1, str(torch.__version__)]
    assert environment["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert [field for field, value in environment.items() if value is None] == ["continued_from"]
    table = (outcome.run_directory / "results.parquet").read_bytes()

    # One of the two as if it came from an older processor, and then as if its costs were lost.
    row = next(row for row in outcome.results.to_pylist() if row["arm"] == "random")
    path = outcome.run_directory.parent / "trials" / row["trial"] / "scores" / row["score"] / "costs.json"
    costs = read_record(path, Costs)
    fields = ("processor", "cpu_capability", "torch", "deepspeed", "transformers")
    for expected, change in (
        ("cpu capability AVX2", {"cpu_capability": "AVX2", "processor": "older"}),
        ("processor not recorded", dict.fromkeys(fields)),
    ):
        write_record(path, costs.model_copy(update=change))
        display = RecordingDisplay()
        run_sweep(load_sweep(Path(tiny_sweep["storage"]) / "sweep-file.yaml"), InlineExecutor(), display)
        (warning,) = display.warnings
        assert "in 2 environments (machine and versions): 1 with " in warning
        assert expected in warning
        assert len(read_json(outcome.run_directory / "manifest.json")["trained_on"]) == 2
    assert (outcome.run_directory / "results.parquet").read_bytes() == table
    assert read_table(outcome.run_directory / "costs.parquet")["processor"].null_count == 2


def test_the_processor_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr("simtune.training.environment._CPUINFO", path)
    path.write_text("processor\t: 0\nmodel name\t: AMD EPYC\nflags\t: avx2\n")
    assert processor_name() == "AMD EPYC"
    path.write_text("flags\t: avx2\n")
    assert processor_name() == (platform.processor() or platform.machine())
