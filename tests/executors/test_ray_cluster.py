"""A cluster that loses a machine, and that knows nothing of the driver: neither its files, nor secrets, nor settings.

Everything is observed on one cluster of several processes on this machine, which hurried users set up: in a folder of
modules that Python would prefer, and with secrets in the environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from hostile import ENDPOINT, SECRETS, holding_secrets, hostile_folder
from json_files import read_json
from ray_drivers import Driver, check_results, elsewhere, fault_fields

from simtune.executors.ray_log import RAY_LOG
from simtune.threads import VARIABLES, set_waiting, waiting_environment
from simtune.trial.failures import attempts_of

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.fault]

# A head for the driver and one machine for workers, each of several processes; gets commands line by line.
CLUSTER = """
import sys, time
import psutil
import ray
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=2)]
print(cluster.address, flush=True)
for line in sys.stdin:
    if line == "kill\\n":
        for child in psutil.Process().children(recursive=True):
            if "RayTrainWorker" in " ".join(child.cmdline()):
                child.kill()
    if line == "lose\\n":
        cluster.remove_node(nodes.pop(), allow_graceful=False)
    if line.startswith("add"):
        nodes.append(cluster.add_node(num_cpus=int(line.removeprefix("add"))))
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

WORKERS_ENVIRONMENT = """
import json
from simtune.executors.ray_executor import RayExecutor

def environment_at_start(arrays, begin, end):
    with open("/proc/self/environ") as environ:
        return dict(entry.split("=", 1) for entry in environ.read().split(chr(0)) if "=" in entry)

with RayExecutor("cluster") as executor:
    # Enough rows that the blocks are computed on Ray.
    (environment,) = executor.map_blocks(environment_at_start, {}, [(0, 1_000_000)])
    print(json.dumps(environment))
"""


@contextlib.contextmanager
def cluster(log: Path, folder: Path, environment: Mapping[str, str]) -> Iterator[tuple[str, Callable[[str], str]]]:
    """A cluster's address, and a function that sends it commands."""
    with log.open("w") as errors:
        host = subprocess.Popen(
            [sys.executable, "-P", "-c", CLUSTER],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
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


@dataclass
class Observed:
    """What was seen of a cluster's three drivers.

    Attributes:
        environment: at its start, of a worker that does not belong to a trial.
        refused: the driver of a sweep that is too large.
        driver: the one whose worker was killed, and whose machine was lost then.
        hit: the trial that ran when its worker was killed, and the step of its newest checkpoint.
        lost_at: the step of that when its machine was lost.
        smaller: a driver of three trials on two machines, one of which was lost for good.
        holding: files of Ray and of the sweep that contain a secret.
    """

    root: Path
    environment: dict[str, str]
    refused: Driver
    driver: Driver
    hit: tuple[str, int]
    lost_at: int
    smaller: Driver
    cpus_at_the_end: str
    logs: list[str]
    holding: list[str]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory, embedding_cache: Path) -> Observed:
    root = tmp_path_factory.mktemp("cluster")
    fields = fault_fields(root / "runs", embedding_cache)
    # One process may die; the loss of a machine must not count.
    fields["resources"]["max_failures"] = 1
    too_much: dict[str, Any] = {**elsewhere(fields, "too-much"), "resources": {"workers": 8}}
    three_trials: dict[str, Any] = elsewhere(fields, "three-trials")
    three_trials |= {"selection": fields["selection"] | {"seeds": [0, 1, 2]}}
    three_trials |= {"resources": {"cpus_per_worker": 1, "checkpoint_minutes": 0}}
    hostile = hostile_folder(root)
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as files:
        environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        environment |= {name: value for name, value in SECRETS.items() if "ENDPOINT" not in name}
        environment["RAY_TMPDIR"] = files
        with cluster(root / "cluster.log", hostile, environment) as (address, tell):
            on_it = {**environment, "RAY_ADDRESS": address, "AWS_ENDPOINT_URL": ENDPOINT}
            with Driver(too_much, "cluster", on_it, hostile) as refused:
                assert refused.ends() == 2, refused.log.read_text()
            task = subprocess.run(
                [sys.executable, "-P", "-c", WORKERS_ENVIRONMENT],
                cwd=hostile,
                env=on_it,
                capture_output=True,
                text=True,
                check=False,
            )
            assert task.returncode == 0, task.stderr
            with Driver(fields, "cluster", on_it, hostile) as driver:
                hit = driver.in_the_middle_of_a_trial()
                assert tell("kill") == "done"
                lost_at = driver.continues_beyond(*hit)
                assert tell("lose") == "done"
                driver.steps_seen[hit[0]] = set()
                assert tell("add 2") == "done"
                assert driver.ends() == 0, driver.log.read_text()
            cpus = tell("count")
            for command in ("lose", "add 1", "add 1"):
                assert tell(command) == "done"
            with Driver(three_trials, "cluster", on_it, hostile) as smaller:
                while len(smaller.checkpoints()) < 2:
                    assert smaller.process.poll() is None, smaller.log.read_text()
                    time.sleep(0.05)
                assert tell("lose") == "done"
                assert smaller.ends() == 0, smaller.log.read_text()
        logs = [str(path) for path in Path(files).rglob("runtime_env_agent.log")]
        holding = holding_secrets(Path(files)) + holding_secrets(driver.storage)
    environment_at_start = json.loads(task.stdout.splitlines()[-1])
    return Observed(root, environment_at_start, refused, driver, hit, lost_at, smaller, cpus, logs, holding)


def test_a_lost_machine_is_replaced_by_a_new_one_and_the_trial_continues_there(observed: Observed) -> None:
    refused = observed.refused
    assert "a trial needs 8 workers of 1 CPU, and the hosts hold 2" in " ".join(refused.log.read_text().split())
    assert not (refused.storage / "tiny").exists()
    trial, _ = observed.hit
    assert observed.cpus_at_the_end == "2.0"
    # The checkpoint before the last may not be removed yet.
    assert min(observed.driver.steps_seen[trial]) >= observed.lost_at - 1
    check_results(observed.driver.fields, num_trials=1)


def test_a_sweep_ends_on_the_machines_that_are_left(observed: Observed) -> None:
    check_results(observed.smaller.fields, num_trials=3)


def test_a_lost_machine_costs_no_try_and_a_killed_process_does_and_both_are_recorded_with_their_host(
    observed: Observed,
) -> None:
    directory = observed.driver.storage / "trials" / observed.hit[0]
    killed, lost = attempts_of(directory)
    assert [killed.cause, lost.cause] == ["infrastructure", "preempted"], observed.driver.log.read_text()
    assert killed.message.startswith("its workers were lost at train ")
    assert lost.message.startswith("its host was lost at train ")
    (costs,) = (read_json(path) for path in directory.glob("scores/*/costs.json"))
    # All machines are processes here: their names are the same, so their ids follow.
    names = {killed.host, lost.host, costs["host"]}
    assert killed.host == lost.host != costs["host"]
    assert {name.partition(" (")[0] for name in names} == {socket.gethostname()}


def test_a_lost_machine_is_two_lines_on_the_terminal_and_what_ray_says_is_in_its_log(observed: Observed) -> None:
    said = " ".join(observed.driver.log.read_text().split())
    label = "random, 20 tasks, seed 0"
    assert len(re.findall(rf"host \S+ \(\w{{8}}\) is lost; {label} ran there and will continue elsewhere", said)) == 1
    assert len(re.findall(rf"{label} continues on \S+ \(\w{{8}}\) after the loss of \S+ \(\w{{8}}\)", said)) == 1
    assert "Traceback" not in said
    assert "(raylet)" not in said
    assert "has been marked dead" in (observed.driver.storage / "tiny" / RAY_LOG).read_text()


def test_workers_of_a_cluster_import_nothing_of_the_drivers_folder_and_its_logs_hold_no_secret(
    observed: Observed,
) -> None:
    assert observed.logs, "Ray writes no such log any more"
    assert observed.holding == []
    marker = observed.root / "marker"
    assert not marker.exists(), marker.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_of_a_cluster_start_with_the_drivers_way_to_wait(
    observed: Observed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        # Also what the code under test sets is undone after the test.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    set_waiting()
    assert {name: observed.environment[name] for name in VARIABLES if name in observed.environment} == (
        waiting_environment()
    )
