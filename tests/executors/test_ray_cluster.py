"""A cluster that loses a machine, and that knows nothing of the driver: neither its files, nor secrets, nor settings.

Everything is observed on one cluster of several processes on this machine, which hurried users set up: in a folder of
modules that Python would prefer, and with secrets in the environment.
"""

from __future__ import annotations

import contextlib
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
    if line.startswith("free"):
        expected = float(line.removeprefix("free"))
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        ends = time.monotonic() + 60
        while ray.available_resources().get("CPU") != expected and time.monotonic() < ends:
            time.sleep(0.2)
        print(ray.available_resources().get("CPU"), flush=True)
        ray.shutdown()
        continue
    print("done", flush=True)
cluster.shutdown()
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
    """What was seen of a cluster's two drivers.

    Attributes:
        environment: of a worker at its start.
        refused: the driver of a sweep that is too large.
        driver: of five trials, two at a time. The workers were killed, and their machine was lost then; two others
            came, one of which was lost for good.
        hit: a trial that ran when the workers were killed, and the step of its newest checkpoint.
        lost_at: the step of that when its machine was lost.
        free: CPUs at the end.
        holding: files of Ray and of the sweep that contain a secret.
    """

    root: Path
    environment: dict[str, str]
    refused: Driver
    driver: Driver
    hit: tuple[str, int]
    lost_at: int
    free: str
    logs: list[str]
    holding: list[str]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory, embedding_cache: Path) -> Observed:
    root = tmp_path_factory.mktemp("cluster")
    fields = fault_fields(root / "runs", embedding_cache)
    # Enough that both machines that come later have a trial at the same time.
    fields["selection"] |= {"seeds": [0, 1, 2, 3, 4]}
    # One process may die; the loss of a machine must not count.
    fields["resources"] = {"cpus_per_worker": 1, "checkpoint_minutes": 0, "max_failures": 1}
    too_much: dict[str, Any] = {**elsewhere(fields, "too-much"), "resources": {"workers": 8}}
    hostile = hostile_folder(root)
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as files:
        environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        environment |= {name: value for name, value in SECRETS.items() if "ENDPOINT" not in name}
        environment["RAY_TMPDIR"] = files
        with cluster(root / "cluster.log", hostile, environment) as (address, tell):
            on_it = {**environment, "RAY_ADDRESS": address, "AWS_ENDPOINT_URL": ENDPOINT}
            with Driver(too_much, "cluster", on_it, hostile) as refused:
                assert refused.ends() == 2, refused.log.read_text()
            with Driver(fields, "cluster", on_it, hostile) as driver:
                hit = driver.in_the_middle_of_a_trial()
                at_start = environment_of_a_worker(files)
                assert tell("kill") == "done"
                lost_at = driver.continues_beyond(*hit)
                assert tell("lose") == "done"
                driver.steps_seen[hit[0]] = set()
                before = newest_steps(driver)
                for command in ("add 1", "add 1"):
                    assert tell(command) == "done"
                while sum(step > before.get(trial, 0) for trial, step in newest_steps(driver).items()) < 2:
                    assert driver.process.poll() is None, driver.log.read_text()
                    time.sleep(0.05)
                assert tell("lose") == "done"
                assert driver.ends() == 0, driver.log.read_text()
            free = tell("free 1")
        logs = [str(path) for path in Path(files).rglob("runtime_env_agent.log")]
        holding = holding_secrets(Path(files)) + holding_secrets(driver.storage)
    return Observed(root, at_start, refused, driver, hit, lost_at, free, logs, holding)


def environment_of_a_worker(cluster_files: str) -> dict[str, str]:
    """What a worker that trains on the cluster with these files was started with; empty where there is no /proc."""
    for process in psutil.process_iter() if Path("/proc").is_dir() else ():
        with contextlib.suppress(psutil.Error, OSError):
            # The cluster's own command has the word in its script.
            if " ".join(process.cmdline()).startswith("ray::RayTrainWorker"):
                entries = Path(f"/proc/{process.pid}/environ").read_text().split("\0")
                found = dict(entry.split("=", 1) for entry in entries if "=" in entry)
                if found.get("RAY_TMPDIR") == cluster_files:
                    return found
    return {}


def newest_steps(driver: Driver) -> dict[str, int]:
    return {trial: max(steps) for trial, steps in driver.checkpoints().items()}


def test_lost_machines_are_replaced_and_the_trials_continue_on_those_that_are_left(observed: Observed) -> None:
    refused = observed.refused
    assert "a trial needs 8 workers of 1 CPU, and the hosts hold 2" in " ".join(refused.log.read_text().split())
    assert not (refused.storage / "tiny").exists()
    trial, _ = observed.hit
    assert observed.free == "1.0"
    # The checkpoint before the last may not be removed yet.
    assert min(observed.driver.steps_seen[trial]) >= observed.lost_at - 1
    check_results(observed.driver.fields, num_trials=5)


def test_a_lost_machine_costs_no_try_and_a_killed_process_does_and_both_are_recorded_with_their_host(
    observed: Observed,
) -> None:
    directory = observed.driver.storage / "trials" / observed.hit[0]
    killed, lost, *again = attempts_of(directory)
    causes = [attempt.cause for attempt in (killed, lost, *again)]
    # It may have been on the second machine that was lost, too.
    assert causes in (["infrastructure", "preempted"], ["infrastructure", "preempted", "preempted"])
    assert killed.message.startswith("its workers were lost at train ")
    assert lost.message.startswith("its host was lost at train ")
    (costs,) = (read_json(path) for path in directory.glob("scores/*/costs.json"))
    # All machines are processes here: their names are the same, so their ids follow.
    names = {killed.host, lost.host, costs["host"]}
    assert killed.host == lost.host != costs["host"]
    assert {name.partition(" (")[0] for name in names} == {socket.gethostname()}


def test_a_lost_machine_is_two_lines_on_the_terminal_and_what_ray_says_is_in_its_log(observed: Observed) -> None:
    said = " ".join(observed.driver.log.read_text().split())
    trials = r"random, 20 tasks, seed \d(?:; random, 20 tasks, seed \d)?"
    lost = re.findall(rf"host \S+ \(\w{{8}}\) is lost; {trials} ran there and will continue elsewhere", said)
    continued = re.findall(rf"{trials} continues on \S+ \(\w{{8}}\).*? after the loss of \S+ \(\w{{8}}\)", said)
    assert len(continued) == len(lost) >= 1, said
    # On the second machine, a trial may not have begun yet.
    assert len(lost) + said.count(" is lost; no trial ran there") == 2, said
    assert not re.search(r"\(-\d+ s\)", said), said
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
