"""Ids and attempts of submissions, and how the head continues what was interrupted."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from jobs_server import JobsServer

from simtune.cluster.ray_jobs import RayJob, RayJobs
from simtune.cluster.submission import RECORDS_LOCK, RUN, Submission, attempts, find_submission, id_of, next_job
from simtune.cluster.supervisor import MOST_RESTARTS, supervise
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
    with pytest.raises(UserError, match="2 submissions have this name"):
        find_submission([job(A), new], "tiny")


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """The record of a submission on the head."""
    folder = tmp_path / "records" / A
    folder.mkdir(parents=True)
    (folder / PACKAGE).write_bytes(b"zip")
    submission = Submission(
        id=A, job=A, run="/r/tiny", options=("--retrain",), command="simtune submit", package=PACKAGE, code="c"
    )
    write_record(folder / "submission.json", submission)
    return folder / "submission.json"


def look(record: Path, server: JobsServer, hours_later: bool = True) -> list[str]:
    if hours_later:
        (record.parent / "restarted").unlink(missing_ok=True)
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


def test_pauses_between_restarts_grow_so_that_what_can_never_start_is_not_tried_without_end(
    record: Path, server: JobsServer
) -> None:
    pauses = []
    for restarts in range(MOST_RESTARTS):
        assert read_record(record, Submission).num_restarts == restarts
        ago, now = 0, time.time()
        while not look(record, server, hours_later=False):
            ago += 5
            os.utime(record.parent / "restarted", (now - ago, now - ago))
        pauses.append(ago)
        server.forget()
    assert pauses[:4] == [0, 5, 10, 20]
    assert pauses == sorted(pauses)
    assert 600 < sum(pauses) < 1800


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


def test_a_submission_that_ray_refuses_for_now_is_not_counted(record: Path, server: JobsServer) -> None:
    server.refuses_jobs = True
    for _ in range(MOST_RESTARTS + 1):
        with pytest.raises(ClusterError):
            look(record, server)
    server.refuses_jobs = False
    assert look(record, server) == [f"{A}: submitted again"]
    assert read_record(record, Submission).num_restarts == 1


def test_what_was_cancelled_or_submitted_since_ray_was_asked_is_left_alone(
    record: Path, server: JobsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(record, server)
    server.end(A, "SUCCEEDED", 0)
    listed, later = RayJobs.list, read_record(record, Submission).model_copy(update={"job": f"{A}-2"})

    def list_then(change: Callable[[], object]) -> None:
        def list_jobs(jobs: RayJobs) -> tuple[RayJob, ...]:
            there = listed(jobs)
            change()
            return there

        monkeypatch.setattr(RayJobs, "list", list_jobs)

    # The end of the first attempt does not remove the record of the second, which another computer has started.
    def submit() -> None:
        write_record(record, later)
        server.jobs[f"{A}-2"] = server.jobs[A] | {"submission_id": f"{A}-2", "status": "RUNNING"}

    list_then(submit)
    assert look(record, server) == []
    assert read_record(record, Submission) == later
    server.forget()
    list_then(lambda: shutil.rmtree(record.parent))
    assert look(record, server) == []
    assert (server.jobs, record.parent.exists()) == ({}, False)


def test_a_record_is_not_read_while_a_command_changes_it(record: Path, server: JobsServer) -> None:
    with (record.parents[2] / RECORDS_LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        supervising = threading.Thread(target=look, args=(record, server))
        supervising.start()
        supervising.join(0.3)
        assert (supervising.is_alive(), server.jobs) == (True, {})
    supervising.join(30)
    assert list(server.jobs) == [A]
