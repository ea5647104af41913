"""The client of object stores against boto3: requests, seconds and processor time; and what faults do to each.

    python benchmarks/object_store.py            some three minutes

A server on this machine answers (moto's S3, one request at a time, so its own time is in every `ms`); `cpu_ms` is what
the client alone takes. `ratio` and `cpu_ratio` are boto3's figures divided by the row's. Faults come from a proxy that
spoils the first request of an operation, with time-outs of 2 s everywhere. `obstore alone` is the same client as
simtune's without what simtune adds.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from harness import in_own_process, interleaved, machine, median, save, show

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from object_proxy import FAULTS, object_proxy
from object_servers import BUCKET, s3_server

SMALL, LARGE_MIB, NUM_OBJECTS = b"x" * 2000, 64, 1000
TIMEOUT_S, FAULT_TIMEOUT_S = 60.0, 2.0


class Boto3:
    """boto3 as it is used where nothing is added: its standard retries, and conditions by ETag."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        import boto3
        from botocore.config import Config

        retries = {"mode": "standard", "total_max_attempts": 6}
        config = Config(read_timeout=timeout_s, retries=retries, max_pool_connections=32)
        self.client = boto3.client("s3", config=config)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def swap(self, key: str, data: bytes, version: str | None) -> str | None:
        from botocore.exceptions import ClientError

        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        try:
            return self.client.put_object(Bucket=BUCKET, Key=key, Body=data, **condition)["ETag"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "PreconditionFailed":
                raise
            return None

    def names(self, folder: str) -> int:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{folder}/")
        return sum(len(page.get("Contents", ())) for page in pages)

    def upload(self, key: str, path: Path) -> None:
        self.client.upload_file(str(path), BUCKET, key)

    def download(self, key: str, path: Path) -> None:
        self.client.download_file(BUCKET, key, str(path))


class Obstore:
    """obstore with its own retries."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        from obstore.store import S3Store

        seconds = timedelta(seconds=timeout_s)
        self.client = S3Store(
            BUCKET,
            client_options={"allow_http": True, "timeout": "1d", "read_timeout": seconds},
            retry_config={"max_retries": 5},
        )

    def get(self, key: str) -> bytes:
        return bytes(self.client.get(key).bytes())

    def put(self, key: str, data: bytes) -> None:
        self.client.put(key, data)

    def swap(self, key: str, data: bytes, version: str | None) -> str | None:
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            return self.client.put(key, data, mode="create" if version is None else {"e_tag": version})["e_tag"]
        except (AlreadyExistsError, PreconditionError):
            return None

    def names(self, folder: str) -> int:
        return len(self.client.list(folder).collect())

    def upload(self, key: str, path: Path) -> None:
        self.client.put(key, path)

    def download(self, key: str, path: Path) -> None:
        with path.open("wb") as file:
            for block in self.client.get(key).stream():
                file.write(block)


class Simtune:
    """The paths that runs use."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        from simtune.storage import object_client
        from simtune.storage.object_store import ObjectPath

        object_client.READ_TIMEOUT_S = object_client.PART_TIMEOUT_S = timeout_s
        self.bucket = ObjectPath("s3", BUCKET, "")

    def get(self, key: str) -> bytes:
        return (self.bucket / key).read_bytes()

    def put(self, key: str, data: bytes) -> None:
        (self.bucket / key).write_bytes(data)

    def swap(self, key: str, data: bytes, version: str | None) -> str | None:
        return (self.bucket / key).swap(data, version)

    def names(self, folder: str) -> int:
        return len(list((self.bucket / folder).glob("**/*")))

    def upload(self, key: str, path: Path) -> None:
        (self.bucket / key).upload(path)

    def download(self, key: str, path: Path) -> None:
        (self.bucket / key).download(path)


CLIENTS: dict[str, type[Any]] = {"boto3": Boto3, "obstore alone": Obstore, "simtune": Simtune}


def operations(client: Any, folder: Path) -> dict[str, Callable[[], Any]]:
    """What runs ask for, by name; each can be repeated."""
    large, back = folder / "large", folder / "back"

    def renew() -> bool:
        return client.swap("lease", SMALL, client.swap("lease", b"1", _version(client, "lease"))) is not None

    return {
        "read a record": lambda: client.get("record") == SMALL,
        "write a record": lambda: client.put("written", SMALL),
        "write a result once": lambda: client.swap(f"once/{time.monotonic_ns()}", SMALL, None) is not None,
        "renew a lease twice": renew,
        f"list {NUM_OBJECTS} objects": lambda: client.names("many") == NUM_OBJECTS,
        f"upload {LARGE_MIB} MiB": lambda: client.upload("large", large),
        f"download {LARGE_MIB} MiB": lambda: client.download("large", back),
    }


def _version(client: Any, key: str) -> str:
    """The current version of an object, by a request of the client's own kind."""
    if isinstance(client, Boto3):
        return str(client.client.head_object(Bucket=BUCKET, Key=key)["ETag"])
    if isinstance(client, Obstore):
        return str(client.client.head(key)["e_tag"])
    return str((client.bucket / key).read_version()[1])


def first_request(name: str, environment: dict[str, str]) -> dict[str, float]:
    """Seconds from nothing to the first answer, in a new process."""
    os.environ.update(environment)
    started, cpu = time.perf_counter(), time.process_time()
    CLIENTS[name]().get("record")
    return {"s": time.perf_counter() - started, "cpu_s": time.process_time() - cpu}


def costs(environment: dict[str, str], folder: Path) -> list[dict[str, Any]]:
    """A row for each operation and client."""
    rows = []
    with object_proxy(environment["AWS_ENDPOINT_URL"]) as proxy, mock.patch.dict(os.environ, environment):
        clients = {name: make() for name, make in CLIENTS.items()}
        for operation in operations(clients["boto3"], folder):
            works = {name: operations(client, folder)[operation] for name, client in clients.items()}
            cpu: dict[str, list[float]] = {name: [] for name in works}
            runs = 5 if "MiB" in operation else 40
            for work in works.values():
                work()
            seconds = interleaved({name: counted(work, cpu[name]) for name, work in works.items()}, runs)
            for name in works:
                with mock.patch.dict(os.environ, environment | {"AWS_ENDPOINT_URL": proxy.url}):
                    forget()
                    fresh = operations(CLIENTS[name](), folder)[operation]
                    proxy.start()
                    fresh()
                forget()
                row = {"operation": operation, "client": name, "requests": len(proxy.seen)}
                rows.append(row | {"ms": 1000 * median(seconds[name]), "cpu_ms": 1000 * median(cpu[name])})
    return rows


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    peers = {row["operation"]: row for row in rows if row["client"] == "boto3"}
    ratios = {"ratio": "ms", "cpu_ratio": "cpu_ms"}
    return [
        row | {name: peers[row["operation"]][column] / row[column] for name, column in ratios.items()} for row in rows
    ]


def counted(work: Callable[[], Any], cpu: list[float]) -> Callable[[], None]:
    def timed() -> None:
        started = time.process_time()
        assert work() in {None, True}
        cpu.append(time.process_time() - started)

    return timed


def forget() -> None:
    from simtune.storage.object_client import bucket_client

    bucket_client.cache_clear()


def under_faults(environment: dict[str, str], folder: Path) -> list[dict[str, Any]]:
    """What becomes of each operation if its first request is spoiled: `ok` with the seconds, `wrong`, or the error."""
    rows = []
    with object_proxy(environment["AWS_ENDPOINT_URL"]) as proxy, mock.patch.dict(os.environ, environment):
        os.environ["AWS_ENDPOINT_URL"] = proxy.url
        for fault in FAULTS:
            for operation in operations(Boto3(FAULT_TIMEOUT_S), folder):
                row: dict[str, Any] = {"fault": fault, "operation": operation}
                for name, make in CLIENTS.items():
                    forget()
                    proxy.start()
                    work = operations(make(FAULT_TIMEOUT_S), folder)[operation]
                    # After a first request that is sound, so that the connection is there.
                    proxy.start(fault, (1 if operation.startswith("renew") else 0).__eq__)
                    row[name] = outcome(work)
                rows.append(row)
    return rows


def outcome(work: Callable[[], Any]) -> str:
    started = time.perf_counter()
    try:
        right = work() in {None, True}
    except Exception as error:
        return type(error).__name__
    seconds = time.perf_counter() - started
    return f"{'ok' if right else 'WRONG'}, {seconds:.1f} s"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "large").write_bytes(os.urandom(LARGE_MIB * 2**20))
        with s3_server(folder) as environment:
            environment |= {"SIMTUNE_STORAGE_ATTEMPTS": "6"}
            with mock.patch.dict(os.environ, environment):
                store = Simtune()
                store.put("record", SMALL)
                store.put("lease", SMALL)
                for number in range(NUM_OBJECTS):
                    store.put(f"many/{number:04}/metrics.json", b"{}")
                store.upload("large", folder / "large")
            forget()
            about = machine("boto3", "obstore", "moto")
            rows = []
            for client in CLIENTS:
                starts = [in_own_process(first_request, client, environment)[0] for _ in range(5)]
                row = {"operation": "first request of a process", "client": client, "requests": 1}
                row |= {"ms": 1000 * median([start["s"] for start in starts])}
                rows.append(row | {"cpu_ms": 1000 * median([start["cpu_s"] for start in starts])})
            rows = with_ratios(rows + costs(environment, folder))
            show("An object store's clients", rows, about)
            faults = under_faults(environment, folder)
            print()
            show("With the first request spoiled", faults, about)
            save("object_store", rows, about, faults=faults)


if __name__ == "__main__":
    main()
