"""One trial with a worker on each of two hosts, against the same trial with two workers on one host: equal bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from namespaces import LAPTOP, Hosts, reason_for_no_hosts
from on_prem_file import ROOT

from sweeps import tiny_fields

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

STAGES = (2, 3)
_TOKEN = "8" * 64
_RAY = "export RAY_AUTH_MODE=token RAY_worker_maximum_startup_concurrency=32; ray start --disable-usage-stats"


def fields(storage: str) -> dict[str, Any]:
    """A sweep whose trials, one for each stage, have two workers, write checkpoints all the time, and keep weights."""
    tiny = tiny_fields(Path(storage))
    tiny["training"] |= {"epochs": 20, "keep": "last", "precision": "bf16", "dropout": 0.1}
    return tiny | {
        "selection": {"strategies": ["random"], "sizes": [2], "seeds": [0]},
        "baselines": [],
        "resources": {"workers": 2, "cpus_per_worker": 1, "checkpoint_minutes": 0},
        "grid": {"training.zero_stage": list(STAGES)},
    }


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder with the storages `one` and `two`, named by the number of hosts of a trial."""
    if reason := reason_for_no_hosts():
        pytest.skip(reason)
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPUs, for a host with two workers")
    with Hosts(tmp_path_factory.mktemp("hosts"), subnet="10.198.0") as hosts:
        for host in (LAPTOP, "h1", "h2", "h3"):
            hosts.switch_on(host)
        # As Debian and Ubuntu have it: a host's own name is an address that no other host can reach.
        hosts.run("h3", "names=$(sed 's/^.* h3$/127.0.1.1 h3/' /etc/hosts); echo \"$names\" > /etc/hosts")
        assert hosts.run("h3", "getent ahostsv4 h3").stdout.startswith("127.0.1.1")
        for host, options in (
            ("h1", "--head --port 6379 --num-cpus 0"),
            ("h2", f"--address {hosts.address('h1')}:6379 --num-cpus 1"),
            ("h3", f"--address {hosts.address('h1')}:6379 --num-cpus 1"),
        ):
            token = f"umask 077; mkdir -p .ray; printf {_TOKEN} > .ray/auth_token"
            started = hosts.run(host, f"{token}; {_RAY} --node-ip-address {hosts.address(host)} {options}")
            assert started.returncode == 0, started.stdout + started.stderr
        for host, executor, storage in (("h1", "cluster", "two"), (LAPTOP, "local", "one")):
            (hosts.shared / storage).mkdir()
            (hosts.shared / f"{storage}.yaml").write_text(yaml.safe_dump(fields(f"/mnt/{storage}")))
            run = (
                f"cd {ROOT}; RAY_AUTH_MODE=token simtune run /mnt/{storage}.yaml --executor {executor} < /dev/null 2>&1"
            )
            done = hosts.run(host, run if executor == "cluster" else run.replace("RAY_AUTH_MODE=token ", ""), 600)
            assert done.returncode == 0, done.stdout
        yield hosts.shared


def trial_of(storage: Path, zero_stage: int) -> Path:
    """The folder of the trial of a stage."""
    (found,) = (
        path.parent
        for path in storage.glob("trials/*/training.json")
        if json.loads((path.parent / "model.json").read_text())["training"]["zero_stage"] == zero_stage
    )
    return found


@pytest.mark.parametrize("zero_stage", STAGES)
def test_losses_and_weights_are_those_of_two_workers_on_one_host(ran: Path, zero_stage: int) -> None:
    one, two = (trial_of(ran / storage, zero_stage) for storage in ("one", "two"))
    losses = [json.loads((trial / "training.json").read_text())["training"]["losses"] for trial in (one, two)]
    assert len(losses[0]) > 20
    assert losses[0] == losses[1]
    saved = [sorted(trial.glob("weights/*/*.safetensors")) for trial in (one, two)]
    assert [path.relative_to(one) for path in saved[0]] == [path.relative_to(two) for path in saved[1]]
    assert saved[0]
    assert [path.read_bytes() for path in saved[0]] == [path.read_bytes() for path in saved[1]]


def test_the_tables_have_equal_bytes(ran: Path) -> None:
    one, two = ((ran / storage / "tiny" / "results.csv").read_bytes() for storage in ("one", "two"))
    assert one == two
