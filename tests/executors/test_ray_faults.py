"""Real Ray processes killed in the middle of a training: the same results, few repeated steps, no process left."""

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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from simtune.storage.files import read_json
from simtune.trial.failures import attempts_of
from sweeps import run

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.fault]

# The command line; at the end it checks that Ray has all CPUs back. A test may shorten the time to lose a stopped Ray.
DRIVER = """
import dataclasses, os, sys, time
import ray
from simtune.cli import main
from simtune.executors import ray_start
from simtune.executors.ray_executor import RayExecutor

if "TEST_SILENT_S" in os.environ:
    limits = dataclasses.replace(ray_start._HEAD_LIMITS["local"], unresponsive_s=float(os.environ["TEST_SILENT_S"]))
    ray_start._HEAD_LIMITS["local"] = limits

def counted(self, *error, real=RayExecutor.__exit__):
    ends = time.monotonic() + 60
    # An interrupted driver does not wait for them.
    undisturbed = self._ray is not None and error[0] is None
    while undisturbed and ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        if time.monotonic() > ends:
            sys.exit(f"CPUs were not given back: {ray.available_resources()} of {ray.cluster_resources()}")
        time.sleep(0.2)
    real(self, *error)

RayExecutor.__exit__ = counted
main()
"""
KILLED_AT = 20


@pytest.fixture
def fields(tiny_sweep: dict[str, Any]) -> dict[str, Any]:
    """A trial of 120 steps with a checkpoint after each."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU")
    tiny_sweep["selection"] = {"strategies": ["random"], "sizes": [20], "seeds": [0]}
    tiny_sweep["training"] |= {"epochs": 6, "dropout": 0.1}
    tiny_sweep["baselines"] = []
    tiny_sweep["resources"] = {"cpus_per_worker": 1, "max_concurrent": 1, "checkpoint_minutes": 0}
    return tiny_sweep


@dataclass
class Driver:
    """A sweep in another process, and what can be observed of its trials."""

    fields: dict[str, Any]
    executor: str = "local"
    environment: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Driver:
        self.storage = Path(self.fields["storage"])
        path = self.storage / "sweep-file.yaml"
        path.write_text(yaml.safe_dump(self.fields, sort_keys=False))
        self.arguments = ["run", str(path), "--executor", self.executor]
        self.log = self.storage / "driver.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", DRIVER, *self.arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
                # A test run in the background of a shell inherits SIGINT ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        self.started: dict[int, psutil.Process] = {}
        self.steps_seen: dict[str, set[int]] = {}
        self._watching = True
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

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
        found: dict[str, set[int]] = {}
        for marker in self.storage.glob("trials/*/checkpoints/step-*/complete.json"):
            found.setdefault(marker.parts[-4], set()).add(int(marker.parent.name.removeprefix("step-")))
        return found

    def children(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            self.started |= {child.pid: child for child in psutil.Process(self.process.pid).children(recursive=True)}
        return [child for child in list(self.started.values()) if child.is_running()]

    def in_the_middle_of_a_trial(self, but: Iterable[str] = ()) -> tuple[str, int]:
        """Waits until a trial has made progress; returns it with the step of its newest checkpoint."""
        while self.process.poll() is None:
            for trial, steps in self.checkpoints().items():
                if trial not in but and max(steps) >= KILLED_AT:
                    self.children()
                    return trial, max(steps)
            time.sleep(0.01)
        raise AssertionError(self.log.read_text())

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

    def ends(self, within_s: float = 240) -> int:
        return self.process.wait(within_s)

    def said_how_to_continue(self) -> None:
        said = " ".join(self.log.read_text().split())
        assert "nothing can run without it" in said
        assert f"run `simtune {' '.join(self.arguments)}` to continue" in said
        assert "Traceback" not in said
        assert "Raylet is terminated" not in said
        assert json.loads((self.storage / "tiny/.lease").read_text())["token"] == ""

    def nothing_is_left(self, within_s: float) -> None:
        _, alive = psutil.wait_procs(self.children(), timeout=within_s)
        assert not alive, [process.cmdline() for process in alive]


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


_undisturbed: dict[str, bytes] = {}


def check_results(fields: dict[str, Any], num_trials: int) -> None:
    """Compares the results with those of the same trials in this process, which run once for all tests here."""
    if not _undisturbed:
        # Without checkpoints, which must make no difference.
        alone = elsewhere(fields, "undisturbed") | {"resources": {"cpus_per_worker": 1}}
        run(alone | {"selection": fields["selection"] | {"seeds": [0, 1, 2, 3]}})
        _undisturbed.update(metrics_of(Path(alone["storage"])))
    found = metrics_of(Path(fields["storage"]))
    assert len(found) == num_trials
    assert found == {trial: _undisturbed[trial] for trial in found}


def test_a_killed_worker_controller_and_trial_actor_change_no_result_and_cost_few_steps(
    fields: dict[str, Any],
) -> None:
    fields["selection"]["seeds"] = [0, 1, 2]
    hit: dict[str, tuple[str, int]] = {}
    with Driver(fields) as driver:
        for title in ("RayTrainWorker", "TrainController", "ResourceTrainable"):
            trial, step = driver.in_the_middle_of_a_trial(but=hit)
            driver.kill(title)
            hit[trial] = (title, step)
            driver.steps_seen[trial] = set()
        assert driver.ends() == 0, driver.log.read_text()
        driver.nothing_is_left(within_s=60)
    assert len(hit) == 3
    for trial, (title, step) in hit.items():
        # It continued from its last checkpoint: no step before that was repeated.
        assert min(driver.steps_seen[trial]) >= step, title
        records = attempts_of(driver.storage / "trials" / trial)
        assert [record.cause for record in records] == ["infrastructure"], title
        (costs,) = (driver.storage / "trials" / trial).glob("scores/*/costs.json")
        assert read_json(costs)["failed_attempts"] == 1
    check_results(fields, num_trials=3)


@pytest.mark.parametrize(
    ("title", "number"), [("raylet", signal.SIGKILL), ("gcs_server", signal.SIGSTOP), ("raylet", signal.SIGSTOP)]
)
def test_a_raylet_or_head_that_dies_or_stops_ends_a_driver_with_the_next_command_and_no_process(
    fields: dict[str, Any], title: str, number: signal.Signals
) -> None:
    fields["selection"]["seeds"] = [0, 1, 2, 3]
    with Driver(fields, environment={"TEST_SILENT_S": "8"} if number == signal.SIGSTOP else {}) as driver:
        driver.in_the_middle_of_a_trial()
        driver.kill(title, number)
        assert driver.ends(within_s=120) == 1, driver.log.read_text()
        driver.nothing_is_left(within_s=30)
        driver.said_how_to_continue()


@pytest.mark.parametrize(("sent", "times", "code"), [(signal.SIGINT, 3, 130), (signal.SIGHUP, 1, 129)])
def test_a_signal_ends_a_driver_on_ray_with_its_code_the_next_command_and_no_process(
    fields: dict[str, Any], sent: signal.Signals, times: int, code: int
) -> None:
    with Driver(fields) as driver:
        driver.in_the_middle_of_a_trial()
        for _ in range(times):
            # As a terminal does: to all processes of the group.
            os.killpg(driver.process.pid, sent)
            time.sleep(0.005)
        assert driver.ends(within_s=60) == code, driver.log.read_text()
        driver.nothing_is_left(within_s=60)
        said = " ".join(driver.log.read_text().split())
        assert f"run `simtune {' '.join(driver.arguments)}` to continue" in said
        assert json.loads((driver.storage / "tiny/.lease").read_text())["token"] == ""


def test_a_driver_without_its_gcs_ends_soon_and_the_next_continues_whatever_ray_left(
    fields: dict[str, Any],
) -> None:
    # Workers continue without a head: more trials than they can train before the driver ends.
    fields["selection"]["seeds"] = [0, 1, 2, 3]
    with Driver(fields) as driver:
        driver.in_the_middle_of_a_trial()
        driver.kill("gcs_server")
        assert driver.ends(within_s=60) == 1, driver.log.read_text()
        driver.nothing_is_left(within_s=30)
        driver.said_how_to_continue()
    finished = written(driver.storage)
    interrupted = {trial: steps for trial, steps in driver.checkpoints().items() if trial not in finished}
    assert len(finished) < 4
    state = [path for path in (driver.storage / "tiny/.ray").rglob("*") if path.is_file()]
    assert state
    for path in state:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (driver.storage / "tiny/.ray/tune/experiment_state-2100-01-01_00-00-00.json").write_text('{"trial_data": [')
    with Driver(fields) as again:
        assert again.ends() == 0, again.log.read_text()
        again.nothing_is_left(within_s=60)
    assert not (driver.storage / "tiny/.ray").exists()
    assert finished.items() <= written(driver.storage).items()
    for trial, steps in interrupted.items():
        assert min(again.steps_seen[trial]) >= max(steps)
    check_results(fields, num_trials=4)


# A head for the driver and one machine for workers, each of several processes; gets commands line by line.
CLUSTER = """
import sys, time
import ray
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
node = cluster.add_node(num_cpus=2)
print(cluster.address, flush=True)
for line in sys.stdin:
    if line == "lose\\n":
        cluster.remove_node(node, allow_graceful=False)
    if line == "add\\n":
        node = cluster.add_node(num_cpus=2)
    if line == "count\\n":
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        ends = time.monotonic() + 60
        while ray.available_resources().get("CPU") != 2.0 and time.monotonic() < ends:
            time.sleep(0.2)
        print(ray.available_resources().get("CPU"), flush=True)
        ray.shutdown()
        continue
    print("done", flush=True)
cluster.shutdown()
"""


@contextlib.contextmanager
def cluster(log: Path) -> Iterator[tuple[str, Callable[[str], str]]]:
    """A cluster's address, and a function that sends it commands."""
    with log.open("w") as errors:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
        host = subprocess.Popen([sys.executable, "-c", CLUSTER], **pipes, text=True)
    to, back = host.stdin, host.stdout
    assert to is not None
    assert back is not None

    def tell(line: str) -> str:
        to.write(line + "\n")
        to.flush()
        return back.readline().strip()

    try:
        address = back.readline().strip()
        assert address, log.read_text()
        yield address, tell
    finally:
        children = psutil.Process(host.pid).children(recursive=True)
        to.close()
        host.wait(60)
        _, alive = psutil.wait_procs(children, timeout=60)
        for process in alive:
            process.kill()
    assert not alive, [process.name() for process in alive]


def test_a_lost_machine_is_replaced_by_a_new_one_and_the_trial_continues_there(fields: dict[str, Any]) -> None:
    with cluster(Path(fields["storage"]) / "cluster.log") as (address, tell):
        on_it = {"RAY_ADDRESS": address}
        too_much = {**elsewhere(fields, "too-much"), "resources": {"workers": 8}}
        with Driver(too_much, "cluster", on_it) as refused:
            assert refused.ends() == 2, refused.log.read_text()
        assert "a trial needs 8 x 1 CPU, available: 1" in " ".join(refused.log.read_text().split())
        assert not (refused.storage / "tiny").exists()
        with Driver(fields, "cluster", on_it) as driver:
            trial, step = driver.in_the_middle_of_a_trial()
            assert tell("lose") == "done"
            driver.steps_seen[trial] = set()
            assert tell("add") == "done"
            assert driver.ends() == 0, driver.log.read_text()
        assert tell("count") == "2.0"
    assert min(driver.steps_seen[trial]) >= step
    check_results(fields, num_trials=1)
