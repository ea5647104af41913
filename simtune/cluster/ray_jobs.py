"""Ray's job server, spoken to over plain HTTP: submit, list, stop, read logs.

The routes are those that Ray's own client uses (`ray.dashboard.modules.job`), which would load Ray for seconds and
report a wrong token as a traceback.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from simtune.cluster.ssh import NoAnswerError
from simtune.errors import ClusterError, cut
from simtune.ray_head import RAY_IS_LOST
from simtune.ray_token import DEFAULT_FILE, token_place
from simtune.wording import last_line

Status = Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]
_OVER = {"STOPPED", "SUCCEEDED", "FAILED"}
_OK, _NO_TOKEN, _WRONG_TOKEN, _NOT_FOUND, _SERVER_ERROR = 200, 401, 403, 404, 500
_TIMEOUT_S = 30.0
# What Ray calls a failure whose driver has ended by itself.
_BY_ITSELF = "JOB_ENTRYPOINT_COMMAND_ERROR"
# Exit codes of a process that a signal has ended: negative, or as a shell has them.
_FIRST_SIGNAL_CODE = 128


class TakenIdError(ClusterError):
    """A job has this id already."""


class RefusedForNowError(NoAnswerError):
    """The server has an error of its own, which may pass."""


@dataclass(frozen=True)
class RayJob:
    """A submitted job.

    Attributes:
        id: its submission id.
        started_ms: when it was submitted, in milliseconds since 1970 by the head's clock.
        exit_code: of its driver, once that has ended by itself.
        error: what Ray calls its failure; empty without one.
    """

    id: str
    status: Status
    message: str = ""
    started_ms: int = 0
    exit_code: int | None = None
    error: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        return self.status in _OVER

    @property
    def was_interrupted(self) -> bool:
        """Whether its driver has ended neither with a result nor at a user's request."""
        if self.status != "FAILED":
            return False
        if self.error != _BY_ITSELF or self.exit_code is None:
            return True
        return self.exit_code == RAY_IS_LOST or not 0 <= self.exit_code < _FIRST_SIGNAL_CODE


class RayJobs:
    """The job server of a cluster."""

    def __init__(
        self, where: str, server: Callable[[], int | Path], token: str | None, start: str = "`simtune cluster up`"
    ) -> None:
        """Asks nothing yet.

        Args:
            where: what messages call the head.
            server: gives the port of the loopback interface, or the socket, at which the server is reached.
            token: of the cluster; None where there is none.
            start: the command that starts Ray, as messages name it.
        """
        self._where, self._server, self._start = where, server, start
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ray_version(self) -> str:
        """The version of Ray that the cluster runs."""
        return str(self._json("GET", "/api/version")["ray_version"])

    def list(self) -> tuple[RayJob, ...]:
        """All submitted jobs since the head was started, in the order of their submission."""
        found = [_job(entry) for entry in self._json("GET", "/api/jobs/") if entry.get("type") == "SUBMISSION"]
        return tuple(sorted(found, key=lambda job: (job.started_ms, job.id)))

    def find(self, job: str) -> RayJob | None:
        """A job by its id; None if the server knows none."""
        answer = self._request("GET", f"/api/jobs/{quote(job)}", missing_is_none=True)
        return None if answer is None else _job(json.loads(answer))

    def log(self, job: str) -> str:
        """Everything that a job has printed."""
        answer = self._request("GET", f"/api/jobs/{quote(job)}/logs", missing_is_none=True)
        return "" if answer is None else str(json.loads(answer)["logs"])

    def stop(self, job: str) -> None:
        """Asks a job to end, without waiting for it."""
        self._request("POST", f"/api/jobs/{quote(job)}/stop")

    def upload(self, package: str, data: bytes) -> None:
        """Gives a package to the cluster, unless it has one of this name.

        Args:
            package: its file name, which contains a hash of its content.
            data: a zip archive.
        """
        route = f"/api/packages/gcs/{quote(package)}"
        # The question also keeps the package until a job uses it.
        if self._request("GET", route, missing_is_none=True) is None:
            self._request("PUT", route, data, "application/octet-stream")

    def submit(
        self, job: str, entrypoint: str, package: str, environment: Mapping[str, str], metadata: Mapping[str, str]
    ) -> None:
        """Starts a job on the head.

        Args:
            job: its id, which no job had since the head was started.
            entrypoint: shell text.
            package: an uploaded package, which is its working directory and is searched for modules first.
            environment: further variables.
            metadata: to be found with the job.

        Raises:
            TakenIdError: a job has this id.
        """
        request = {
            "entrypoint": entrypoint,
            "submission_id": job,
            "runtime_env": {"working_dir": f"gcs://{package}", "env_vars": dict(environment)},
            "metadata": dict(metadata),
        }
        self._request("POST", "/api/jobs/", json.dumps(request).encode(), "application/json")

    def _json(self, method: str, route: str) -> Any:
        return json.loads(self._request(method, route) or b"null")

    def _request(
        self, method: str, route: str, body: bytes | None = None, content: str = "", missing_is_none: bool = False
    ) -> bytes | None:
        """Makes a request and returns the body of the answer; None for something missing, if that is asked for."""
        connection = _connection(self._server())
        headers = self._headers | ({"Content-Type": content} if content else {})
        try:
            connection.request(method, route, body, headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise NoAnswerError(
                f"{self._where}: Ray's job server does not answer ({reason}). If Ray is not running there, start "
                f"it with {self._start}"
            ) from error
        finally:
            connection.close()
        if answer.status == _OK:
            return data
        if answer.status == _NOT_FOUND and missing_is_none:
            return None
        said = data.decode(errors="replace")
        raise _refusal(answer.status, said, f"{self._where}: {method} {route}", method == "GET", self._start)


class _SocketConnection(http.client.HTTPConnection):
    """HTTP through a socket of this computer."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))


def _connection(server: int | Path) -> http.client.HTTPConnection:
    if isinstance(server, Path):
        return _SocketConnection(server)
    return http.client.HTTPConnection("127.0.0.1", server, timeout=_TIMEOUT_S)


def _refusal(status: int, said: str, what: str, only_reads: bool, start: str) -> ClusterError:
    # A traceback ends with what it is about.
    reason = cut(last_line(said) or "no reason given")
    if status in (_NO_TOKEN, _WRONG_TOKEN):
        place = token_place()
        problem = f"refuses the token in {place}" if status == _WRONG_TOKEN else f"has a token, and {place} has none"
        return ClusterError(
            f"{what}: the cluster {problem}. Copy the file {DEFAULT_FILE} of the head to this "
            f"machine (mode 0600); or, to give the cluster this machine's token, start it again with {start} and "
            "--restart",
            wrong_input=True,
        )
    message = f"{what}: Ray's job server answers with {status}: {reason}"
    if "already exists" in said:
        return TakenIdError(message)
    if status < _SERVER_ERROR:
        return ClusterError(message)
    # While Ray starts on the head, parts of its server are not there yet. Submitting again is safe: a job has an id.
    return NoAnswerError(message) if only_reads else RefusedForNowError(message)


def _job(entry: Mapping[str, Any]) -> RayJob:
    return RayJob(
        id=str(entry["submission_id"]),
        status=entry["status"],
        message=str(entry.get("message") or ""),
        started_ms=int(entry.get("start_time") or 0),
        exit_code=entry.get("driver_exit_code"),
        error=str(entry.get("error_type") or ""),
        metadata=entry.get("metadata") or {},
    )
