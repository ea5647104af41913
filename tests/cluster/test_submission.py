"""Ids and attempts of submissions, and how the head continues what was interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jobs_server import JobsServer

from simtune.cluster.ray_jobs import RayJob, RayJobs
from simtune.cluster.submission import RUN, Submission, attempts, find_submission, id_of, next_job
from simtune.cluster.supervisor import MOST_RESTARTS, run_supervisor, supervise
from simtune.errors import ClusterError, UserError
from simtune.storage.records import read_record, write_record

A, B = "tiny-0123456789ab", "tiny-ba9876543210"
PACKAGE = "_ray_pkg_00ff.zip"


def job(name: str, run: str = "/r/tiny", status: str = "RUNNING", started: int = 1) -> RayJob:
    return RayJob(name, status, started_ms=started, metadata={RUN: run})  # type: ignore[arg-type]


def test_attempts_are_counted_by_number_and_jobs_of_others_left_out() -> None:
    jobs = [job(f"{A}-10"), job(A), job(f"{A}-2"), job(B), job("raysubmit_xyz"), job(f"x{A}")]
    assert [each.id for each in attempts(jobs, A)] == [A, f"{A}-2", f"{A}-10"]
    assert next_job(jobs, A) == f"{A}-11"
    assert next_job([], A) == A
    assert id_of("raysubmit_xyz") == ""
    # A hash may consist of digits.
    assert id_of("x-aaaaaaaaaaaa-123456789012") == "x-aaaaaaaaaaaa-123456789012"


def test_a_submission_is_found_by_id_job_directory_and_name() -> None:
    jobs = [job(A), job(f"{A}-2"), job(B, "s3://bucket/big")]
    for name in (A, f"{A}-2", "/r/tiny", "/r/tiny/", "tiny"):
        found = find_submission(jobs, name)
        assert (found.id, found.run, found.latest.id) == (A, "/r/tiny", f"{A}-2")
    assert find_submission(jobs, "big").id == B
    with pytest.raises(UserError, match=rf"no submission.*{A} \(/r/tiny\)"):
        find_submission(jobs, "other")
    with pytest.raises(UserError, match="none since Ray was started"):
        find_submission([], "tiny")


def test_of_two_with_one_name_the_running_one_is_meant() -> None:
    old, new = job(A, status="SUCCEEDED"), job(B, "/other/tiny")
    assert find_submission([old, new], "tiny").id == B
    with pytest.raises(UserError, match="2 submissions are called so"):
        find_submission([job(A), new], "tiny")


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """The record of a submission on the head."""
    folder = tmp_path / A
    folder.mkdir()
    (folder / PACKAGE).write_bytes(b"zip")
    submission = Submission(id=A, job=A, run="/r/tiny", options=("--retrain",), package=PACKAGE, code="c")
    write_record(folder / "submission.json", submission)
    return folder / "submission.json"


def look(record: Path, server: JobsServer) -> list[str]:
    lines: list[str] = []
    supervise(record.parent.parent, RayJobs("head", lambda: server.port, server.token), lines.append)
    return lines


def test_what_ray_has_forgotten_is_submitted_again_with_its_package(record: Path, server: JobsServer) -> None:
    assert look(record, server) == [f"{A}: submitted again"]
    assert server.packages == {PACKAGE: b"zip"}
    assert server.jobs[A]["entrypoint"] == "exec simtune run sweep.yaml --executor cluster --retrain"
    assert server.jobs[A]["metadata"][RUN] == "/r/tiny"
    # It runs now.
    assert look(record, server) == []
    server.forget()
    assert look(record, server) == [f"{A}: submitted again"]
    assert (list(server.jobs), read_record(record, Submission).num_restarts) == ([A], 2)


def test_a_killed_driver_is_tried_again_under_the_next_number(record: Path, server: JobsServer) -> None:
    look(record, server)
    server.end(A, "FAILED", -9, "JOB_ENTRYPOINT_COMMAND_ERROR")
    assert look(record, server) == [f"{A}: submitted again"]
    assert list(server.jobs) == [A, f"{A}-2"]
    assert read_record(record, Submission).job == f"{A}-2"
    assert look(record, server) == []


@pytest.mark.parametrize(("status", "code"), [("SUCCEEDED", 0), ("STOPPED", None), ("FAILED", 1), ("FAILED", 2)])
def test_what_has_ended_by_itself_or_was_stopped_is_not_continued(
    status: str, code: int | None, record: Path, server: JobsServer
) -> None:
    look(record, server)
    server.end(A, status, code, "JOB_ENTRYPOINT_COMMAND_ERROR" if status == "FAILED" else None)
    assert look(record, server) == [f"{A}: has ended"]
    server.forget()
    assert look(record, server) == []
    assert server.jobs == {}
    assert not record.parent.exists()


def test_an_earlier_attempts_end_says_nothing_of_the_present_one(record: Path, server: JobsServer) -> None:
    look(record, server)
    server.end(A, "SUCCEEDED", 0)
    # Submitted once more: the record is there before the job.
    write_record(record, read_record(record, Submission).model_copy(update={"job": f"{A}-2", "num_restarts": 0}))
    assert look(record, server) == [f"{A}-2: submitted again"]
    assert server.jobs[f"{A}-2"]["status"] == "RUNNING"


def test_one_that_never_gets_anywhere_is_given_up(record: Path, server: JobsServer) -> None:
    for _ in range(MOST_RESTARTS):
        look(record, server)
        server.forget()
    assert look(record, server) == [f"{A}: restarted {MOST_RESTARTS} times"]
    assert server.jobs == {}


def test_a_damaged_record_stops_no_other(record: Path, server: JobsServer) -> None:
    bad = record.parent.parent / B / "submission.json"
    bad.parent.mkdir()
    bad.write_text("{}")
    lines = look(record, server)
    assert f"{A}: submitted again" in lines
    assert any(str(bad) in line for line in lines)


def test_without_records_nothing_is_asked(tmp_path: Path, server: JobsServer) -> None:
    supervise(tmp_path, RayJobs("head", lambda: server.port, server.token), print)
    assert server.requests == []


def test_a_new_supervisor_replaces_the_one_that_runs(record: Path, server: JobsServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".simtune").mkdir(parents=True)
    record.parent.parent.joinpath(A).rename(tmp_path / "moved")
    (home / ".simtune" / "submissions").mkdir()
    (tmp_path / "moved").rename(home / ".simtune" / "submissions" / A)
    environment = os.environ | {"HOME": str(home), "RAY_AUTH_TOKEN": server.token}
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


def test_ray_is_started_again_if_it_is_gone_while_a_submission_is_unfinished(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".simtune").mkdir(parents=True)
    record.parent.rename(tmp_path / "kept")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t" * 64)
    commands: list[tuple[str, ...]] = []
    looks = 0

    def start_again(command: tuple[str, ...]) -> None:
        commands.append(command)

    def look(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            # Up to here nothing was unfinished, so nobody missed Ray.
            assert commands == []
            (tmp_path / "kept").rename(home / ".simtune" / "submissions" / A)
        if commands:
            raise KeyboardInterrupt

    monkeypatch.setattr("simtune.cluster.supervisor._start_ray_again", start_again)
    monkeypatch.setattr("simtune.cluster.supervisor.time.sleep", look)
    with pytest.raises(KeyboardInterrupt):
        run_supervisor(1, ("ray", "start", "--head"), gone_after_s=0.2)
    assert commands == [("ray", "start", "--head")]
    assert looks > 3


def test_a_submission_that_ray_refuses_for_now_is_not_counted(record: Path, server: JobsServer) -> None:
    server.refuses_jobs = True
    for _ in range(MOST_RESTARTS + 1):
        with pytest.raises(ClusterError):
            look(record, server)
    server.refuses_jobs = False
    assert look(record, server) == [f"{A}: submitted again"]
    assert read_record(record, Submission).num_restarts == 1


def test_the_command_that_starts_ray_decides_whether_anything_is_supervised(tmp_path: Path) -> None:
    environment = os.environ | {"HOME": str(tmp_path)}
    command = [sys.executable, "-m", "simtune.cli", "cluster", "supervise", "--background", "--"]
    failed = subprocess.run([*command, "bash", "-c", "exit 7"], env=environment, check=False)
    assert failed.returncode == 7
    assert not (tmp_path / ".simtune").exists()
