"""Drivers of sweeps on Ray in other processes: what they leave at any time, and how to hurt them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from forked import ForkedDriver
from ray_checks import check_cpus

from sweeps import run, tiny_fields

HERE = Path(__file__).parent

# Like the command, it does not search its working directory for modules, but this folder.
DRIVER = """
import sys
sys.path.append(sys.argv.pop(1))
from ray_checks import check_cpus
check_cpus()
from simtune.cli import main
main()
"""
KILLED_AT = 20
NUM_STEPS = 120


def skip_on_one_cpu() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU")


def fault_fields(storage: Path, embedding_cache: Path) -> dict[str, Any]:
    """A trial of 120 steps with a checkpoint after each, in a new storage that has the embeddings."""
    skip_on_one_cpu()
    (storage / "cache").mkdir(parents=True)
    (storage / "cache/embeddings").symlink_to(embedding_cache)
    fields = tiny_fields(storage)
    fields["training"] |= {"epochs": 6, "dropout": 0.1}
    return fields | {
        "selection": {"strategies": ["random"], "sizes": [20], "seeds": [0]},
        "baselines": [],
        "resources": {"cpus_per_worker": 1, "max_concurrent": 1, "checkpoint_minutes": 0},
    }


@dataclass
class Driver:
    """A sweep in another process, and what can be observed of its trials.

    Attributes:
        environment: of the process.
        folder: to start a Python of its own in; by default it is forked, which takes seconds less.
        alone: whether no other driver uses its Ray, so that all CPUs must be free at its end.
    """

    fields: dict[str, Any]
    executor: str = "local"
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    folder: Path | None = None
    alone: bool = True

    def __enter__(self) -> Driver:
        self.storage = Path(self.fields["storage"])
        path = self.storage / "sweep-file.yaml"
        path.write_text(yaml.safe_dump(self.fields, sort_keys=False))
        self.arguments = ["run", str(path), "--executor", self.executor]
        self.log = self.storage / f"{self.fields['name']}.log"
        self.log.write_text("")
        self.process = self._command() if self.folder else self._forked()
        self.started: dict[int, psutil.Process] = {}
        self.steps_seen: dict[str, set[int]] = {}
        self._watching = True
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def _forked(self) -> ForkedDriver:
        prepare = check_cpus if self.alone else None
        return ForkedDriver(self.arguments, self.log, self.log, self.environment, prepare)

    def _command(self) -> subprocess.Popen[bytes]:
        """A Python of its own in the folder, which imports nothing of it."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-c", DRIVER, str(HERE), *self.arguments],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )

    def __exit__(self, *error: object) -> None:
        self._watching = False
        self._watcher.join()
        for process in [*self.children(), self.process]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()

    def _watch(self) -> None:
        """Which steps have a complete checkpoint, and which processes there are, at any time."""
        for look in itertools.count():
            if not self._watching:
                return
            if look % 50 == 0:
                self.children()
            for trial, steps in self.checkpoints().items():
                self.steps_seen.setdefault(trial, set()).update(steps)
            time.sleep(0.005)

    def checkpoints(self) -> dict[str, set[int]]:
        return checkpoints_below(self.storage)

    def children(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            self.started |= {child.pid: child for child in psutil.Process(self.process.pid).children(recursive=True)}
        return [child for child in list(self.started.values()) if child.is_running()]

    def begins_a_trial(self, trains: bool) -> None:
        """Waits until a trial trains, or only until it is claimed and its workers start."""
        if trains:
            self.in_the_middle_of_a_trial()
            return
        while not list(self.storage.glob("trials/*/.claim")):
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.01)

    def in_the_middle_of_a_trial(
        self, but: Iterable[str] = (), begun: Mapping[str, set[int]] | None = None
    ) -> tuple[str, int]:
        """Waits until a trial has made progress; returns it with the step of its newest checkpoint.

        Args:
            but: trials that do not count.
            begun: the checkpoints of trials that a killed driver has begun; its workers train on for a while.
        """
        before = {trial: max(steps) for trial, steps in (begun or {}).items()}
        while self.process.poll() is None:
            for trial, steps in self.checkpoints().items():
                enough = max(steps) >= max(KILLED_AT, before.get(trial, 0) + 1)
                if trial not in but and enough and (begun is None or self.has_workers()):
                    return trial, max(steps)
            time.sleep(0.01)
        raise AssertionError(self.log.read_text())

    def continues_beyond(self, trial: str, step: int) -> int:
        """Waits until a trial has a newer checkpoint than that of a step, though it was interrupted; returns its step.

        The old workers may have written one more.
        """
        while self.process.poll() is None:
            if (newest := max(self.checkpoints().get(trial, {0}))) > step + 5:
                return newest
            time.sleep(0.01)
        raise AssertionError(self.log.read_text())

    def has_workers(self) -> bool:
        """Whether workers of its own local Ray run."""
        for child in self.children():
            with contextlib.suppress(psutil.Error):
                if "RayTrainWorker" in " ".join(child.cmdline()):
                    return True
        return False

    def kill(self, title: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Kills, or stops, this driver's own process of that title."""
        found = []
        for child in self.children():
            with contextlib.suppress(psutil.Error):
                if title in child.name() or title in " ".join(child.cmdline()):
                    found.append(child)
        assert found, [child.name() for child in self.children()]
        for process in found:
            process.send_signal(number)

    def dies_alone(self) -> list[psutil.Process]:
        """Kills the driver; returns what it had started, which must notice by itself."""
        assert self.process.poll() is None, self.log.read_text()
        orphans = self.children()
        self.process.kill()
        self.process.wait()
        self.started.clear()
        return orphans

    def waits_for(self, name: str) -> None:
        while not (self.storage / name).exists():
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)

    def ends(self, within_s: float = 240) -> int:
        return self.process.wait(within_s)

    def said_how_to_continue(self) -> None:
        said = " ".join(self.log.read_text().split())
        assert "nothing can run without it" in said
        assert f"run `simtune {' '.join(self.arguments)}` to continue" in said
        assert "Traceback" not in said
        assert "Raylet is terminated" not in said, self.log.read_text()
        assert json.loads((self.storage / "tiny/.lease").read_text())["token"] == ""

    def nothing_is_left(self, within_s: float) -> None:
        _, alive = psutil.wait_procs(self.children(), timeout=within_s)
        assert not alive, [" ".join(process.cmdline()).strip() for process in alive]


def checkpoints_below(storage: Path) -> dict[str, set[int]]:
    """The steps of each trial's complete checkpoints."""
    found: dict[str, set[int]] = {}
    for marker in storage.glob("trials/*/checkpoints/step-*/complete.json"):
        found.setdefault(marker.parts[-4], set()).add(int(marker.parent.name.removeprefix("step-")))
    return found


def results_below(storage: Path) -> dict[str, Path]:
    """The result of each finished trial's score, by the trial."""
    return {path.parents[2].name: path for path in (storage / "trials").glob("*/scores/*/metrics.json")}


def metrics_of(storage: Path) -> dict[str, bytes]:
    return {trial: path.read_bytes() for trial, path in results_below(storage).items()}


def written(storage: Path) -> dict[str, int]:
    """When each finished trial's result was written."""
    return {trial: path.stat().st_mtime_ns for trial, path in results_below(storage).items()}


def elsewhere(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """The same sweep in a storage beside the first, with the same embeddings."""
    root = Path(fields["storage"]).parent / name
    (root / "cache").mkdir(parents=True)
    (root / "cache/embeddings").symlink_to(Path(fields["storage"]) / "cache/embeddings")
    return fields | {"storage": str(root)}


TABLES = ("results.parquet", "scores.parquet", "subsets.parquet", "results.csv", "results.md")
_undisturbed: dict[str, Path] = {}


def check_results(fields: dict[str, Any], num_trials: int) -> None:
    """Compares the results with those of the same five trials in this process, which run once for all tests."""
    if not _undisturbed:
        # Without checkpoints, which must make no difference.
        alone = elsewhere(fields, "undisturbed") | {"resources": {"cpus_per_worker": 1}}
        run(alone | {"selection": fields["selection"] | {"seeds": [0, 1, 2, 3, 4]}})
        _undisturbed["storage"] = Path(alone["storage"])
    storage, alone = Path(fields["storage"]), _undisturbed["storage"]
    found, expected = metrics_of(storage), metrics_of(alone)
    assert len(found) == num_trials
    assert found == {trial: expected[trial] for trial in found}
    if num_trials == len(expected):
        for name in TABLES:
            assert (storage / "tiny" / name).read_bytes() == (alone / "tiny" / name).read_bytes(), name
