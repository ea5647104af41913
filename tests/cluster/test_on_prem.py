"""clusters/on-prem.yaml, started for real on hosts that are namespaces: who joins, what listens, who is lost."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest
import yaml
from namespaces import LAPTOP, Hosts, reason_for_no_hosts
from on_prem_file import ROOT, filled_in

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.fault, pytest.mark.timeout(900)]

TOKEN = "7" * 64
ALL, OWN, LOCALHOST = "all addresses", "the host's address", "localhost"
# What docs/clusters.md says: host, port, process, where it listens.
TABLE = [
    ("every host", "22", "sshd", OWN),
    ("head", "6379", "Ray's head (GCS)", ALL),
    ("head", "8265", "the dashboard: jobs, states", LOCALHOST),
    ("every host", "8076", "the raylet: objects", ALL),
    ("every host", "any", "the raylet: leases of workers", ALL),
    ("every host", "any", "the dashboard's agent: logs, profiles", ALL),
    ("every host", "52365", "the dashboard's agent: jobs, states", f"{OWN}, {LOCALHOST}"),
    ("every host", "any", "the agent for runtime environments", OWN),
    ("every host", "10002-19999", "drivers, workers, actors: one each", ALL),
]
# As `ss` names the processes.
PROCESSES = {
    "sshd": "sshd",
    "Ray's head (GCS)": "gcs_server",
    "the dashboard: jobs, states": "python",
    "the raylet: objects": "raylet",
    "the raylet: leases of workers": "raylet",
    "the dashboard's agent: logs, profiles": "ray::DashboardA",
    "the dashboard's agent: jobs, states": "ray::DashboardA",
    "the agent for runtime environments": "ray::RuntimeEnv",
}

# On the head: holds an actor on the first worker, and writes down who is alive whenever that changes.
DRIVER = """
import json, sys, time
import ray

ray.init(address="auto", log_to_driver=False)

@ray.remote(num_cpus=1)
class Actor:
    def host(self):
        return ray.util.get_node_ip_address()

first = sys.argv[1]
actor = None
seen = None
while True:
    alive = sorted(node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"])
    if actor is None and first in alive:
        actor = Actor.options(resources={f"node:{first}": 0.001}).remote()
        ray.get(actor.host.remote())
    if alive != seen:
        seen = alive
        print(json.dumps([time.monotonic(), alive]), flush=True)
    time.sleep(0.25)
"""

# On the laptop: what a port answers; with a token as the last argument, that is sent.
PROBE = """
import json, sys, urllib.error, urllib.request
import grpc

METHODS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo", "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Pull", "/ray.rpc.ReporterService/GetTraceback",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
)
ports, token = json.loads(sys.argv[1]), sys.argv[2]
metadata = (("authorization", f"Bearer {token}"),) if token else ()
raw = lambda message: message
answers = {}
for port in ports:
    found = set()
    try:
        urllib.request.urlopen(f"http://{port}/", timeout=5)
        found.add("HTTP 200")
    except urllib.error.HTTPError as error:
        found.add(f"HTTP {error.code}")
    except Exception as error:
        found.add("no HTTP")
    with grpc.insecure_channel(port) as channel:
        for method in METHODS if "no HTTP" in found else ():
            try:
                channel.unary_unary(method, raw, raw)(b"", timeout=5, metadata=metadata)
                found.add("OK")
            except grpc.RpcError as error:
                found.add(error.code().name)
    answers[port] = sorted(found)
print(json.dumps(answers))
"""


class Cluster:
    """Ray on a head (`h1`) and two workers, started from the laptop."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.addresses = {host: hosts.address(host) for host in ("h1", "h2", "h3", "h4")}
        hosts.run(LAPTOP, f"umask 077; mkdir -p .ray; printf {TOKEN} > .ray/auth_token")
        (hosts.shared / "driver.py").write_text(DRIVER)
        (hosts.shared / "probe.py").write_text(PROBE)
        self.launched = self.up("h2", "h3")

    def up(self, *workers: str, options: str = "") -> subprocess.CompletedProcess[str]:
        """`ray up` on the laptop, with the committed file for these workers."""
        filled = filled_in(self.addresses["h1"], [self.addresses[host] for host in workers])
        (self.hosts.shared / "cluster.yaml").write_text(yaml.safe_dump(filled))
        up = f"export RAY_AUTH_MODE=token; ray up -y {options} --no-config-cache /mnt/cluster.yaml < /dev/null 2>&1"
        return self.hosts.run(LAPTOP, f"cd {ROOT}; {up}", timeout_s=300)

    def alive(self) -> list[tuple[float, set[str]]]:
        """When which hosts were alive, by their names, as the driver has seen it."""
        log = self.hosts.shared / "alive.log"
        names = {address: host for host, address in self.addresses.items()}
        lines = [line for line in log.read_text().splitlines() if line.startswith("[")] if log.exists() else []
        return [(at, {names[address] for address in found}) for at, found in map(json.loads, lines)]

    def wait_for(self, hosts: set[str], after: float, limit_s: float) -> float:
        """Seconds from `after` until exactly these hosts are alive."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            for at, found in self.alive():
                if at >= after and found == hosts:
                    return at - after
            time.sleep(0.25)
        logs = "/tmp/simtune-cluster-0/ray/session_latest/logs"  # noqa: S108
        monitor = self.hosts.run("h1", f"tail -n 30 {logs}/monitor.log {logs}/monitor.out").stdout
        raise AssertionError(f"not {sorted(hosts)} within {limit_s:.0f} s, but {self.alive()}\n{monitor}")

    def listening(self, host: str) -> dict[tuple[str, str, str], str]:
        """Process, where it listens, and kind of port, as in the table; with an address and port of each."""
        found = {}
        for line in self.hosts.run(host, "ss -Hltnp").stdout.splitlines():
            where, process = line.split()[3], re.search(r'users:\(\("([^"]*)"', line)[1]
            address, _, port = where.rpartition(":")
            kind = {"*": ALL, "0.0.0.0": ALL, "127.0.0.1": LOCALHOST, self.addresses[host]: OWN}[address]  # noqa: S104
            fixed = {row[1] for row in TABLE}
            port_kind = port if port in fixed else "10002-19999" if 10002 <= int(port) <= 19999 else "any"
            found[process if port_kind != "10002-19999" else "", kind, port_kind] = f"{self.addresses[host]}:{port}"
        return found

    def probe(self, ports: list[str], token: str = "") -> dict[str, list[str]]:
        """What ports answer to the laptop."""
        done = self.hosts.run(LAPTOP, f"python /mnt/probe.py '{json.dumps(ports)}' '{token}'")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := reason_for_no_hosts() or ("needs rsync, for Ray's launcher" if shutil.which("rsync") is None else ""):
        pytest.skip(reason)
    with Hosts(tmp_path_factory.mktemp("hosts")) as hosts:
        for host in (LAPTOP, "h1", "h2", "h3", "h4"):
            hosts.switch_on(host)
        started = Cluster(hosts)
        environment = "export RAY_AUTH_MODE=token PYTHONSAFEPATH=1"
        command = f"{environment}; exec python /mnt/driver.py {started.addresses['h2']}"
        driver = hosts.start("h1", command, hosts.shared / "alive.log")
        yield started
        driver.kill()
        driver.wait()


def test_every_worker_starts(cluster: Cluster) -> None:
    assert cluster.launched.returncode == 0, cluster.launched.stdout
    cluster.wait_for({"h1", "h2", "h3"}, 0.0, limit_s=180)
    for host in ("h1", "h2", "h3"):
        assert cluster.hosts.run(host, "stat -c %a .ray .ray/auth_token").stdout.split() == ["700", "600"]


def test_what_listens_is_what_the_docs_say(cluster: Cluster) -> None:
    docs = (ROOT / "docs/clusters.md").read_text()
    for row in TABLE:
        assert f"| {' | '.join(row)} |" in docs
    for host in ("h1", "h2"):
        expected = {
            (PROCESSES.get(process, ""), kind, port)
            for hosts, port, process, where in TABLE
            for kind in where.split(", ")
            if hosts == "every host" or host == "h1"
        }
        assert set(cluster.listening(host)) == expected


def test_no_port_does_anything_without_the_token(cluster: Cluster) -> None:
    found = [(*key, port) for host in ("h1", "h2") for key, port in cluster.listening(host).items() if key[0] != "sshd"]
    answers = cluster.probe(sorted({port for *_, port in found}))
    for process, where, kind, port in found:
        if where == LOCALHOST and kind == "8265":
            assert answers[port] == ["UNAVAILABLE", "no HTTP"], port
        elif process == "ray::RuntimeEnv" or kind == "52365":
            assert answers[port] == ["HTTP 401"], port
        else:
            assert set(answers[port]) - {"UNIMPLEMENTED"} == {"UNAUTHENTICATED", "no HTTP"}, (process, answers[port])
    head = f"{cluster.addresses['h1']}:6379"
    assert "OK" in cluster.probe([head], TOKEN)[head]


def test_a_host_that_is_cut_off_is_noticed_in_20_seconds_and_joins_again_when_it_is_back(cluster: Cluster) -> None:
    cluster.wait_for({"h1", "h2", "h3"}, 0.0, limit_s=180)
    cut = time.monotonic()
    cluster.hosts.cut("h3")
    noticed_s = cluster.wait_for({"h1", "h2"}, cut, limit_s=60)
    # 20 s by the settings (test_ray_start_hook.py); this machine may be busy.
    assert noticed_s <= 30
    time.sleep(5)
    healed = time.monotonic()
    cluster.hosts.heal("h3")
    back_s = cluster.wait_for({"h1", "h2", "h3"}, healed, limit_s=180)
    print(f"noticed after {noticed_s:.1f} s, back {back_s:.1f} s after it was healed")


def test_a_host_is_added_without_a_restart_of_ray(cluster: Cluster) -> None:
    added = time.monotonic()
    done = cluster.up("h2", "h3", "h4", options="--no-restart")
    assert done.returncode == 0, done.stdout
    joined_s = cluster.wait_for({"h1", "h2", "h3", "h4"}, added, limit_s=180)
    # The others stayed: the driver has seen nothing else.
    assert [hosts for at, hosts in cluster.alive() if at >= added] == [{"h1", "h2", "h3", "h4"}]
    print(f"joined {joined_s:.1f} s after `ray up` was called")


def test_a_host_that_was_switched_off_joins_again_with_empty_folders(cluster: Cluster) -> None:
    off = time.monotonic()
    cluster.hosts.switch_off("h3")
    noticed_s = cluster.wait_for({"h1", "h2", "h4"}, off, limit_s=60)
    # 20 s by the settings (test_ray_start_hook.py); this machine may be busy.
    assert noticed_s <= 30
    on = time.monotonic()
    cluster.hosts.switch_on("h3")
    back_s = cluster.wait_for({"h1", "h2", "h3", "h4"}, on, limit_s=180)
    print(f"noticed after {noticed_s:.1f} s, back {back_s:.1f} s after it was switched on")
