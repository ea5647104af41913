"""Paths in an object store, compared with the same calls on a disk; a real S3 server answers."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from simtune.errors import ConfigError, RunError, StoreError
from simtune.storage.files import (
    AnyPath,
    as_path,
    child_names,
    file_sha256,
    files_below,
    read_json,
    remove_tree,
    write_bytes,
    write_json,
    write_once,
)
from simtune.storage.object_store import ObjectPath
from simtune.storage.parquet_files import read_table
from simtune.storage.versioned_file import versioned_file


@pytest.fixture(params=["disk", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> AnyPath:
    """A folder that is not there yet, on a disk and in an object store."""
    if request.param == "disk":
        return tmp_path / "folder"
    return as_path(request.getfixturevalue("s3_storage"))


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
        write_json(folder / name, {"name": name})
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


def test_large_files_go_up_and_come_down_whole(s3_storage: str, tmp_path: Path) -> None:
    path, here = as_path(s3_storage) / "weights", tmp_path / "weights"
    assert isinstance(path, ObjectPath)
    # More than one part of an upload.
    here.write_bytes(random.Random(0).randbytes(23 * 2**20))
    path.upload(here)
    path.download(tmp_path / "new" / "back")
    assert (tmp_path / "new" / "back").read_bytes() == here.read_bytes()
    with pytest.raises(FileNotFoundError):
        (path / "nothing").download(tmp_path / "nothing")


def test_what_is_missing_or_damaged_is_named(folder: AnyPath) -> None:
    for read in (read_json, read_table):
        with pytest.raises(RunError, match=r"here: no such file"):
            read(folder / "here")
    write_bytes(folder / "here", b"\x00")
    for read in (read_json, read_table):
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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("gs://bucket/runs", "give a folder, or s3://BUCKET/KEY"),
        ("s3://", "expected s3://BUCKET/KEY"),
        ("s3://UPPER/runs", "'UPPER' cannot be the name of a bucket; expected s3://BUCKET/KEY"),
        ("s3://b/runs", "'b' cannot be the name of a bucket"),
        ("s3://key:secret@bucket/runs", r"\*\*\*@bucket.*environment"),
        ("s3://bucket/runs?region=eu-west-1", "without user, password or query"),
        ("s3://bucket/a/../../b", "expected s3://BUCKET/KEY"),
    ],
)
def test_wrong_addresses_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        as_path(text)


def test_a_missing_bucket_and_an_unreachable_store_have_different_messages(
    s3_storage: str, s3_folder: tuple[Path, dict[str, str]]
) -> None:
    with pytest.raises(StoreError, match=r"refused.*bucket does not exist") as refused:
        write_once(as_path("s3://no-such-bucket/x"), b"")
    assert refused.value.exit_code == 2
    path = as_path(s3_storage) / "x"
    (s3_folder[0] / "away").touch()
    try:
        for use in (path.is_file, path.read_bytes, lambda: write_once(path, b""), lambda: write_bytes(path, b"")):
            with pytest.raises(StoreError, match="does not answer") as away:
                use()
            assert away.value.exit_code == 1
    finally:
        (s3_folder[0] / "away").unlink()


def test_a_store_that_ignores_conditions_is_refused(s3_storage: str, s3_folder: tuple[Path, dict[str, str]]) -> None:
    path = as_path(s3_storage)
    assert isinstance(path, ObjectPath)
    path.check_conditions()
    (s3_folder[0] / "careless").touch()
    try:
        with pytest.raises(StoreError, match="ignores If-None-Match"):
            path.check_conditions()
    finally:
        (s3_folder[0] / "careless").unlink()
    assert files_below(path, "**/*") == {}
