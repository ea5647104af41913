"""Object stores on this machine, each in a process of its own: clients speak to them over HTTP as to the real ones.

S3 is moto's. Google's interface is a layer on it (`google_xml`). Azure's is Azurite, Microsoft's own emulator, from the
npm registry. moto looks at a write's condition and writes in two steps; here it answers one request at a time, so that
a condition holds as it does in the real stores. Files in the folder of a moto make it misbehave while they are there:
`away` answers nobody, `careless` ignores conditions, as older stores do.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ObjectServer = tuple[Path, dict[str, str]]
"""The folder of a server, which its log is in, and the environment that leads there."""

BUCKET = "simtune-tests"
ENDPOINTS = {"s3": "AWS_ENDPOINT_URL", "gs": "STORAGE_EMULATOR_HOST", "az": "AZURITE_BLOB_STORAGE_URL"}
"""The environment variable that leads to a server, by the scheme of its addresses."""
_ATTEMPTS = {"SIMTUNE_STORAGE_ATTEMPTS": "2"}
# Azurite has one account, whose name and key are public.
_AZURE_ACCOUNT = "devstoreaccount1"
_AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class _OneAtATime:
    def __init__(self, app: Any, folder: Path) -> None:
        self._app, self._folder, self._lock = app, folder, threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if (self._folder / "away").exists():
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return [b""]
        if (self._folder / "careless").exists():
            conditions = ("HTTP_IF_", "HTTP_X_GOOG_IF_")
            environ = {name: value for name, value in environ.items() if not name.startswith(conditions)}
        with self._lock:
            return list(self._app(environ, start_response))


@contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """Serves an empty bucket while it is entered; yields the environment that leads clients there."""
    with _moto(folder) as url:
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "a-test",
            "AWS_SECRET_ACCESS_KEY": "a-test-only",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            **_ATTEMPTS,
        }


@contextmanager
def google_server(folder: Path) -> Iterator[dict[str, str]]:
    """As `s3_server`, with Google's interface."""
    with _moto(folder, "--google") as url:
        yield {"STORAGE_EMULATOR_HOST": url, **_ATTEMPTS}


@contextmanager
def azure_server(folder: Path) -> Iterator[dict[str, str]]:
    """As `s3_server`, with Azure's interface."""
    program = azurite()
    assert program is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    options = ["--blobPort", str(port), "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen([program, *options], stdout=log, stderr=log, cwd=folder)
    try:
        _create_container(url, server)
        yield {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": url, **_ATTEMPTS}
    finally:
        server.kill()
        server.wait()


def azurite() -> str | None:
    """The program of Azurite; None if it is not installed."""
    return shutil.which("azurite-blob")


SERVERS: dict[str, Callable[[Path], AbstractContextManager[dict[str, str]]]] = {
    "s3": s3_server,
    "gs": google_server,
    "az": azure_server,
}


@contextmanager
def _moto(folder: Path, *options: str) -> Iterator[str]:
    command = [sys.executable, __file__, str(folder), *options]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    assert server.stdout is not None
    try:
        port = server.stdout.readline().strip().decode()
        assert port.isdecimal(), (folder / "server.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def _create_container(url: str, server: subprocess.Popen[bytes]) -> None:
    """Creates the container once Azurite listens, with Azure's signature by a shared key: obstore creates none."""
    path, date = f"/{_AZURE_ACCOUNT}/{BUCKET}", formatdate(usegmt=True)
    headers = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
    text = "PUT" + 12 * "\n" + f"{headers}/{_AZURE_ACCOUNT}{path}\nrestype:container"
    signature = hmac.digest(base64.b64decode(_AZURE_KEY), text.encode(), hashlib.sha256)
    signed = dict(line.split(":", 1) for line in headers.splitlines())
    signed["Authorization"] = f"SharedKey {_AZURE_ACCOUNT}:{base64.b64encode(signature).decode()}"
    until = time.monotonic() + 60
    while True:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        try:
            connection.request("PUT", f"{path}?restype=container", headers=signed)
            answer = connection.getresponse()
            assert answer.status == 201, answer.read().decode()
            return
        except OSError:
            assert server.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        finally:
            connection.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--google", action="store_true")
    arguments = parser.parse_args()
    from google_xml import GoogleXml
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from moto.s3.models import s3_backends
    from werkzeug.serving import make_server

    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    backend = DomainDispatcherApplication(create_backend_app)
    app = _OneAtATime(GoogleXml(backend) if arguments.google else backend, arguments.folder)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    s3_backends["123456789012"]["aws"].create_bucket(BUCKET, "us-east-1")
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
