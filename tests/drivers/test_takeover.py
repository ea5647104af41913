"""Two drivers of one run directory, as processes: what each of them reports, and whose results are kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from simtune.drivers import run_lease as leases
from sweeps import run

# Waits when its first trial is scored: stopped before or after it has checked its lease, or running.
HOLDING_DRIVER = """
import os, signal, sys
from simtune.cli import main
from simtune.trial import scoring, spec

def holding(real):
    def held(*arguments):
        found = real(*arguments)
        if not holds:
            holds.append(True)
            os.write(1, b"holds\\n")
            os.read(0, 1) if how == "alive" else os.kill(os.getpid(), signal.SIGSTOP)
        return found
    return held

holds, how = [], sys.argv[1]
if how == "stopped after its look":
    spec.TrialSpec.check_lease = holding(spec.TrialSpec.check_lease)
else:
    scoring.score_predictions = holding(scoring.score_predictions)
sys.argv[1:] = ["run", sys.argv[2], "--executor", "inline", "--json"]
main()
"""


def results_in(trials: Path) -> dict[Path, tuple[int, bytes]]:
    """When each score was written, and its bytes."""
    paths = trials.glob("*/scores/*/metrics.json")
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


@contextmanager
def holding_driver(sweep_file: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDING_DRIVER, how, str(sweep_file)]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    started = subprocess.Popen(command, **pipes, text=True)
    try:
        assert started.stdout is not None
        assert started.stdout.readline() == "holds\n", started.communicate()[1]
        while how != "alive" and psutil.Process(started.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)
        yield started
    finally:
        started.kill()
        started.wait()


@pytest.fixture
def sweep_file(tiny_sweep: dict[str, Any]) -> Path:
    tiny_sweep["selection"] = {"strategies": ["random"], "sizes": [2], "seeds": [0]}
    tiny_sweep["baselines"] = ["untuned"]
    path = Path(tiny_sweep["storage"]) / "sweep-file.yaml"
    path.write_text(yaml.safe_dump(tiny_sweep, sort_keys=False))
    return path


@pytest.mark.fault
@pytest.mark.parametrize("how", ["stopped before its look", "stopped after its look"])
def test_a_late_commit_of_a_driver_that_was_taken_over_changes_no_result(
    sweep_file: Path, tiny_sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(leases, "acquire_lease", partial(leases.acquire_lease, stale_after_s=1.0))
    trials = Path(tiny_sweep["storage"]) / "trials"
    with holding_driver(sweep_file, how) as late:
        assert list(trials.glob("*/scores/*/metrics.json")) == []
        outcome = run(tiny_sweep)
        assert outcome.num_failed == 0
        results = {
            path: (path.stat().st_mtime_ns, path.read_bytes()) for path in trials.glob("*/scores/*/metrics.json")
        }
        tables = {path.name: path.read_bytes() for path in outcome.run_directory.glob("results.*")}
        assert len(results) == 2
        late.send_signal(signal.SIGCONT)
        _, errors = late.communicate()
    assert late.returncode == 2, errors
    # The driver that took over has ended its run in the meantime and has released its lease.
    assert "its run was taken over by" in errors
    assert "no results were written" not in errors
    assert list(trials.glob("*/.claim")) == []
    assert {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in trials.glob("*/scores/*/metrics.json")
    } == results
    assert {path.name: path.read_bytes() for path in outcome.run_directory.glob("results.*")} == tables


@pytest.mark.fault
def test_a_second_driver_says_who_holds_the_run_and_the_first_proceeds(sweep_file: Path) -> None:
    with holding_driver(sweep_file, "alive") as first:
        command = [sys.executable, "-m", "simtune.cli", "run", str(sweep_file), "--executor", "inline"]
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert second.returncode == 2
        assert f"held by {os.uname().nodename}, process {first.pid}" in " ".join(second.stderr.split())
        said, errors = first.communicate("\n")
    assert first.returncode == 0, errors
    assert [row["status"] for row in json.loads(said)["results"]] == ["done", "done"]
