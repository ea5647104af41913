"""The client of Ray's job server, against a server that answers as Ray's does."""

from __future__ import annotations

from pathlib import Path

import pytest
from jobs_server import JobsServer

from simtune.cluster.ray_jobs import RayJob, RayJobs, TakenIdError
from simtune.cluster.ssh import NoAnswerError
from simtune.errors import ClusterError
from simtune.ray_token import ensure_token, read_token


def client(server: JobsServer, token: str | None = "t" * 64) -> RayJobs:
    return RayJobs("c.yaml: 10.0.0.1", lambda: server.port, token)


def test_a_job_is_submitted_listed_read_and_stopped(server: JobsServer) -> None:
    jobs = client(server)
    assert jobs.ray_version() == "2.60.0"
    jobs.upload("_ray_pkg_ab.zip", b"zip")
    jobs.submit("tiny-1", "exec simtune run", "_ray_pkg_ab.zip", {"A": "1"}, {"simtune_run": "/r/tiny"})
    server.logs["tiny-1"] = "héllo\n"
    (job,) = jobs.list()
    assert (job.id, job.status, job.metadata, job.is_over) == ("tiny-1", "RUNNING", {"simtune_run": "/r/tiny"}, False)
    assert jobs.find("tiny-1") == job
    assert jobs.find("other") is None
    assert (jobs.log("tiny-1"), jobs.log("other")) == ("héllo\n", "")
    sent = server.jobs["tiny-1"]
    assert sent["runtime_env"] == {"working_dir": "gcs://_ray_pkg_ab.zip", "env_vars": {"A": "1"}}
    jobs.stop("tiny-1")
    assert jobs.list()[0].is_over


def test_a_package_that_is_there_is_not_sent_again(server: JobsServer) -> None:
    jobs = client(server)
    jobs.upload("_ray_pkg_ab.zip", b"zip")
    jobs.upload("_ray_pkg_ab.zip", b"zip")
    assert [line for line in server.requests if line.startswith("PUT")] == ["PUT /api/packages/gcs/_ray_pkg_ab.zip"]


def test_jobs_that_were_not_submitted_are_left_out(server: JobsServer) -> None:
    server.jobs["driver"] = {"type": "DRIVER", "submission_id": None, "status": "RUNNING"}
    assert client(server).list() == ()


def test_a_taken_id_is_told_apart(server: JobsServer) -> None:
    jobs = client(server)
    jobs.upload("p", b"")
    jobs.submit("a", "x", "p", {}, {})
    with pytest.raises(TakenIdError):
        jobs.submit("a", "x", "p", {}, {})


@pytest.mark.parametrize(
    ("token", "message"),
    [("wrong", "refuses the token in /here/token"), (None, "has a token, and /here/token has none")],
)
def test_a_wrong_token_names_the_file_on_both_sides(
    token: str | None, message: str, server: JobsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/here/token")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    with pytest.raises(ClusterError) as error:
        client(server, token).list()
    assert error.value.exit_code == 2
    for part in ("10.0.0.1", message, "~/.ray/auth_token of the head"):
        assert part in str(error.value)


def test_a_server_that_is_not_there_may_be_asked_again(server: JobsServer) -> None:
    free = RayJobs("c.yaml: 10.0.0.1", lambda: 1, "t")
    with pytest.raises(NoAnswerError, match=r"10.0.0.1: Ray's job server does not answer .*simtune cluster up"):
        free.list()


@pytest.mark.parametrize(
    ("status", "error", "code", "interrupted"),
    [
        ("SUCCEEDED", "", 0, False),
        ("STOPPED", "", None, False),
        ("RUNNING", "", None, False),
        # The driver ended by itself: trials failed, or the input was wrong.
        ("FAILED", "JOB_ENTRYPOINT_COMMAND_ERROR", 1, False),
        ("FAILED", "JOB_ENTRYPOINT_COMMAND_ERROR", 2, False),
        # It has lost its Ray.
        ("FAILED", "JOB_ENTRYPOINT_COMMAND_ERROR", 75, True),
        # Killed, terminated, or lost with its host.
        ("FAILED", "JOB_ENTRYPOINT_COMMAND_ERROR", -9, True),
        ("FAILED", "JOB_ENTRYPOINT_COMMAND_ERROR", 143, True),
        ("FAILED", "JOB_SUPERVISOR_ACTOR_DIED", None, True),
    ],
)
def test_what_counts_as_interrupted(status: str, error: str, code: int | None, interrupted: bool) -> None:
    job = RayJob("a", status, error=error, exit_code=code)  # type: ignore[arg-type]
    assert job.was_interrupted is interrupted


def test_a_token_is_made_once_for_this_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "ray" / "token"))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    path = tmp_path / "ray" / "token"
    assert read_token() is None
    assert "created" in str(ensure_token())
    token = read_token()
    assert token is not None
    assert (len(token), path.stat().st_mode & 0o777) == (64, 0o600)
    assert ensure_token() is None
    path.chmod(0o644)
    assert "readable by others" in str(ensure_token())
    assert (read_token(), path.stat().st_mode & 0o777) == (token, 0o600)
