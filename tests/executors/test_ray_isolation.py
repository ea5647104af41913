"""A local Ray runs no files of the working directory, reveals no secrets, and serves only its own user.

All is observed on one run of two trials of two workers, one of which is killed. It is typed in a folder of modules that
Python would prefer, by a user whose home and temporary folder are of no use, with secrets in the environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from hostile import SECRETS, VALUES, holding_secrets, hostile_folder
from json_files import read_json
from ray_drivers import elsewhere, skip_on_one_cpu

import simtune
from simtune.storage.parquet_files import read_table
from sweeps import run, tiny_fields

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.fault]

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


@dataclass
class Observed:
    """What was observed of a run."""

    code: int
    said: str
    root: Path
    storage: Path
    fields: dict[str, Any]
    listening: set[tuple[str, str]] = field(default_factory=set)
    refusals: list[str] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)


def observe(process: psutil.Process, seen: Observed) -> None:
    """Records the addresses on which the processes of a run listen."""
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            for connection in each.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    seen.listening.add((each.name(), connection.laddr.ip))


def kill_one_worker(process: psutil.Process, seen: Observed) -> None:
    """Kills a worker of this run once one trial has its results and another is running."""
    trials = seen.storage / "trials"
    while process.is_running():
        under_way = [path for path in trials.glob("*/.claim") if not any(path.parent.glob("scores/*/metrics.json"))]
        if under_way and any(trials.glob("*/scores/*/metrics.json")):
            for child in process.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "RayTrainWorker" in " ".join(child.cmdline()):
                        child.kill()
                        seen.killed.append(child.pid)
                        return
        time.sleep(0.05)


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


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory, embedding_cache: Path) -> Observed:
    skip_on_one_cpu()
    root = tmp_path_factory.mktemp("isolation")
    hostile, storage = hostile_folder(root), root / "runs"
    (storage / "cache").mkdir(parents=True)
    (storage / "cache/embeddings").symlink_to(embedding_cache)
    shutil.copytree(Path(simtune.__file__).parent, root / "package/simtune", ignore=shutil.ignore_patterns("*.pyc"))
    (root / "bin").mkdir()
    (root / "bin/driver.py").write_text(DRIVER.format(package=str(root / "package"), kept=str(root / "kept")))
    fields = sweep_fields(storage)
    (hostile / "sweep.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
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
    seen = Observed(-1, "", root, storage, fields)
    joining: Future[str] | None = None
    process = psutil.Process(driver.pid)
    killer = threading.Thread(target=kill_one_worker, args=(process, seen))
    killer.start()
    deadline = time.monotonic() + 240
    while driver.poll() is None and time.monotonic() < deadline:
        observe(process, seen)
        if joining is None and (gcs := address_of(process)):
            # While the sockets are listed too, because workers live for seconds only.
            joining = ThreadPoolExecutor(1).submit(join_as_another, gcs, sys.executable)
        time.sleep(0.5)
    seen.refusals += [joining.result()] if joining else []
    seen.said, _ = driver.communicate(timeout=60)
    seen.code = driver.returncode
    killer.join()
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


def sweep_fields(storage: Path) -> dict[str, Any]:
    fields = tiny_fields(storage)
    fields["training"] |= {"zero_stage": 2, "epochs": 6}
    return fields | {
        "selection": {"strategies": ["different"], "sizes": [2, 3], "seeds": [0]},
        "baselines": [],
        "resources": {"cpus_per_worker": 1, "workers": 2},
    }


def test_no_file_beside_the_command_is_imported_and_no_home_or_temporary_folder_is_needed(observed: Observed) -> None:
    assert observed.code == 0, observed.said
    assert "matplotlib" not in observed.said.lower(), observed.said
    assert not (observed.root / "marker").exists(), (observed.root / "marker").read_text()
    trials = [read_json(path) for path in (observed.storage / "trials").glob("*/scores/*/metrics.json")]
    assert [bool(trial["overall"]) for trial in trials] == [True, True]


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


def test_two_workers_learn_the_same_and_a_killed_one_costs_only_its_own_trial_a_start(observed: Observed) -> None:
    assert observed.code == 0, observed.said
    assert observed.killed, "no worker was found in time"
    alone = elsewhere(observed.fields, "alone") | {"resources": {"cpus_per_worker": 1}}
    run(alone)
    one, two = (losses_by_size(Path(fields["storage"])) for fields in (alone, observed.fields))
    assert one.keys() == two.keys() == {2, 3}
    for size, losses in one.items():
        np.testing.assert_allclose(two[size], losses, atol=1e-5)
    costs = [read_json(path) for path in (observed.storage / "trials").glob("*/scores/*/costs.json")]
    assert sorted(cost["failed_attempts"] for cost in costs) == [0, 1]


def losses_by_size(storage: Path) -> dict[int, list[float]]:
    """The losses of each trial's training, by the number of its tasks."""
    rows = read_table(storage / "tiny" / "results.parquet").to_pylist()
    assert [row["status"] for row in rows] == ["done"] * len(rows)
    files = {row["size"]: storage / "trials" / row["trial"] / "scores" / row["score"] / "metrics.json" for row in rows}
    return {size: read_json(path)["training"]["losses"] for size, path in files.items()}
