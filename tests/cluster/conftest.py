"""A cluster that is this machine: a job server that runs nothing, and an `ssh` that leads here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Call, in_process
from jobs_server import JobsServer, serving

from simtune.cluster.connection import Connection
from sweeps import tiny_fields

HERE = Path(__file__).parent


@pytest.fixture
def server() -> Iterator[JobsServer]:
    with serving(JobsServer()) as running:
        yield running


@pytest.fixture
def head_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder on the head; this machine's own home has the token that the head has."""
    home, laptop, programs = tmp_path / "head", tmp_path / "laptop", tmp_path / "bin"
    for folder in (home, laptop / ".ray", programs):
        folder.mkdir(parents=True)
    (laptop / ".ray" / "auth_token").write_text("t" * 64)
    (laptop / ".ray" / "auth_token").chmod(0o600)
    program = programs / "ssh"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "ssh_to_here.py"} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(laptop))
    monkeypatch.setenv("SSH_HOME", str(home))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def cluster_file(tmp_path: Path, server: JobsServer, head_home: Path) -> Path:
    activate = head_home / "simtune-env" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f"PATH={Path(sys.executable).parent}:$PATH\n")
    path = tmp_path / "cluster.yaml"
    settings = {
        "cluster_name": "here",
        "provider": {"type": "local", "head_ip": "10.0.0.1", "worker_ips": []},
        "auth": {"ssh_user": "someone"},
        "head_start_ray_commands": [
            "source ~/simtune-env/bin/activate && ray stop",
            f"source ~/simtune-env/bin/activate && ray start --head --dashboard-port={server.port}",
        ],
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def said() -> list[str]:
    """What a connection tells the user."""
    return []


@pytest.fixture
def connection(cluster_file: Path, said: list[str]) -> Iterator[Connection]:
    from simtune.cluster.cluster_file import read_cluster_file

    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with Connection(read_cluster_file(cluster_file), said.append, sleep=sleep, clock=lambda: now[0]) as opened:
        yield opened


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line in this process, called in an empty folder."""
    (tmp_path / "here").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "here")
    return in_process(monkeypatch, capsys)


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_fields(tmp_path / "runs")))
    return path


@pytest.fixture
def submit(call: Call, sweep_file: Path, cluster_file: Path) -> Any:
    return lambda options="": call(f"submit {sweep_file} --cluster {cluster_file} --detach {options}")
