"""submit, logs and cancel against a cluster that is this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import Call
from jobs_server import JobsServer

from simtune.cluster.cluster_file import read_cluster_file
from simtune.cluster.connection import Connection
from simtune.cluster.follow import follow
from simtune.cluster.ray_jobs import RayJobs
from simtune.cluster.remembered import continue_on_new_head
from simtune.cluster.ssh import NoAnswerError
from simtune.cluster.submission import RUN, Submission
from simtune.cluster.supervisor import supervise
from simtune.errors import ClusterError
from simtune.ray_head import SUBMIT_COMMAND
from simtune.storage.records import read_record


def records_folder(head_home: Path) -> Path:
    return head_home / ".simtune" / "heads" / os.uname().nodename / "submissions"


def records(head_home: Path) -> dict[str, Submission]:
    found = records_folder(head_home).glob("*/submission.json")
    return {path.parent.name: read_record(path, Submission) for path in found}


def test_a_sweep_is_submitted_once_and_recorded_on_the_head(
    submit: Any, server: JobsServer, head_home: Path, sweep_file: Path, cluster_file: Path
) -> None:
    code, out, errors = submit("--json --retrain")
    assert code == 0, errors
    (job,) = server.jobs.values()
    assert job["entrypoint"] == "exec simtune run sweep.yaml --executor cluster --retrain"
    typed = f"simtune submit {sweep_file} --cluster {cluster_file} --detach --json --retrain"
    assert job["runtime_env"]["env_vars"][SUBMIT_COMMAND] == typed
    submission = json.loads(out)["submission"]
    assert json.loads(out) == {"submission": submission, "job": submission, "run": job["metadata"][RUN], "new": True}
    (record,) = records(head_home).values()
    assert (record.id, record.job, record.options) == (submission, submission, ("--retrain",))
    package = records_folder(head_home) / submission / record.package
    assert server.packages == {record.package: package.read_bytes()}
    assert all(path.stat().st_mode & 0o077 == 0 for path in (package, package.parent))
    code, _, errors = submit()
    assert (code, len(server.jobs)) == (0, 1)
    assert f"already running: {submission}" in errors


def test_what_has_ended_is_submitted_as_the_next_attempt(submit: Any, server: JobsServer, head_home: Path) -> None:
    submit()
    (first,) = server.jobs
    server.end(first, "FAILED", 1, "JOB_ENTRYPOINT_COMMAND_ERROR")
    code, _, errors = submit("--retry failed")
    assert (code, list(server.jobs)) == (0, [first, f"{first}-2"])
    assert f"submitted: {first}-2, to " in errors
    assert "continues an earlier attempt" in errors
    assert server.jobs[f"{first}-2"]["entrypoint"].endswith("--retry failed")
    assert records(head_home)[first].job == f"{first}-2"


def test_a_lost_answer_starts_no_second_job(submit: Any, server: JobsServer) -> None:
    server.lost_answers = 1
    code, _, errors = submit()
    assert (code, len(server.jobs)) == (0, 1)
    assert "submitted: " in errors
    assert "connected to the head again" in errors


def test_other_code_than_the_running_one_is_told(
    submit: Any, server: JobsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit()
    (job,) = server.jobs.values()
    assert "other code" not in submit()[2]
    job["metadata"]["simtune_code"] = "older"
    assert "it is running different code from this machine" in submit()[2]


def test_a_second_sweep_in_a_running_run_directory_is_refused(
    submit: Any, server: JobsServer, cluster_file: Path
) -> None:
    submit()
    (job,) = server.jobs
    code, _, errors = submit("--set training.epochs=2")
    assert (code, len(server.jobs)) == (2, 1)
    assert f"submission {job} is running in this run directory, with different settings" in errors
    assert f"`simtune cancel {job} --cluster {cluster_file}`" in errors


def test_wrong_input_is_refused_before_anything_is_contacted(
    submit: Any, server: JobsServer, head_home: Path, cluster_file: Path
) -> None:
    (head_home / "refuse").write_text("ssh: must not be called\n")
    code, _, errors = submit("--storage runs")
    assert code == 2
    assert "--storage runs: storage: 'runs' is relative" in errors
    assert "--storage s3://BUCKET/runs" in errors
    assert submit("--set selection.sizes=none")[0] == 2
    cluster_file.unlink()
    code, _, errors = submit()
    assert (code, server.requests) == (2, [])
    assert "no such file; --cluster names" in errors


@pytest.mark.parametrize(
    ("said", "code", "message"),
    [
        ("someone@10.0.0.1: Permission denied (publickey).\n", 2, "SSH refused the login"),
        ("@@@@\nWARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\n", 2, "ssh-keygen -R 10.0.0.1 -f"),
        ("ssh: connect to host 10.0.0.1 port 22: No route to host\n", 1, "SSH cannot reach this machine (ssh: connect"),
    ],
)
def test_a_head_that_ssh_does_not_reach(said: str, code: int, message: str, submit: Any, head_home: Path) -> None:
    (head_home / "refuse").write_text(said)
    found, _, errors = submit()
    assert found == code
    assert message in errors


def test_a_wrong_token_is_not_a_missing_cluster(submit: Any, server: JobsServer) -> None:
    server.token = "other"  # noqa: S105 a token of nothing
    code, _, errors = submit()
    assert (code, server.jobs) == (2, {})
    assert "refuses the token in" in errors
    assert "not running" not in errors


def test_logs_are_shown_and_followed_to_the_drivers_exit_code(
    submit: Any, call: Call, server: JobsServer, cluster_file: Path
) -> None:
    submit()
    (job,) = server.jobs
    server.logs[job] = "one\ntwo\n"
    assert call(f"logs tiny --cluster {cluster_file}")[:2] == (0, "one\ntwo\n")
    server.end(job, "FAILED", 2, "JOB_ENTRYPOINT_COMMAND_ERROR")
    code, out, errors = call(f"logs {job} --follow --cluster {cluster_file}")
    assert (code, out) == (2, "one\ntwo\n")
    assert f"{job}: failed" in errors


class World:
    """Changes what the server knows while a job is followed; `show` and `say` are what the user sees."""

    def __init__(self, *steps: Any, on_line: Any = None) -> None:
        self.steps, self.on_line = list(steps), on_line
        self.out, self.lines = "", []

    def show(self, text: str) -> None:
        self.out += text
        if text and self.steps:
            self.steps.pop(0)()

    def say(self, line: str) -> None:
        self.lines.append(line)
        if self.on_line:
            self.on_line()


@pytest.fixture
def running(submit: Any, server: JobsServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A job that was submitted and has printed a line; nobody waits in its test."""
    submit()
    (job,) = server.jobs
    server.logs[job] = "one\n"
    monkeypatch.setattr("simtune.cluster.follow.time.sleep", lambda seconds: None)
    return job


def test_each_line_is_shown_once_across_a_broken_tunnel(
    running: str, server: JobsServer, head_home: Path, connection: Connection, said: list[str]
) -> None:
    def break_tunnel() -> None:
        os.kill(int((head_home / "tunnel").read_text()), signal.SIGKILL)
        server.logs[running] += "two\n"

    def end() -> None:
        server.end(running, "SUCCEEDED", 0)

    world = World(break_tunnel, end)
    assert follow(connection, running, world.show, world.say).status == "SUCCEEDED"
    assert world.out == "one\ntwo\n"
    # Noticed before a request, a dead tunnel is opened again in silence.
    assert len(said) in {0, 2}


def test_a_head_that_was_started_again_is_waited_for(running: str, server: JobsServer, connection: Connection) -> None:
    job = dict(server.jobs[running])
    known = threading.Event()

    def restart() -> None:
        server.forget()
        threading.Thread(target=come_back, daemon=True).start()

    def come_back() -> None:
        known.wait(10)
        server.logs[running] = "one\nafter the restart\n"
        server.jobs[running] = job | {"start_time": job["start_time"] + 60_000, "status": "SUCCEEDED"}

    world = World(restart, on_line=known.set)
    assert follow(connection, running, world.show, world.say).status == "SUCCEEDED"
    assert world.out == "one\none\nafter the restart\n"
    assert world.lines == [
        f"Ray was restarted on the head; waiting for {running} to continue",
        f"{running} continues",
    ]


def test_a_killed_driver_is_followed_to_its_next_attempt(
    running: str, server: JobsServer, connection: Connection
) -> None:
    def killed() -> None:
        server.end(running, "FAILED", -9, "JOB_ENTRYPOINT_COMMAND_ERROR")
        later = server.jobs[running] | {"submission_id": f"{running}-2", "status": "SUCCEEDED", "driver_exit_code": 0}
        server.jobs[f"{running}-2"] = later
        server.logs[f"{running}-2"] = "continued\n"

    world = World(killed)
    ended = follow(connection, running, world.show, world.say)
    assert (ended.id, ended.status) == (f"{running}-2", "SUCCEEDED")
    assert world.out == "one\ncontinued\n"
    assert world.lines == [f"{running} was interrupted; it continues as {running}-2"]


def test_a_head_that_does_not_come_back_ends_the_following(
    running: str, server: JobsServer, connection: Connection, head_home: Path, said: list[str]
) -> None:
    def power_off() -> None:
        (head_home / "refuse").write_text("ssh: connect to host 10.0.0.1 port 22: Connection timed out\n")
        os.kill(int((head_home / "tunnel").read_text()), signal.SIGKILL)

    world = World(power_off)
    with pytest.raises(ClusterError, match="Connection timed out"):
        follow(connection, running, world.show, world.say)
    assert len(said) == 1
    assert said[0].startswith("the connection to the head was lost")


def test_a_break_lasts_from_the_first_request_that_was_lost(cluster_file: Path, server: JobsServer) -> None:
    now, said = [0.0], list[str]()

    def lost_twice(jobs: RayJobs) -> str:
        now[0] += 20.0
        if now[0] in (40.0, 60.0):
            raise NoAnswerError("no route")
        return jobs.ray_version()

    def sleep(seconds: float) -> None:
        assert seconds in (1.0, 2.0)

    with Connection(read_cluster_file(cluster_file), said.append, sleep=sleep, clock=lambda: now[0]) as connection:
        for _ in range(2):
            assert connection.ask(lost_twice) == "2.60.0"
    assert said[1] == "connected to the head again, after 60 s"


def test_cancel_stops_the_job_and_the_head_does_not_continue_it(
    submit: Any, call: Call, server: JobsServer, head_home: Path, cluster_file: Path
) -> None:
    submit()
    (job,) = server.jobs
    code, out, errors = call(f"cancel tiny --cluster {cluster_file}")
    assert (code, server.stopped, records(head_home)) == (0, [job], {}), errors
    assert "finished trials are kept" in out
    assert f"`simtune submit SWEEP --cluster {cluster_file}`" in out
    assert "was already over: stopped" in call(f"cancel tiny --cluster {cluster_file}")[1]
    code, _, errors = call(f"cancel other --cluster {cluster_file}")
    assert code == 2
    assert job in errors


def test_cancel_reaches_what_waits_to_be_continued(
    submit: Any, call: Call, server: JobsServer, head_home: Path, cluster_file: Path
) -> None:
    submit()
    server.forget()
    assert "it will not be continued" in call(f"cancel tiny --cluster {cluster_file}")[1]
    assert records(head_home) == {}


def test_what_waits_to_be_continued_is_found_by_every_command(
    submit: Any, call: Call, server: JobsServer, connection: Connection, cluster_file: Path, head_home: Path
) -> None:
    submit()
    (job,) = server.jobs
    later = server.jobs[job] | {"status": "SUCCEEDED"}
    server.forget()
    bad = records_folder(head_home) / "other-0123456789ab" / "submission.json"
    bad.parent.mkdir()
    bad.write_text("{}")
    code, _, errors = call(f"status tiny --cluster {cluster_file}")
    assert code == 0
    assert f"{job}: waiting to be continued, run directory" in errors
    assert "warning: " in errors
    code, out, errors = call(f"logs tiny --cluster {cluster_file}")
    assert (code, out) == (0, "")
    assert "has printed nothing since Ray was restarted" in errors

    def submitted_by_the_head(line: str) -> None:
        server.jobs[job], server.logs[job] = later, "continued\n"

    shown: list[str] = []
    assert follow(connection, job, shown.append, submitted_by_the_head, is_recorded=True).status == "SUCCEEDED"
    assert shown == ["continued\n"]


def test_a_job_server_that_refuses_for_now_is_asked_again(
    submit: Any, server: JobsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.refuses_jobs = True
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        server.refuses_jobs = len(waits) < 2

    monkeypatch.setattr(Connection.__init__, "__defaults__", (0.0, wait, lambda: sum(waits)))
    code, _, errors = submit()
    assert (code, len(server.jobs), len(waits)) == (0, 1, 2)
    assert "the job server returned an error" in errors
    server.end(*server.jobs, "FAILED", 1, "JOB_ENTRYPOINT_COMMAND_ERROR")
    monkeypatch.setattr(Connection.__init__, "__defaults__", (0.0, waits.append, lambda: sum(waits)))
    server.refuses_jobs = True
    code, _, errors = submit()
    assert (code, len(server.jobs)) == (1, 1)
    assert "No available agent" in errors


def test_the_tunnel_is_open_to_this_user_alone(connection: Connection) -> None:
    connection.ask(lambda jobs: jobs.ray_version())
    assert connection._tunnel is not None
    path = connection._tunnel.socket()
    assert path.is_socket()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert "127.0.0.1" not in connection._tunnel.command()[-1]


def test_a_tunnel_ends_with_the_process_that_opened_it(connection: Connection, head_home: Path) -> None:
    connection.ask(lambda jobs: jobs.ray_version())
    process = int((head_home / "tunnel").read_text())
    connection.__exit__(None, None, None)
    until = time.monotonic() + 5
    while Path(f"/proc/{process}").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not Path(f"/proc/{process}").exists()


def test_a_head_that_knows_nothing_gets_what_was_unfinished(
    submit: Any, server: JobsServer, head_home: Path, connection: Connection
) -> None:
    agrees = False

    def on_new_head() -> list[str]:
        lines: list[str] = []
        continue_on_new_head(connection, lines.append, lambda question: agrees)
        return lines

    submit()
    (job,) = server.jobs
    # The same head, with the job or with its record: its supervisor continues it.
    assert on_new_head() == []
    package = dict(server.packages)
    server.forget()
    assert on_new_head() == []
    shutil.rmtree(head_home / ".simtune")
    listed, refused = on_new_head()
    assert listed.startswith(f"{job}: submitted 0 minutes ago, to ")
    assert refused.startswith("not submitted again")
    assert server.jobs == {}
    agrees = True
    assert on_new_head() == [listed, f"{job}: submitted again"]
    assert (list(server.jobs), server.packages, set(records(head_home))) == ([job], package, {job})
    # It has ended there before Ray was started again.
    supervise(records_folder(head_home), RayJobs("", lambda: server.port, server.token), print)
    server.end(job, "SUCCEEDED", 0)
    supervise(records_folder(head_home), RayJobs("", lambda: server.port, server.token), print)
    server.forget()
    assert on_new_head() == []
    shutil.rmtree(head_home / ".simtune")
    assert on_new_head() == []


def test_what_was_cancelled_is_not_given_to_a_new_head(
    submit: Any, call: Call, server: JobsServer, head_home: Path, connection: Connection, cluster_file: Path
) -> None:
    submit()
    call(f"cancel tiny --cluster {cluster_file}")
    server.forget()
    shutil.rmtree(head_home / ".simtune")
    continue_on_new_head(connection, print, lambda question: True)
    assert server.jobs == {}
