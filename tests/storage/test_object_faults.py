"""An object store behind a network that cuts, loses, truncates and stalls: every operation, one request at a time."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from object_proxy import FAULTS, Faults, Proxy, object_proxy
from object_servers import BUCKET, ENDPOINTS, ObjectServer

from simtune.drivers.holder import Holder, lease_file, read_holder
from simtune.drivers.run_lease import Lease
from simtune.errors import StoreError
from simtune.storage import object_client, object_requests, object_transfer
from simtune.storage.complete_folder import download, upload
from simtune.storage.files import as_path, child_names, file_sha256, remove_tree, write_bytes, write_once
from simtune.storage.object_client import bucket_client
from simtune.storage.object_store import ObjectPath
from simtune.storage.records import record_bytes

PART_BYTES = 5 * 2**20  # the least that S3 accepts
LARGE = os.urandom(PART_BYTES + 2**17)
SMALL = b"small" * 100


@pytest.fixture(scope="module", params=list(ENDPOINTS))
def proxy(request: pytest.FixtureRequest, object_server: Callable[[str], ObjectServer]) -> Iterator[Proxy]:
    """In front of each test store; the clients of this process go through it."""
    environment, endpoint = object_server(request.param)[1], ENDPOINTS[request.param]
    with object_proxy(environment[endpoint]) as proxy, pytest.MonkeyPatch.context() as patch:
        proxy.scheme = request.param
        # More tries than spoiled requests, because on a busy machine a good request may time out, too.
        for name, value in (environment | {endpoint: proxy.url, "SIMTUNE_STORAGE_ATTEMPTS": "6"}).items():
            patch.setenv(name, value)
        patch.setattr(object_transfer, "PART_BYTES", PART_BYTES)
        patch.setattr(object_requests, "FIRST_PAUSE_S", 0.01)
        yield proxy
    bucket_client.cache_clear()


@pytest.fixture(autouse=True)
def time_limits(request: pytest.FixtureRequest, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short where answers stall, and only there: on a busy machine a good answer takes time, too."""
    small_s, large_s = (1.0, 2.0) if request.node.callspec.params.get("fault") == "stall" else (60.0, 60.0)
    monkeypatch.setattr(object_client, "READ_TIMEOUT_S", small_s)
    monkeypatch.setattr(object_client, "PART_TIMEOUT_S", large_s)
    bucket_client.cache_clear()


@pytest.fixture
def place(proxy: Proxy, tmp_path: Path) -> ObjectPath:
    path = as_path(f"{proxy.scheme}://{BUCKET}/{tmp_path.name}/runs")
    assert isinstance(path, ObjectPath)
    return path


def downloaded(path: ObjectPath, to: Path) -> bytes:
    path.download(to)
    return to.read_bytes()


def swapped(path: ObjectPath) -> bytes:
    """A cell that two changes were made to, each on top of the last."""
    first = path.swap(b"1", None)
    assert first is not None
    second = path.swap(b"2", first)
    assert second is not None
    assert path.swap(b"3", first) is None
    found = path.read_version()
    assert found is not None
    assert found[1] == second
    return found[0]


def uploaded(path: ObjectPath, file: Path, data: bytes) -> bytes:
    file.write_bytes(data)
    path.upload(file)
    return path.read_bytes()


def put(path: ObjectPath, data: bytes) -> bytes:
    write_bytes(path, data)
    return path.read_bytes()


def removed(path: ObjectPath) -> set[str]:
    remove_tree(path)
    return child_names(path)


def unlinked(path: ObjectPath) -> bool:
    path.unlink()
    path.unlink(missing_ok=True)
    return path.exists()


# The operations and their outcomes; `old` and `large` exist before.
OPERATIONS: dict[str, tuple[Callable[[ObjectPath, Path], Any], Any]] = {
    "get": (lambda place, disk: (place / "old").read_bytes(), SMALL),
    "get large": (lambda place, disk: (place / "large").read_bytes(), LARGE),
    "get nothing": (lambda place, disk: (place / "nothing").read_version(), None),
    "sha256 of large": (lambda place, disk: file_sha256(place / "large"), hashlib.sha256(LARGE).hexdigest()),
    "head": (lambda place, disk: ((place / "old").is_file(), (place / "nothing").is_file()), (True, False)),
    "list": (lambda place, disk: child_names(place), {"old", "large"}),
    "put": (lambda place, disk: put(place / "new", SMALL), SMALL),
    "put large": (lambda place, disk: put(place / "new", LARGE), LARGE),
    "create": (lambda place, disk: [write_once(place / "new", b"1"), write_once(place / "new", b"1")], [True, False]),
    "swap": (lambda place, disk: swapped(place / "cell"), b"2"),
    "delete": (lambda place, disk: unlinked(place / "old"), False),
    "delete all": (lambda place, disk: removed(place), set()),
    "upload": (lambda place, disk: uploaded(place / "new", disk / "file", SMALL), SMALL),
    "upload large": (lambda place, disk: uploaded(place / "new", disk / "file", LARGE), LARGE),
    "download": (lambda place, disk: downloaded(place / "old", disk / "file"), SMALL),
    "download large": (lambda place, disk: downloaded(place / "large", disk / "file"), LARGE),
    "conditions": (lambda place, disk: place.check_conditions(), None),
}


def fill(place: ObjectPath, operation: str) -> None:
    """Writes the objects that an operation needs, unless they exist."""
    if child_names(place) != {"old", "large"}:
        remove_tree(place)
        (place / "old").write_bytes(SMALL)
        (place / "large").write_bytes(LARGE if "large" in operation else SMALL)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "stall"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_gives_the_same_whichever_of_its_requests_is_spoiled(
    place: ObjectPath, proxy: Proxy, tmp_path: Path, operation: str, fault: str
) -> None:
    work, expected = OPERATIONS[operation]
    for number in range(100):
        proxy.start()
        fill(place, operation)
        proxy.start(fault, number.__eq__)
        assert work(place, tmp_path) == expected, f"request {number} of {proxy.seen}"
        if not proxy.num_spoiled:
            break
    assert number > 0
    assert not proxy.num_spoiled


@pytest.mark.parametrize("fault", ["stall"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_gives_the_same_whichever_of_its_requests_stalls(
    place: ObjectPath, proxy: Proxy, tmp_path: Path, operation: str, fault: str
) -> None:
    """As above, in a folder for each request, because waiting takes long: all wait at the same time."""
    work, expected = OPERATIONS[operation]
    proxy.start()
    fill(place, operation)
    proxy.start()
    assert work(place, tmp_path) == expected
    num_requests = len(proxy.seen)
    assert num_requests > 0
    folders = {number: f"{tmp_path.name}/request-{number:02}/" for number in range(num_requests)}

    def stalled(number: int) -> tuple[Any, Faults]:
        place, disk = as_path(f"{proxy.scheme}://{BUCKET}/{folders[number]}runs"), tmp_path / f"disk-{number}"
        assert isinstance(place, ObjectPath)
        disk.mkdir()
        fill(place, operation)
        faults = proxy.folders[folders[number]] = Faults(fault, number.__eq__)
        return work(place, disk), faults

    with ThreadPoolExecutor(num_requests) as threads:
        found = dict(zip(folders, threads.map(stalled, folders), strict=True))
    proxy.folders.clear()
    for number, (outcome, faults) in found.items():
        assert outcome == expected, f"request {number} of {faults.seen}"
        assert faults.num_spoiled == 1, f"request {number} of {faults.seen}"


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        *((name, fault) for name in OPERATIONS for fault in ("lose", "truncate") if "large" not in name),
        ("get", "cut"),
        ("get", "stall"),
    ],
)
def test_where_every_request_is_spoiled_it_is_one_error_that_names_the_object(
    place: ObjectPath, proxy: Proxy, tmp_path: Path, operation: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.start()
    fill(place, operation)
    monkeypatch.setenv("SIMTUNE_STORAGE_ATTEMPTS", "3")
    proxy.start(fault, lambda number: True)
    with pytest.raises(
        StoreError, match=rf"^{place}.*: the store does not answer \(.*run the same command again to continue"
    ) as error:
        OPERATIONS[operation][0](place, tmp_path)
    assert error.value.exit_code == 1
    proxy.start()


def test_two_processes_that_check_conditions_at_once_accept_a_sound_store(place: ObjectPath) -> None:
    errors: list[BaseException] = []

    def check() -> None:
        try:
            for _ in range(10):
                place.check_conditions()
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=check) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert child_names(place) == set()


# One request alone, and so many that a request fails.
@pytest.mark.parametrize(("fault", "most"), [*((fault, 1) for fault in FAULTS), ("lose", 16), ("truncate", 16)])
def test_a_lease_outlives_every_fault_and_a_lost_answer_loses_none(
    place: ObjectPath, proxy: Proxy, fault: str, most: int
) -> None:
    proxy.start()
    file = lease_file(place / "run")
    holder = Holder.from_this_process()
    version = file.swap(record_bytes(holder), None)
    assert version is not None
    lease = Lease(file, holder, version, beat_s=0.01)
    proxy.start(fault, most.__gt__)
    while len(proxy.seen) < most + 6:
        time.sleep(0.01)
    proxy.start()
    lease.check()
    before = read_holder(file)[0].beat
    while read_holder(file)[0].beat == before:
        time.sleep(0.01)
    lease.release()
    assert read_holder(file)[0].has_ended()


def test_what_is_downloaded_is_what_was_uploaded(place: ObjectPath, proxy: Proxy, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "weights").write_bytes(SMALL)
    files = upload(tmp_path / "made", place)
    download(place, files, tmp_path / "back")
    assert (tmp_path / "back" / "weights").read_bytes() == SMALL
    (place / "weights").write_bytes(SMALL[::-1])
    with pytest.raises(StoreError, match=r"weights: damaged during download"):
        download(place, files, tmp_path / "back")
