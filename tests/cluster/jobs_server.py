"""A job server with the routes and answers of Ray's, that runs nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class JobsServer:
    """What the server knows; tests change it as time would."""

    token: str = "t" * 64
    port: int = 0
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    packages: dict[str, bytes] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    refuses_jobs: bool = False
    """As while Ray starts."""
    lost_answers: int = 0
    """So many of the next answers to POST are lost, after the request was carried out."""

    def forget(self) -> None:
        """As a restart of Ray does."""
        self.jobs.clear()
        self.logs.clear()
        self.packages.clear()

    def end(self, job: str, status: str, exit_code: int | None = None, error: str | None = None) -> None:
        self.jobs[job] |= {"status": status, "driver_exit_code": exit_code, "error_type": error}

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, str | bytes]:
        self.requests.append(f"{method} {path}")
        if not token:
            return 401, "Unauthorized: Missing authentication token"
        if token != f"Bearer {self.token}":
            return 403, "Forbidden: Invalid authentication token"
        parts = path.strip("/").split("/")
        if path == "/api/version":
            return 200, json.dumps({"version": "4", "ray_version": "2.60.0"})
        if parts[1] == "packages":
            return self._package(method, parts[3], body)
        if path == "/api/jobs/":
            return self._submit(json.loads(body)) if method == "POST" else (200, json.dumps([*self.jobs.values()]))
        job = self.jobs.get(parts[2])
        if job is None:
            return 404, f"Job {parts[2]} does not exist"
        if parts[-1] == "logs":
            return 200, json.dumps({"logs": self.logs.get(parts[2], "")})
        if parts[-1] == "stop":
            self.stopped.append(parts[2])
            job["status"] = "STOPPED"
            return 200, json.dumps({"stopped": True})
        return 200, json.dumps(job)

    def _package(self, method: str, name: str, body: bytes) -> tuple[int, str]:
        if method == "PUT":
            self.packages[name] = body
        elif name not in self.packages:
            return 404, f"Package gcs://{name} does not exist"
        return 200, ""

    def _submit(self, request: dict[str, Any]) -> tuple[int, str]:
        job = request["submission_id"]
        if self.refuses_jobs:
            return 500, "No available agent to submit job, please try again later."
        if job in self.jobs:
            return 500, f"Traceback (most recent call last):\nValueError: Job with submission_id {job} already exists."
        assert request["runtime_env"]["working_dir"].removeprefix("gcs://") in self.packages
        self.jobs[job] = {
            "type": "SUBMISSION",
            "submission_id": job,
            "status": "RUNNING",
            "message": "Job is currently running.",
            "start_time": int(time.time() * 1000) + len(self.requests),
            "metadata": request["metadata"],
            "runtime_env": request["runtime_env"],
            "entrypoint": request["entrypoint"],
            "driver_exit_code": None,
            "error_type": None,
        }
        return 200, json.dumps({"submission_id": job})


@contextmanager
def serving(server: JobsServer) -> Iterator[JobsServer]:
    """Answers on a free port of the loopback interface, which `server.port` names."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, text = server.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
            if self.command == "POST" and server.lost_answers:
                server.lost_answers -= 1
                self.close_connection = True
                return
            data = text.encode() if isinstance(text, str) else text
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = _any

        def log_message(self, *words: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.port = httpd.server_address[1]
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
