"""A file or folder of the wrong type is reported by name; it is neither opened nor treated as missing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from simtune.errors import RunError
from simtune.storage.file_types import has_file, read_file, wrong_file_types
from simtune.storage.files import remove_tree, write_bytes, write_once
from simtune.storage.parquet_files import read_table


def bound(path: Path) -> None:
    # The path of a socket must be short.
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


PUT: dict[str, Callable[[Path], None]] = {
    "a folder": lambda path: path.mkdir(),
    "a broken link": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": lambda path: os.mkfifo(path),
    "a socket": bound,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("what", PUT)
def test_something_other_than_a_file_is_named_by_every_reader_and_never_overwritten(tmp_path: Path, what: str) -> None:
    path = tmp_path / "metrics.json"
    PUT[what](path)
    for read in (has_file, read_file, read_table):
        with pytest.raises(RunError, match=rf"metrics\.json: is {what}, not a file; move it aside"):
            read(path)
    with pytest.raises(RunError, match=f"is {what}, not a file"):
        write_once(path, b"{}")
    remove_tree(path)
    assert write_once(path, b"{}")
    assert read_file(path) == b"{}"


def test_something_other_than_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "trials").write_text("")
    (tmp_path / "cache").symlink_to("nowhere")
    for name in ("trials", "cache"):
        for act in (write_bytes, write_once):
            with pytest.raises(RunError, match=f"/{name}: is .*, not a folder; move it aside"):
                act(tmp_path / name / "0" / "x", b"")
    with pytest.raises(RunError, match="/trials: is a file, not a folder"):
        read_file(tmp_path / "trials" / "0" / "x")
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "elsewhere" / "x")


def test_wrong_file_types_are_found_only_where_they_matter(tmp_path: Path) -> None:
    root = tmp_path / "run"
    (root / "report" / "figures" / "a.svg").mkdir(parents=True)
    (root / "kept").write_text("")
    (root / "own" / "kept").mkdir(parents=True)
    (root / "whole.parquet").write_text("")
    (root / "linked.parquet").symlink_to("whole.parquet")
    (root / "results.parquet").symlink_to("nowhere")
    found = wrong_file_types(
        root, {"report": "folder", "report/figures": "folder", "report/figures/*": "file", "kept": "folder"}
    )
    assert {wrong.path.name: wrong.problem for wrong in found} == {
        "a.svg": "is a folder, not a file",
        "kept": "is a file, not a folder",
    }
    (wrong,) = wrong_file_types(root, {"*.parquet": "file"})
    assert wrong.path.name == "results.parquet"
    assert [wrong.problem for wrong in wrong_file_types(root / "kept", {})] == ["is a file, not a folder"]
    assert list(wrong_file_types(tmp_path / "nowhere", {"*": "file"})) == []
