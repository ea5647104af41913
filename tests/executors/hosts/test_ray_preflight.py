"""A cluster on which several things are wrong is refused before any work, with the hosts and what to do.

One cluster of several raylets on this machine: its "hosts" share a file system and differ in their environment.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

import simtune
from sweeps import tiny_fields

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# Hosts by their number of CPUs: 1 is as the driver's, 2 has another simtune, 3 has no credentials.
CLUSTER = """
import json, sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=2, env_vars={"PYTHONPATH": sys.argv[1]})
last = cluster.add_node(num_cpus=3, env_vars={"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""})
print(json.dumps([cluster.address, last.all_processes["raylet"][0].process.pid]), flush=True)
sys.stdin.read()
cluster.shutdown()
"""
# The command, with the seconds that it waits for hosts.
COMMAND = """
import sys
from simtune.executors import ray_executor
from simtune.executors.hosts import ray_preflight
limit_s = float(sys.argv.pop(1))
ray_executor.report_hosts = lambda *of: ray_preflight.report_hosts(*of, limit_s)
from simtune.cli import main
main()
"""


@dataclass
class Cluster:
    """A cluster, and the sweep file of a driver on its head."""

    environment: Mapping[str, str]
    raylet: int
    sweep: Path

    def simtune(self, *words: str, limit_s: float = 60) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of a command on the head."""
        command = [sys.executable, "-P", "-c", COMMAND, str(limit_s), *words]
        done = subprocess.run(command, env=dict(self.environment), capture_output=True, text=True, timeout=240)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, s3_folder: tuple[Path, dict[str, str]]) -> Iterator[Cluster]:
    root = tmp_path_factory.mktemp("preflight")
    another = root / "another" / "simtune"
    shutil.copytree(Path(simtune.__file__).parent, another, ignore=shutil.ignore_patterns("__pycache__"))
    # What the check itself would use, too.
    shutil.rmtree(another / "executors")
    sweep = root / "sweep.yaml"
    sweep.write_text(yaml.safe_dump(tiny_fields(root / "runs")))
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as files, (root / "log").open("w") as log:
        environment = {**os.environ, **s3_folder[1], "RAY_TMPDIR": files}
        # A test stops a raylet, which must not count as lost meanwhile.
        environment["RAY_health_check_failure_threshold"] = "1000"
        environment |= {name: str(root / "none") for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
        started = subprocess.Popen(
            [sys.executable, "-P", "-c", CLUSTER, str(another.parent)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert started.stdin is not None
        assert started.stdout is not None
        try:
            line = started.stdout.readline()
            assert line, (root / "log").read_text()
            address, raylet = json.loads(line)
            yield Cluster({**environment, "RAY_ADDRESS": address}, raylet, sweep)
        finally:
            children = psutil.Process(started.pid).children(recursive=True)
            started.stdin.close()
            started.wait(60)
            _, alive = psutil.wait_procs(children, timeout=60)
            for process in alive:
                process.kill()


def test_another_simtune_and_missing_credentials_are_named_before_any_work(cluster: Cluster, s3_storage: str) -> None:
    code, out, said = cluster.simtune("doctor", str(cluster.sweep), "--cluster", "--storage", s3_storage, "--json")
    assert code == 2, said
    assert out, said
    found = json.loads(out)
    names = {report["num_cpus"]: report["name"] for report in found["reports"]}
    assert len(set(names.values())) == 3
    problems = {problem["host"]: problem["text"] for problem in found["problems"]}
    lines = [f"host {host}: {problems[host]}" for host in (names[2], names[3])]
    assert problems.keys() == {names[2], names[3]}
    assert problems[names[2]].startswith("a different simtune is installed there: simtune 0.1.0 (code ")
    assert problems[names[3]].startswith(f"{s3_storage}: refused (no credentials found)")
    assert sorted(said.splitlines()[-2:]) == sorted(lines)
    assert "Traceback" not in said

    code, out, said = cluster.simtune("run", str(cluster.sweep), "--executor", "cluster", "--storage", s3_storage)
    assert code == 2, said
    assert sorted(said.splitlines()[-2:]) == sorted(lines)
    assert "embed tasks" not in said
    # The table comes first.
    assert "3 hosts, 2 problems" in said
    from simtune.storage.files import as_path

    assert list(as_path(s3_storage).glob("**/*")) == []


def test_a_host_that_does_not_answer_is_named_and_what_it_has_is_unknown(cluster: Cluster, tmp_path: Path) -> None:
    stopped = psutil.Process(cluster.raylet)
    stopped.send_signal(signal.SIGSTOP)
    try:
        code, out, said = cluster.simtune(
            *("doctor", str(cluster.sweep), "--cluster", "--storage", str(tmp_path), "--json"), limit_s=20
        )
    finally:
        stopped.send_signal(signal.SIGCONT)
    assert code == 2, said
    reports: dict[int, dict[str, Any]] = {report["num_cpus"]: report for report in json.loads(out)["reports"]}
    assert reports[1]["facts"]["found"]["storage"] == {"": ""}
    assert reports[3]["facts"] is None
    assert f"host {reports[3]['name']}: did not answer within 20 s; see `ray status`" in said
    assert list(tmp_path.iterdir()) == []
