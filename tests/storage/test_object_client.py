"""Where clients find credentials, regions and addresses, and how the errors of requests are told apart."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from simtune.errors import StoreError
from simtune.storage import object_client
from simtune.storage.files import as_path
from simtune.storage.object_client import bucket_client, location_variables
from simtune.storage.object_requests import failure_of

PREFIXES = ("AWS_", "AZURE_", "AZURITE_", "GOOGLE_", "STORAGE_EMULATOR", "SIMTUNE_STORAGE")


@pytest.fixture(autouse=True)
def nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No credentials in the environment, in the home directory, or on a server for machines in a cloud."""
    for name in os.environ:
        if name.startswith(PREFIXES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("SIMTUNE_STORAGE_ATTEMPTS", "1")
    bucket_client.cache_clear()
    yield
    bucket_client.cache_clear()


@contextmanager
def recording(
    status: int = 404, headers: Mapping[str, str] | None = None, after_s: float = 0.0
) -> Iterator[tuple[str, list[str]]]:
    """A server that gives every request the same answer; its address, and the requests' authorization."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            time.sleep(after_s)
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_PUT = do_GET

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()


def test_an_aws_profile_gives_credentials_region_and_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with recording() as (url, seen):
        (tmp_path / ".aws").mkdir()
        (tmp_path / ".aws" / "credentials").write_text("[lab]\naws_access_key_id=of-lab\naws_secret_access_key=x\n")
        (tmp_path / ".aws" / "config").write_text(f"[profile lab]\nregion=eu-west-3\nendpoint_url={url}\n")
        monkeypatch.setenv("AWS_PROFILE", "lab")
        assert not as_path("s3://some-bucket/x").is_file()
    assert re.search(r"Credential=of-lab/\d+/eu-west-3/s3/", seen[0])


@pytest.mark.parametrize(
    ("profile", "reason"), [(None, "no credentials found"), ("missing", "profile .missing. could")]
)
def test_missing_aws_credentials_are_one_error(
    monkeypatch: pytest.MonkeyPatch, profile: str | None, reason: str
) -> None:
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
    with pytest.raises(StoreError, match=rf"^s3://some-bucket.*refused \(.*{reason}.*AWS_PROFILE") as error:
        as_path("s3://some-bucket/x").read_bytes()
    assert error.value.exit_code == 2


def test_the_region_of_a_bucket_is_asked_for_where_none_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with recording(403, {"x-amz-bucket-region": "ap-south-1"}) as (url, _):
        monkeypatch.setattr(object_client, "_S3_ADDRESS", url)
        assert object_client._region_of("some-bucket") == "ap-south-1"
    assert object_client._region_of("some-bucket") == "us-east-1"


def test_a_login_of_azures_command_line_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    az = tmp_path / "az"
    answer = '{"accessToken": "of-az", "expires_on": 4102444800, "expiresOn": "2100-01-01 00:00:00.000000", '
    answer += '"subscription": "s", "tenant": "t", "tokenType": "Bearer"}'
    az.write_text(f"#!/bin/sh\necho '{answer}'\n")
    az.chmod(0o755)
    (tmp_path / ".azure").mkdir()
    (tmp_path / ".azure" / "azureProfile.json").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "mine")
    with recording() as (url, seen):
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", url)
        assert not as_path("az://some-container/x").is_file()
    assert seen == ["Bearer of-az"]


def test_without_an_azure_account_the_message_says_so() -> None:
    with pytest.raises(
        StoreError, match=r"^az://some-container: refused \(.*ccount.*AZURE_STORAGE_ACCOUNT_NAME"
    ) as error:
        as_path("az://some-container/x").read_bytes()
    assert error.value.exit_code == 2


def test_a_machine_without_google_credentials_is_told_so() -> None:
    with pytest.raises(StoreError, match=r"^gs://some-bucket/x: refused \(no credentials found.*gcloud auth") as error:
        as_path("gs://some-bucket/x").read_bytes()
    assert error.value.exit_code == 2


def test_workers_learn_addresses_and_no_secrets() -> None:
    assert {"AWS_ENDPOINT_URL", "STORAGE_EMULATOR_HOST", "AZURE_STORAGE_ACCOUNT_NAME"} <= set(location_variables())
    assert not [name for name in location_variables() if re.search("KEY|SECRET|TOKEN|SAS|CREDENTIALS|CONNECTION", name)]


def test_what_the_client_has_repeated_is_not_repeated_again() -> None:
    import obstore.exceptions

    for num, final in ((7, True), (1, False)):
        text = f"Error performing PUT http://store/x in 11s, after {num} retries, max_retries: 7, retry_timeout: 180s"
        failure = failure_of(obstore.exceptions.GenericError(f"{text}  - HTTP error: error sending request"))
        assert failure is not None
        assert (failure.cause, failure.repeated) == ("temporary", final)


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        ("temporary", "GenericError", "Generic S3 error: HTTP error: connection closed before message completed"),
        ("temporary", "GenericError", "Server returned non-2xx status code: 503 Service Unavailable: slow down"),
        (
            "temporary",
            "GenericError",
            "non-2xx status code: 400 Bad Request: <Error><Code>RequestTimeout</Code></Error>",
        ),
        ("temporary", "GenericError", "non-2xx status code: 429 Too Many Requests: "),
        ("temporary", "AlreadyExistsError", "non-2xx status code: 409 Conflict: <Code>OperationAborted</Code>"),
        ("refused", "GenericError", "non-2xx status code: 400 Bad Request: <Error><Code>ExpiredToken</Code></Error>"),
        ("refused", "GenericError", "Received redirect without LOCATION, this normally indicates an incorrect region"),
        ("refused", "PermissionDeniedError", "non-2xx status code: 403 Forbidden: <Code>AccessDenied</Code>"),
        ("refused", "UnauthenticatedError", "non-2xx status code: 401 Unauthorized: "),
        ("refused", "GenericError", "error sending request for url (http://169.254.169.254/latest/api/token)"),
        ("temporary", "GenericError", "GET http://metadata.google.internal/ - status code: 503 Service Unavailable"),
        ("condition", "PreconditionError", "non-2xx status code: 412 Precondition Failed: "),
    ],
)
def test_a_request_is_sent_again_only_where_it_might_succeed(kind: str, name: str, text: str) -> None:
    import obstore.exceptions

    failure = failure_of(getattr(obstore.exceptions, name)(f"{text}\n\nDebug source:\n503 status code: 503"))
    assert failure is not None
    assert failure.cause == kind
    assert "Debug" not in failure.reason


@pytest.mark.parametrize(
    ("kind", "code"), [("missing", "NoSuchKey"), ("refused", "NoSuchBucket"), ("temporary", "NoSuchUpload")]
)
def test_what_is_not_found_decides(kind: str, code: str) -> None:
    body = f"<Error><Code>{code}</Code><Message>There is none.</Message></Error>"
    failure = failure_of(FileNotFoundError(f"Server returned non-2xx status code: 404 Not Found: {body}"))
    assert failure is not None
    assert (failure.cause, failure.reason) == (kind, f"{code}: There is none.")
    assert failure_of(PermissionError(13, "of a disk")) is None


def test_a_larger_object_has_more_time_than_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_client, "READ_TIMEOUT_S", 0.2)
    with recording(200, {"ETag": '"x"', "x-goog-generation": "1"}, after_s=1.0) as (url, seen):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        as_path("gs://some-bucket/x").write_bytes(bytes(2**21))
        with pytest.raises(StoreError, match="no answer within the time limit"):
            as_path("gs://some-bucket/x").write_bytes(b"small")
    assert len(seen) == 2


@pytest.mark.parametrize("status", [403, 500, 0])
def test_a_signature_in_an_address_is_not_shown(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with recording(status or 404) as (url, _):
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "mine")
        monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=2021-08-06&sp=rw&sig=Planted0Signature0%3D")
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", url if status else "http://127.0.0.1:9")
        for use in (lambda path: path.read_bytes(), lambda path: path.write_bytes(bytes(2**21))):
            with pytest.raises(StoreError) as error:
                use(as_path("az://some-container/x"))
            assert "Planted" not in f"{error.value} {error.value.reason}"


# Of a large object whose size is known, parts are on their way.
STARTS = [b"", b'HTTP/1.1 200 OK\r\nContent-Length: 99000000\r\nETag: "x"\r\nx-goog-generation: 1\r\n']
STARTS[1] += b"Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"


@pytest.mark.parametrize("start", STARTS, ids=["first request", "parts"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts_a_request_that_waits(number: signal.Signals, start: bytes) -> None:
    script = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
    script += "from simtune.storage.files import as_path; as_path('gs://some-bucket/x').read_bytes()"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            env=os.environ | {"STORAGE_EMULATOR_HOST": address},
            stderr=subprocess.DEVNULL,
        )
        silent.settimeout(60)
        connections = [silent.accept()[0]]
        if start:
            connections[0].recv(2**16)
            connections[0].sendall(start)
            connections.append(silent.accept()[0])
        started = time.monotonic()
        process.send_signal(number)
        assert process.wait(60) == (-signal.SIGINT if number is signal.SIGINT else 7)
        assert time.monotonic() - started < 10
        for connection in connections:
            connection.close()
