"""An object store on this machine: moto's S3 in a process of its own, which speaks to any client over HTTP.

moto looks at a write's condition and writes in two steps; here it answers one request at a time, so that a condition
holds as it does in S3. Files in its folder make it misbehave while they are there: `away` answers nobody, `careless`
ignores conditions, as older stores do.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BUCKET = "simtune-tests"


class _OneAtATime:
    def __init__(self, app: Any, folder: Path) -> None:
        self._app, self._folder, self._lock = app, folder, threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if (self._folder / "away").exists():
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return [b""]
        if (self._folder / "careless").exists():
            environ = {name: value for name, value in environ.items() if not name.startswith("HTTP_IF_")}
        with self._lock:
            return list(self._app(environ, start_response))


@contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """Serves an empty bucket while it is entered; yields the environment that leads clients there."""
    command = [sys.executable, __file__, str(folder)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    assert server.stdout is not None
    try:
        port = server.stdout.readline().strip().decode()
        assert port.isdecimal(), (folder / "server.log").read_text()
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "a-test",
            "AWS_SECRET_ACCESS_KEY": "a-test-only",
            "AWS_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "2",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from moto.s3.models import s3_backends
    from werkzeug.serving import make_server

    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    app = _OneAtATime(DomainDispatcherApplication(create_backend_app), folder)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    s3_backends["123456789012"]["aws"].create_bucket(BUCKET, "us-east-1")
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
