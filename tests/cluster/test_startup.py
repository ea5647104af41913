"""`simtune cluster up`: starts Ray where it has ended, and stops nothing that runs unasked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Call
from jobs_server import JobsServer

from simtune.cluster.cluster_file import ClusterFile, read_cluster_file
from simtune.cluster.startup import Head, question_before_start
from simtune.cluster.submission import state_folder
from simtune.cluster.supervisor_process import start_supervisor, start_supervisor_again

JOB = "tiny-0123456789ab"


class Launches(list[tuple[list[str], bool]]):
    """The start commands of the head with which Ray's launcher was called, and whether it was to start Ray again."""

    def __call__(self, cluster: ClusterFile, config: Mapping[str, Any], restart: bool) -> None:
        self.append((config["head_start_ray_commands"], restart))


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch, head_home: Path) -> Launches:
    """Ray's launcher; Ray runs on the head if there is a file `ray` in its home folder."""
    found = Launches()
    monkeypatch.setattr("simtune.cluster.startup.ray_up", found)
    monkeypatch.setattr("simtune.cluster.startup._RAY_RUNS", "test ! -e ~/ray || echo runs")
    monkeypatch.setattr("simtune.cluster.startup.RAY_ANSWERS_WITHIN_S", 0.0)
    (head_home / "ray").touch()
    return found


def start_commands(cluster_file: Path) -> list[str]:
    commands: list[str] = yaml.safe_load(cluster_file.read_text())["head_start_ray_commands"]
    return commands


@pytest.mark.usefixtures("server")
def test_ray_is_started_where_it_has_ended(launches: Launches, call: Call, cluster_file: Path, head_home: Path) -> None:
    (head_home / "ray").unlink()
    code, out, errors = call(f"cluster up --cluster {cluster_file}")
    assert code == 0, errors
    assert launches == [(start_commands(cluster_file), True)]
    assert "cluster here is up, head 10.0.0.1" in out


@pytest.mark.usefixtures("server")
def test_a_running_ray_goes_on_whichever_computer_has_started_it(
    launches: Launches, call: Call, cluster_file: Path
) -> None:
    code, _, errors = call(f"cluster up --cluster {cluster_file}")
    assert code == 0, errors
    assert launches == [([], False)]
    # The supervisor's command on the head was run.
    assert "no supervisor has been started on this head yet" in errors


def test_another_token_is_refused_before_it_replaces_that_of_the_head(
    launches: Launches, call: Call, cluster_file: Path, server: JobsServer
) -> None:
    server.token = "other"  # noqa: S105 a token of nothing
    code, _, errors = call(f"cluster up --yes --cluster {cluster_file}")
    assert (code, launches) == (2, [])
    assert "refuses the token in" in errors
    # A computer without a token gets none that the cluster does not have.
    token = Path("~/.ray/auth_token").expanduser()
    token.unlink()
    code, _, errors = call(f"cluster up --yes --cluster {cluster_file}")
    assert (code, launches, token.exists()) == (2, [], False)
    assert "has a token, and" in errors
    call(f"cluster up --restart --yes --cluster {cluster_file}")
    assert launches == [(start_commands(cluster_file), True)]


def test_a_restart_that_interrupts_sweeps_is_asked_for(
    launches: Launches, call: Call, cluster_file: Path, server: JobsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.jobs[JOB] = {"type": "SUBMISSION", "submission_id": JOB, "status": "RUNNING"}
    asked: list[str] = []
    monkeypatch.setattr("typer.confirm", lambda text, **options: asked.append(text))
    call(f"cluster up --cluster {cluster_file}")
    assert asked == []
    call(f"cluster up --restart --cluster {cluster_file}")
    (question,) = asked
    assert f"1 sweep is running: {JOB}. A restart interrupts them" in question
    call(f"cluster up --restart --yes --cluster {cluster_file}")
    assert [restart for _, restart in launches] == [False, True, True]
    assert len(asked) == 1


@pytest.mark.usefixtures("server")
def test_a_cloud_that_may_replace_the_head_is_asked_about_while_sweeps_run(cluster_file: Path) -> None:
    here = read_cluster_file(cluster_file)
    cloud = replace(here, provider="aws", head_address=None)
    busy = Head(True, (JOB,))
    assert "Ray creates another head, which ends them" in question_before_start(busy, cloud, restart=False)
    assert question_before_start(Head(True), cloud, restart=False) == ""
    assert question_before_start(busy, here, restart=False) == ""
    assert "Cannot tell which sweeps are running (why)" in question_before_start(
        Head(True, problem="why"), here, restart=True
    )


def test_a_job_server_that_is_slow_is_no_reason_to_start_ray_again(
    launches: Launches, call: Call, cluster_file: Path, server: JobsServer
) -> None:
    cluster_file.write_text(cluster_file.read_text().replace(f"={server.port}", "=1"))
    code, _, errors = call(f"cluster up --yes --cluster {cluster_file}")
    assert (code, launches) == (1, [])
    assert "Ray is running on this head, but its job server did not answer" in errors
    assert "simtune cluster up --restart" in errors


def test_a_supervisor_is_started_again_with_the_command_and_settings_that_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    started: list[tuple[list[str], dict[str, str]]] = []

    def start(words: list[str], **options: Any) -> None:
        started.append((words, options["env"]))

    monkeypatch.setattr("simtune.cluster.supervisor_process.subprocess.Popen", start)
    assert start_supervisor_again() is None
    monkeypatch.setenv("RAY_CLOUD_INSTANCE_ID", "i-1")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    start_supervisor(9000, ("ray", "start", "--head"))
    monkeypatch.delenv("RAY_CLOUD_INSTANCE_ID")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    start_supervisor_again()
    (first, _), (again, environment) = started
    assert again == first
    assert again[-6:] == ["--port", "9000", "--", "ray", "start", "--head"]
    assert (environment["RAY_CLOUD_INSTANCE_ID"], environment.get("PYTHONPATH")) == ("i-1", None)
    file = state_folder() / "supervisor.json"
    assert "secret" not in json.dumps(file.read_text())
    assert os.uname().nodename in file.parts
