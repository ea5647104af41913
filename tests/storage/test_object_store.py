"""Paths in an object store, compared with the same calls on a disk; servers on this machine answer."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from json_files import read_json
from object_servers import ENDPOINTS, SERVERS, ObjectServer

from simtune.errors import ConfigError, RunError, StoreError
from simtune.storage.complete_folder import Marker
from simtune.storage.files import (
    AnyPath,
    as_path,
    child_names,
    file_sha256,
    files_below,
    json_text,
    remove_tree,
    write_bytes,
    write_once,
)
from simtune.storage.object_client import bucket_client
from simtune.storage.object_store import ObjectPath
from simtune.storage.parquet_files import read_table
from simtune.storage.records import read_record
from simtune.storage.versioned_file import versioned_file


@pytest.fixture(params=["disk", *SERVERS])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> AnyPath:
    """A folder that is not there yet, on a disk and in each kind of object store."""
    if request.param == "disk":
        return tmp_path / "folder"
    return as_path(request.getfixturevalue("object_storage")(request.param))


@pytest.fixture(params=list(SERVERS))
def place(request: pytest.FixtureRequest, object_storage: Callable[[str], str]) -> ObjectPath:
    """The same in each kind of object store alone."""
    path = as_path(object_storage(request.param))
    assert isinstance(path, ObjectPath)
    return path


def at_once(number: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_files_are_written_listed_and_removed_alike(folder: AnyPath) -> None:
    assert not folder.exists()
    assert files_below(folder, "*") == {}
    for name in ("b.json", "a.json", "deep/er/c.json", "deep/d.txt", "deeper.json"):
        write_bytes(folder / name, json_text({"name": name}))
    assert folder.exists()
    assert list(files_below(folder, "*.json")) == ["a.json", "b.json", "deeper.json"]
    assert list(files_below(folder, "deep/**/*")) == ["deep/d.txt", "deep/er/c.json"]
    assert list(files_below(folder, "*/d.txt")) == ["deep/d.txt"]
    assert read_json(folder / "deep" / "er" / "c.json") == {"name": "deep/er/c.json"}
    write_bytes(folder / "a.json", b"{}")
    assert (folder / "a.json").read_text() == "{}"
    assert file_sha256(folder / "a.json").startswith("44136fa3")
    assert child_names(folder) == {"a.json", "b.json", "deep", "deeper.json"}
    assert child_names(folder / "nothing") == set()
    assert (folder / "deep").parent == folder
    assert (folder / "deep" / "d.txt").name == "d.txt"
    remove_tree(folder / "deep")
    assert list(files_below(folder, "**/*")) == ["a.json", "b.json", "deeper.json"]
    (folder / "a.json").unlink()
    (folder / "a.json").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (folder / "a.json").unlink()


def test_large_files_go_up_and_come_down_whole(place: ObjectPath, tmp_path: Path) -> None:
    path, here = place / "weights", tmp_path / "weights"
    # More than one part of an upload.
    here.write_bytes(random.Random(0).randbytes(23 * 2**20))
    path.upload(here)
    path.download(tmp_path / "new" / "back")
    assert (tmp_path / "new" / "back").read_bytes() == here.read_bytes()
    with pytest.raises(FileNotFoundError):
        (path / "nothing").download(tmp_path / "nothing")


def test_what_is_missing_or_damaged_is_named(folder: AnyPath) -> None:
    with pytest.raises(RunError, match=r"here: no such file"):
        read_table(folder / "here")
    with pytest.raises(FileNotFoundError):
        read_record(folder / "here", Marker)
    write_bytes(folder / "here", b"\x00")
    for read in (read_table, lambda path: read_record(path, Marker)):
        with pytest.raises(RunError, match=r"here: .*move it aside"):
            read(folder / "here")


def test_of_many_writers_one_writes_once(folder: AnyPath) -> None:
    wrote: list[int] = []
    at_once(12, lambda index: wrote.append(index) if write_once(folder / "result", b"%d" % index) else None)
    assert [(folder / "result").read_bytes()] == [b"%d" % index for index in wrote]


def test_no_swap_is_lost(folder: AnyPath) -> None:
    file = versioned_file(folder, "trial", ".claim")
    assert file.read() is None
    assert file.swap(b"0", None) is not None
    assert file.swap(b"1", None) is None

    def add_ten(index: int) -> None:
        for _ in range(10):
            while True:
                found = file.read()
                assert found is not None
                count, version = int(found[0].split()[0]), found[1]
                if file.swap(b"%d by %d" % (count + 1, index), version) is not None:
                    break

    at_once(4, add_ten)
    assert file.read()[0].split()[0] == b"40"


def test_what_was_removed_has_no_version(folder: AnyPath) -> None:
    """As a claim that another driver has released."""
    file = versioned_file(folder, "trial", ".claim")
    version = file.swap(b"0", None)
    file.path.unlink()
    assert file.swap(b"1", version) is None
    assert file.read() is None


def test_a_folder_that_two_remove_at_once_is_removed(place: ObjectPath) -> None:
    for number in range(20):
        (place / f"{number}").write_bytes(b"1")
    at_once(3, lambda index: remove_tree(place))
    assert child_names(place) == set()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("https://bucket/runs", "one of s3://BUCKET/KEY, gs://BUCKET/KEY, az://CONTAINER/KEY"),
        ("s3://", "expected s3://BUCKET/KEY"),
        ("s3://UPPER/runs", "'UPPER' cannot be the name of a bucket; expected s3://BUCKET/KEY"),
        ("s3://b/runs", "'b' cannot be the name of a bucket"),
        ("s3://a_b/runs", "'a_b' cannot be the name of a bucket"),
        ("az://a.b/runs", "'a.b' cannot be the name of a bucket; expected az://CONTAINER/KEY"),
        ("s3://key:secret@bucket/runs", r"\*\*\*@bucket.*environment.*AWS_"),
        ("gs://bucket/runs?project=p", "without user, password or query.*GOOGLE_"),
        ("az://container@account.example/runs", r"expected az://CONTAINER/KEY.*AZURE_"),
        ("s3://bucket/a/../../b", "expected s3://BUCKET/KEY"),
    ],
)
def test_wrong_addresses_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        as_path(text)


@pytest.mark.parametrize("text", ["s3://my.bucket/runs", "gs://my_bucket.example/runs", "az://my-container/runs"])
def test_addresses_are_written_as_they_were_read(text: str) -> None:
    path = as_path(f"{text}//a/")
    assert str(path) == f"{text}/a"
    assert str(path.parent / "b") == f"{text}/b"
    assert path.relative_to(path.parent).as_posix() == "a"


@pytest.mark.parametrize(
    "name",
    ["a b", "a%20b", "a%2Fb", "a+b", "a&b=c", "näme–名", "=x", "~", "a:b", "'\"<>", "x" * 200, ".hidden", "a#b?c"],
)
def test_names_of_any_kind_are_kept(place: ObjectPath, name: str) -> None:
    for path in (place / name, place / "folder" / name):
        assert path.create(b"1")
        assert path.read_bytes() == b"1"
        assert path.is_file()
    assert list(files_below(place, "**/*")) == sorted([name, f"folder/{name}"])
    remove_tree(place)
    assert child_names(place) == set()


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_an_empty_object_that_stands_for_a_folder_is_no_file(
    object_storage: Callable[[str], str], object_server: Callable[[str], ObjectServer], scheme: str
) -> None:
    """As the stores' web pages make them, with a slash at the end."""
    place, url = as_path(object_storage(scheme)), object_server(scheme)[1][ENDPOINTS[scheme]]
    (place / "a" / "b" / "c").write_bytes(b"")
    for folder in (place, place / "a", place / "a" / "b"):
        connection = http.client.HTTPConnection(urlsplit(url).netloc)
        signature = "AWS4-HMAC-SHA256 Credential=a-test/20260101/us-east-1/s3/aws4_request"
        connection.request("PUT", f"/{folder.bucket}/{folder.key}/", b"", {"Authorization": signature})
        assert connection.getresponse().status == 200
        connection.close()
    assert list(files_below(place, "**/*")) == ["a/b/c"]
    assert list(files_below(place, "*")) == list(files_below(place, "a/*")) == []
    assert child_names(place / "a") == {"b"}


def test_objects_have_the_content_type_of_their_name(place: ObjectPath) -> None:
    (place / "report.html").write_bytes(b"<p>")
    (place / "data").write_bytes(bytes(9 * 2**20))
    kinds = [
        bucket_client(place.scheme, place.bucket).get((place / name).key).attributes for name in ("report.html", "data")
    ]
    assert [kind["Content-Type"] for kind in kinds] == ["text/html; charset=utf-8", "application/octet-stream"]


def test_a_missing_bucket_is_refused(place: ObjectPath) -> None:
    missing = ObjectPath(place.scheme, "no-such-bucket", "x")
    for use in (
        lambda: write_once(missing, b""),
        lambda: write_bytes(missing, b""),
        missing.read_bytes,
        missing.exists,
    ):
        with pytest.raises(
            StoreError, match=r"^[a-z0-9]+://no-such-bucket/x: refused \(.*does not exist.*Check "
        ) as refused:
            use()
        assert refused.value.exit_code == 2


def test_an_unreachable_store_does_not_answer(
    place: ObjectPath, object_server: Callable[[str], ObjectServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place / "x"
    with unreachable(place, object_server, monkeypatch):
        for use in (path.is_file, path.read_bytes, lambda: write_once(path, b""), lambda: write_bytes(path, b"")):
            with pytest.raises(StoreError, match="does not answer") as away:
                use()
            assert away.value.exit_code == 1


@contextmanager
def unreachable(
    place: ObjectPath, object_server: Callable[[str], ObjectServer], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """moto answers 503; nobody listens in the place of Azurite."""
    folder = object_server(place.scheme)[0]
    if place.scheme == "az":
        bucket_client.cache_clear()
        monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", "http://127.0.0.1:9")
    (folder / "away").touch()
    try:
        yield
    finally:
        (folder / "away").unlink()
        bucket_client.cache_clear()


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_store_that_ignores_conditions_is_refused(
    object_storage: Callable[[str], str], object_server: Callable[[str], ObjectServer], scheme: str
) -> None:
    path, folder = as_path(object_storage(scheme)), object_server(scheme)[0]
    assert isinstance(path, ObjectPath)
    path.check_conditions()
    (folder / "careless").touch()
    try:
        with pytest.raises(StoreError, match="ignores the conditions of writes"):
            path.check_conditions()
    finally:
        (folder / "careless").unlink()
    assert files_below(path, "**/*") == {}
