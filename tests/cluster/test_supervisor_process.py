"""The process on the head that supervises submissions: no error ends it, and it starts Ray again where that ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jobs_server import JobsServer, serving

from simtune.cluster.ray_health import HeadPorts, ports_of, what_has_ended
from simtune.cluster.submission import Submission, state_folder
from simtune.cluster.supervisor_process import run_supervisor
from simtune.storage.records import write_record

A = "tiny-0123456789ab"
PACKAGE = "_ray_pkg_00ff.zip"
RAY_START = ("ray", "start", "--head", "--port=7000", "--dashboard-agent-listen-port", "7001")


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the records of a head."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t" * 64)
    folder = state_folder() / "submissions"
    folder.mkdir(parents=True)
    return folder


def record(records: Path) -> None:
    """Records an unfinished submission."""
    (records / A).mkdir()
    (records / A / PACKAGE).write_bytes(b"zip")
    submission = Submission(id=A, job=A, run="/r/tiny", command="simtune submit", package=PACKAGE, code="c")
    write_record(records / A / "submission.json", submission)


class Supervisor:
    """Runs a supervisor whose restarts of Ray are counted; `ended` is the part of Ray that does not live."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.restarts, self.ended = 0, ""
        self._monkeypatch = monkeypatch
        monkeypatch.setattr("simtune.cluster.supervisor_process.what_has_ended", lambda ports: self.ended)
        monkeypatch.setattr("simtune.cluster.supervisor_process._start_ray_again", self._restart)

    def _restart(self, command: tuple[str, ...]) -> None:
        assert command == RAY_START
        self.restarts += 1

    def look(self, port: int, times: int = 3, between: Callable[[], None] = lambda: None) -> None:
        """Looks that many times; a part of Ray that is missing counts as ended at once."""
        left = iter(range(times - 1))

        def sleep(seconds: float) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            between()

        self._monkeypatch.setattr("simtune.cluster.supervisor_process.time.sleep", sleep)
        with pytest.raises(KeyboardInterrupt):
            run_supervisor(port, RAY_START, gone_after_s=0.0)


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    return Supervisor(monkeypatch)


def test_ray_is_started_again_if_a_part_of_it_has_ended_while_a_submission_is_unfinished(
    records: Path, supervisor: Supervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor.ended = "the head's raylet"
    supervisor.look(1)
    # Nobody misses it.
    assert supervisor.restarts == 0
    record(records)
    supervisor.look(1, times=1)
    assert supervisor.restarts == 1
    assert "the head's raylet has not answered for 0 s; restarting Ray" in capsys.readouterr().err


def test_a_dashboard_that_does_not_answer_alone_is_no_reason_to_start_ray_again(
    records: Path, supervisor: Supervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    record(records)
    supervisor.look(1, times=4)
    assert supervisor.restarts == 0
    # Said once.
    assert capsys.readouterr().err.count("job server does not answer") == 1


def test_no_error_ends_the_supervisor(
    records: Path,
    supervisor: Supervisor,
    server: JobsServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record(records)
    # Not a file that can be read as a token; then it is fixed.
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(records))
    supervisor.look(server.port, between=lambda: monkeypatch.setenv("RAY_AUTH_TOKEN", "t" * 64))
    assert list(server.jobs) == [A]
    assert "Ray's token cannot be read" in capsys.readouterr().err


def test_the_ports_are_those_of_the_start_command() -> None:
    assert ports_of(RAY_START) == HeadPorts(7000, 7001)
    assert ports_of(("ray", "start", "--head", "--object-manager-port=8076")) == HeadPorts(6379, 52365)


@pytest.fixture
def gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A server that greets whoever says something."""
    monkeypatch.setattr("simtune.cluster.ray_health._ANSWERS_WITHIN_S", 1.0)

    def greet() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    client.recv(100)
                    client.sendall(b"settings")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=greet, daemon=True).start()
        yield listener


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


@pytest.mark.parametrize(("status", "ended"), [(200, ""), (503, "the head's raylet")])
def test_the_raylet_is_judged_by_its_agent(status: int, ended: str, gcs: socket.socket) -> None:
    agent = JobsServer()
    agent.answer = lambda method, path, token, body: (status if path == "/api/local_raylet_healthz" else 404, "")  # type: ignore[method-assign]
    with serving(agent):
        assert what_has_ended(HeadPorts(port_of(gcs), agent.port)) == ended


def test_an_agent_that_is_slow_has_not_ended_and_one_that_is_not_there_has(gcs: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert what_has_ended(HeadPorts(port_of(gcs), port_of(silent))) == ""
        assert what_has_ended(HeadPorts(port_of(silent), 1)) == "Ray's head process (GCS)"
    assert what_has_ended(HeadPorts(port_of(gcs), 1)) == "the head's raylet"
    assert what_has_ended(HeadPorts(1, 1)) == "Ray's head process (GCS)"


def test_a_new_supervisor_replaces_the_one_that_runs(records: Path, server: JobsServer) -> None:
    record(records)
    environment = dict(os.environ)
    command = [sys.executable, "-m", "simtune.cli", "cluster", "supervise", "--port", str(server.port)]
    supervisors = [subprocess.Popen(command, env=environment)]
    try:
        until = time.monotonic() + 30
        while A not in server.jobs and time.monotonic() < until:
            time.sleep(0.05)
        assert server.jobs[A]["status"] == "RUNNING"
        supervisors.append(subprocess.Popen(command, env=environment))
        # The first ends as a command does that SIGTERM stops.
        assert supervisors[0].wait(timeout=30) == 128 + signal.SIGTERM
        assert supervisors[1].poll() is None
    finally:
        for supervisor in supervisors:
            supervisor.kill()
            supervisor.wait()


def test_the_command_that_starts_ray_decides_whether_anything_is_supervised(tmp_path: Path) -> None:
    environment = os.environ | {"HOME": str(tmp_path)}
    command = [sys.executable, "-m", "simtune.cli", "cluster", "supervise", "--background", "--"]
    failed = subprocess.run([*command, "bash", "-c", "exit 7"], env=environment, check=False)
    assert failed.returncode == 7
    assert not (tmp_path / ".simtune").exists()
