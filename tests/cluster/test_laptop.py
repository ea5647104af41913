"""From a laptop to a cluster of namespaces and back, for real: Ray's launcher, SSH, Ray's job server, faults."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from namespaces import LAPTOP, Hosts, reason_for_no_hosts
from on_prem_file import ROOT, filled_in

from sweeps import run, tiny_fields

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.fault, pytest.mark.timeout(1800)]

_RAY = "raylet|gcs_server|ray::|dashboard|simtune"


def fields(storage: Path) -> dict[str, Any]:
    """A sweep of some seconds a trial, whose numbers do not depend on the machine."""
    tiny = tiny_fields(storage)
    tiny["training"] |= {"epochs": 200}
    return tiny | {"resources": {"cpus_per_worker": 1}}


class Laptop:
    """A laptop, a head and a worker; `simtune` is run on the laptop."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.runs = hosts.shared / "runs"
        settings = filled_in(hosts.address("h1"), [hosts.address("h2")])
        (hosts.shared / "cluster.yaml").write_text(yaml.safe_dump(settings))
        (hosts.shared / "tiny.yaml").write_text(yaml.safe_dump(fields(Path("/mnt/runs"))))
        self.up = self("cluster up")

    def command(self, words: str) -> str:
        return f"cd {ROOT}; COLUMNS=300 exec simtune {words} --cluster /mnt/cluster.yaml < /dev/null 2>&1"

    def __call__(self, words: str) -> subprocess.CompletedProcess[str]:
        return self.hosts.run(LAPTOP, self.command(words), timeout_s=900)

    def in_background(self, words: str, log: str) -> subprocess.Popen[bytes]:
        return self.hosts.start(LAPTOP, self.command(words), self.hosts.shared / log)

    def status(self, name: str) -> dict[str, int]:
        """Trials of a run by their status; all zero before it has planned them."""
        said = self(f"status {name} --json").stdout
        return json.loads(said[said.index("{") :])["counts"] if "{" in said else {}

    def wait_for_trials(self, name: str, num_done: int, limit_s: float = 600.0) -> None:
        """Waits until that many trials of a run are done."""
        until = time.monotonic() + limit_s
        while self.status(name).get("done", 0) < num_done:
            assert time.monotonic() < until, self(f"logs {name}").stdout
            time.sleep(1)


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    if reason := reason_for_no_hosts() or ("needs rsync, for Ray's launcher" if shutil.which("rsync") is None else ""):
        pytest.skip(reason)
    with Hosts(tmp_path_factory.mktemp("hosts")) as hosts:
        for host in (LAPTOP, "h1", "h2"):
            hosts.switch_on(host)
        yield Laptop(hosts)


def test_up_makes_a_token_and_starts_the_cluster(laptop: Laptop) -> None:
    assert laptop.up.returncode == 0, laptop.up.stdout
    assert "cluster simtune-on-prem is up, head " in laptop.up.stdout
    for host in (LAPTOP, "h1"):
        assert laptop.hosts.run(host, "stat -c %a .ray/auth_token").stdout.strip() == "600"
    shown = laptop("cluster status").stdout
    assert "no sweep was submitted" in shown
    assert "supervisor, which continues interrupted sweeps: runs" in shown


def test_other_users_of_the_head_reach_none_of_rays_files_and_it_works_in_no_users_folder(laptop: Laptop) -> None:
    session = "/tmp/simtune-cluster-0/ray/session_latest"  # noqa: S108
    for folder in ("", "/runtime_resources", "/sockets", "/logs"):
        assert laptop.hosts.run("h1", f"ls {session}{folder}").returncode == 0, folder
        other = laptop.hosts.run("h1", f"setpriv --reuid 65534 --clear-groups ls {session}{folder}")
        assert "Permission denied" in other.stderr, folder
    assert laptop.hosts.run("h1", "ls -d /tmp/ray").returncode != 0
    servers = "'[g]cs/gcs_server|[r]aylet/raylet|[d]ashboard/dashboard.py'"
    work = laptop.hosts.run("h1", f"readlink $(pgrep -f {servers} | sed 's|.*|/proc/&/cwd|')")
    assert len(work.stdout.split()) >= 3
    assert set(work.stdout.split()) == {"/"}


def gcs(laptop: Laptop) -> str:
    """The process of Ray's head."""
    return laptop.hosts.run("h1", "pgrep -x gcs_server").stdout.strip()


def test_up_leaves_a_running_ray_alone_from_any_computer_and_refuses_another_token(laptop: Laptop) -> None:
    before = gcs(laptop)
    # A computer that has started nothing yet.
    laptop.hosts.run(LAPTOP, "rm -rf /tmp/simtune-cluster-0 .simtune")
    again = laptop("cluster up")
    assert again.returncode == 0, again.stdout
    assert "supervising submissions" in again.stdout
    laptop.hosts.run(LAPTOP, "cp .ray/auth_token token; echo other > .ray/auth_token")
    refused = laptop("cluster up --yes")
    laptop.hosts.run(LAPTOP, "mv token .ray/auth_token")
    assert refused.returncode == 2, refused.stdout
    assert "the cluster refuses the token in /home/.ray/auth_token" in refused.stdout
    tokens = [laptop.hosts.run(host, "cat .ray/auth_token").stdout for host in (LAPTOP, "h1")]
    assert (gcs(laptop), tokens[0]) == (before, tokens[1])


def test_up_starts_ray_and_the_supervisor_where_they_have_ended(laptop: Laptop) -> None:
    # It also kills the shell that it is called from.
    laptop.hosts.run("h1", "pkill -KILL -f 'cluster supervise'")
    laptop.hosts.run("h1", "source simtune-env/bin/activate; ray stop --force")
    assert gcs(laptop) == ""
    again = laptop("cluster up")
    assert again.returncode == 0, again.stdout
    assert gcs(laptop)
    assert "supervisor, which continues interrupted sweeps: runs" in laptop("cluster status").stdout


def test_a_sweep_goes_on_without_the_laptop_and_after_its_driver_was_killed(laptop: Laptop) -> None:
    watched = laptop.in_background("submit /mnt/tiny.yaml", "watched.log")
    laptop.wait_for_trials("tiny", 2)
    laptop.hosts.cut(LAPTOP)
    laptop.hosts.run("h1", "pkill -KILL -f 'simtune run'")
    time.sleep(20)
    laptop.hosts.heal(LAPTOP)
    assert watched.wait(timeout=900) == 0, (laptop.hosts.shared / "watched.log").read_text()
    said = (laptop.hosts.shared / "watched.log").read_text()
    assert "connected to the head again" in said
    assert "it continues as tiny-" in said
    assert said.count("✓ 1/") == 2
    assert laptop.status("tiny")["done"] == 6


def test_results_come_back_and_are_those_of_this_machine(laptop: Laptop, tmp_path: Path) -> None:
    done = laptop("results tiny --download --output /home/results")
    assert done.returncode == 0, done.stdout
    run(fields(tmp_path))
    copy = laptop.hosts.folder / LAPTOP / "home" / "results"
    assert (copy / "results.csv").read_bytes() == (tmp_path / "tiny" / "results.csv").read_bytes()
    assert (copy / "report" / "index.html").is_file()
    assert not list(copy.rglob("*.safetensors"))


def test_a_sweep_continues_by_itself_after_a_restart_of_the_head(laptop: Laptop) -> None:
    again = "--set name=again --set training.learning_rate=2e-3 --detach"
    assert laptop(f"submit /mnt/tiny.yaml {again}").returncode == 0
    laptop.wait_for_trials("again", 1)
    restarted = laptop("cluster up --restart --yes")
    assert restarted.returncode == 0, restarted.stdout
    followed = laptop("logs again --follow")
    assert followed.returncode == 0, followed.stdout
    assert "already done" in followed.stdout


def test_what_was_cancelled_stays_so_and_a_wrong_token_is_called_one(laptop: Laptop) -> None:
    assert laptop("submit /mnt/tiny.yaml --set name=third --set training.epochs=4000 --detach").returncode == 0
    cancelled = laptop("cancel third")
    assert cancelled.returncode == 0, cancelled.stdout
    assert "finished trials are kept" in cancelled.stdout
    # The supervisor looks every five seconds.
    time.sleep(12)
    shown = laptop("cluster status").stdout
    assert [line for line in shown.splitlines() if "third-" in line and "stopped" in line], shown
    assert not [line for line in shown.splitlines() if "third-" in line and ("running" in line or "pending" in line)]
    laptop.hosts.run(LAPTOP, "cp .ray/auth_token token; echo other > .ray/auth_token")
    refused = laptop("logs third")
    laptop.hosts.run(LAPTOP, "cp token .ray/auth_token")
    assert refused.returncode == 2
    assert "refuses the token in /home/.ray/auth_token" in refused.stdout
    on_head = "source simtune-env/bin/activate; RAY_AUTH_TOKEN=other simtune run /mnt/tiny.yaml --executor cluster"
    refused = laptop.hosts.run("h1", f"{on_head} 2>&1")
    assert refused.returncode == 2
    assert "a Ray cluster is running here, but refuses this command: the token" in refused.stdout
    assert "third" in laptop("cluster status").stdout


def test_down_leaves_nothing_running(laptop: Laptop) -> None:
    down = laptop("cluster down --yes")
    assert down.returncode == 0, down.stdout
    for host in ("h1", "h2"):
        found = laptop.hosts.run(host, f"pgrep -fa '{_RAY}' | grep -v pgrep").stdout
        assert found == "", host
    assert laptop("cluster status").returncode == 1
