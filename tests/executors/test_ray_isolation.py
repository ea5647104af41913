"""A local Ray runs no files of the working directory, reveals no secrets, and serves only its own user.

The run is typed in a folder of modules that Python would prefer, by a user whose home and temporary folder are of no
use, with secrets in the environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

import simtune
from simtune.storage.files import read_json
from sweeps import tiny_fields

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.fault]

SHADOWED = ("numpy", "statistics", "datasets", "torch", "ray", "sitecustomize", "usercustomize", "deepspeed")
ENDPOINT = "http://me:planted-endpoint-password@127.0.0.1:9"
SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7PLANTED",
    "AWS_SECRET_ACCESS_KEY": "planted/secret+access/key/0123456789abcd",
    "AWS_SESSION_TOKEN": "planted-session-token-0123456789",
    "AWS_SECURITY_TOKEN": "planted-security-token-0123456789",
    "HF_TOKEN": "hf_plantedPlantedPlantedPlanted",
    "WANDB_API_KEY": "planted0123456789planted0123456789",
    "HTTPS_PROXY": "http://me:planted-proxy-password@127.0.0.1:9",
    "AWS_ENDPOINT_URL": ENDPOINT,
}
VALUES = [value.encode() for name, value in SECRETS.items() if "URL" not in name and "PROXY" not in name]
VALUES += [b"planted-proxy-password", b"planted-endpoint-password"]

# What the console script does, with a copy of the package that this process alone knows of. Ray's files are kept as
# they are when it ends.
DRIVER = """
import os, shutil, sys
from pathlib import Path
sys.path.insert(0, {package!r})
from simtune.cli import main
from simtune.executors import ray_start

os.environ["PYTHONPATH"] = os.pathsep + "."

def kept(self, real=ray_start.StartedRay.stop):
    folder = Path(os.environ["SIMTUNE_LOCAL_RAY"])
    ignored = lambda place, names: [name for name in names if (Path(place) / name).is_socket() or name == "packages"]
    shutil.copytree(folder, {kept!r}, symlinks=True, ignore=ignored)
    modes = [oct(path.stat().st_mode & 0o777) for path in (folder, folder / "token")]
    Path({kept!r}, "modes").write_text(" ".join(modes))
    real(self)

ray_start.StartedRay.stop = kept
main()
"""


# A cluster of one machine, until its input is closed.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@dataclass
class Observed:
    """What was observed of a run."""

    code: int
    said: str
    root: Path
    storage: Path
    listening: set[tuple[str, str]]
    refusals: list[str]


def observe(process: psutil.Process, seen: Observed) -> None:
    """Records the addresses on which the processes of a run listen."""
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            for connection in each.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    seen.listening.add((each.name(), connection.laddr.ip))


def join_as_another(gcs_address: str, python: str) -> str:
    """What Ray answers another user of this machine who knows the address."""
    script = (
        "import os, ray\n"
        "os.environ |= {'RAY_AUTH_MODE': 'token', 'RAY_AUTH_TOKEN': 'a' * 64}\n"
        f"ray.init(address={gcs_address!r}, logging_level='ERROR')\nprint('joined')\n"
    )
    another = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    # The other user may not be able to read this Python; then it is this user who has another token.
    if subprocess.run([*another, python, "-c", "import ray"], capture_output=True, check=False, cwd="/").returncode:
        another = []
    environment = {"PATH": os.environ["PATH"], "HOME": "/", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    done = subprocess.run(
        [*another, python, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        cwd="/",
    )
    return done.stdout + done.stderr


def holding_secrets(folder: Path) -> list[str]:
    """Files that contain a planted secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if any(value in path.read_bytes() for value in VALUES)]


@pytest.fixture(scope="module")
def observed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, embedding_cache: Path
) -> Observed:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU")
    root = tmp_path_factory.mktemp("isolation")
    hostile, storage = hostile_folder(root), root / "runs"
    (storage / "cache").mkdir(parents=True)
    (storage / "cache/embeddings").symlink_to(embedding_cache)
    shutil.copytree(Path(simtune.__file__).parent, root / "package/simtune", ignore=shutil.ignore_patterns("*.pyc"))
    (root / "bin").mkdir()
    (root / "bin/driver.py").write_text(DRIVER.format(package=str(root / "package"), kept=str(root / "kept")))
    (hostile / "sweep.yaml").write_text(yaml.safe_dump(sweep_fields(storage), sort_keys=False))
    long_folder = root / ("long" * 30)
    long_folder.mkdir()
    environment = {
        **os.environ,
        **SECRETS,
        # Nothing can be made below a file.
        "HOME": "/dev/null/home",
        "TMPDIR": str(long_folder),
        # Another cluster's.
        "RAY_ADDRESS": "127.0.0.1:9",
        "RAY_AUTH_MODE": "disabled",
    }
    driver = subprocess.Popen(
        [sys.executable, str(root / "bin/driver.py"), "run", "sweep.yaml", "--executor", "local", "--json"],
        cwd=hostile,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seen = Observed(-1, "", root, storage, set(), [])
    joining: Future[str] | None = None
    process = psutil.Process(driver.pid)
    deadline = time.monotonic() + 240
    while driver.poll() is None and time.monotonic() < deadline:
        observe(process, seen)
        if joining is None and (gcs := address_of(process)):
            # While the sockets are listed too, because workers live for seconds only.
            joining = ThreadPoolExecutor(1).submit(join_as_another, gcs, sys.executable)
        time.sleep(0.1)
    seen.refusals += [joining.result()] if joining else []
    seen.said, _ = driver.communicate(timeout=60)
    seen.code = driver.returncode
    return seen


def address_of(process: psutil.Process) -> str | None:
    """The head's address, once a worker of a trial runs."""
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            command = child.cmdline()
            for argument in command:
                if argument.startswith("--gcs-address=") and any("raylet" in part for part in command):
                    return argument.partition("=")[2]
    return None


def hostile_folder(root: Path) -> Path:
    """A folder of modules that say in `root/marker` that they were imported, and raise."""
    hostile = root / "corpus"
    hostile.mkdir()
    for name in SHADOWED:
        (hostile / f"{name}.py").write_text(f"open({str(root / 'marker')!r}, 'a').write({name!r})\nraise SystemError")
    return hostile


def sweep_fields(storage: Path) -> dict[str, Any]:
    return tiny_fields(storage) | {
        "selection": {"strategies": ["random"], "sizes": [2], "seeds": [0]},
        "baselines": [],
        "resources": {"workers": 2, "cpus_per_worker": 1},
    }


def test_no_file_beside_the_command_is_imported_and_no_home_or_temporary_folder_is_needed(observed: Observed) -> None:
    assert observed.code == 0, observed.said
    assert not (observed.root / "marker").exists(), (observed.root / "marker").read_text()
    (trial,) = (observed.storage / "trials").glob("*/scores/*/metrics.json")
    assert read_json(trial)["overall"]


def test_all_processes_listen_on_the_loopback_interface_alone(observed: Observed) -> None:
    names = " ".join(sorted({name for name, _ in observed.listening}))
    for expected in ("gcs_server", "raylet", "RayTrainWorker"):
        assert expected in names, names
    elsewhere = {
        (name, ip) for name, ip in observed.listening if not ip.removeprefix("::ffff:").startswith(("127.", "::1"))
    }
    assert not elsewhere


def test_another_user_who_knows_the_address_is_refused(observed: Observed) -> None:
    (answer,) = observed.refusals
    assert "joined" not in answer
    assert "token" in answer.lower(), answer
    assert (observed.root / "kept/modes").read_text().split() == ["0o700", "0o600"]


def test_no_file_of_ray_or_the_run_holds_a_secret_and_none_of_rays_stays(observed: Observed) -> None:
    logs = list((observed.root / "kept").rglob("runtime_env_agent.log"))
    assert logs, "Ray writes no such log any more"
    holding = holding_secrets(observed.root / "kept") + holding_secrets(observed.storage)
    assert holding == []
    assert not any(value.decode() in observed.said for value in VALUES)
    token = (observed.root / "kept/token").read_text()
    ours = [path for path in Path("/tmp").glob("simtune-ray-*/token") if path.read_text() == token]  # noqa: S108
    assert ours == []
    assert json.loads((observed.storage / "tiny/.lease").read_text())["token"] == ""


def test_workers_of_a_cluster_import_nothing_of_the_drivers_folder_and_its_logs_hold_no_secret(
    tmp_path: Path, storage: Path
) -> None:
    hostile = hostile_folder(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/cluster.py").write_text(CLUSTER)
    fields = sweep_fields(storage) | {"resources": {"cpus_per_worker": 1}}
    (hostile / "sweep.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as files:
        secrets = {name: value for name, value in SECRETS.items() if "ENDPOINT" not in name}
        environment = {**os.environ, **secrets, "RAY_TMPDIR": files}
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
        machine = subprocess.Popen(
            [sys.executable, str(tmp_path / "bin/cluster.py")], cwd=hostile, env=environment, text=True, **pipes
        )
        assert machine.stdin is not None
        assert machine.stdout is not None
        try:
            driver = subprocess.run(
                [sys.executable, "-m", "simtune.cli", "run", "sweep.yaml", "--executor", "cluster", "--json"],
                cwd=hostile,
                env={**environment, "RAY_ADDRESS": machine.stdout.readline().strip(), "AWS_ENDPOINT_URL": ENDPOINT},
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
            assert driver.returncode == 0, driver.stderr
            assert list(Path(files).rglob("runtime_env_agent.log"))
            assert holding_secrets(Path(files)) + holding_secrets(storage) == []
        finally:
            machine.stdin.close()
            machine.wait(60)
    assert not (tmp_path / "marker").exists(), (tmp_path / "marker").read_text()
