"""Files written once, with and without hard links: by one of many writers, complete, and nothing of one that died."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from simtune.storage.files import write_bytes, write_once


def without_links(monkeypatch: pytest.MonkeyPatch, number: int = errno.EPERM) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("name", ["EPERM", "EACCES", "EOPNOTSUPP", "ENOSYS", "EMLINK"])
def test_without_hard_links_a_file_is_still_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    without_links(monkeypatch, getattr(errno, name))
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda index=index: results.append(write_once(tmp_path / "once", b"%d" % index)))
        for index in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 11 + [True]
    content = (tmp_path / "once").read_bytes()
    assert not write_once(tmp_path / "once", b"later")
    assert (tmp_path / "once").read_bytes() == content
    assert {path.name for path in tmp_path.iterdir()} == {"once", ".guard"}


# Writes once where there are no hard links, and is killed at the call that the test names.
DYING_WRITER = """
import os, pathlib, signal, sys
from simtune.storage import files as storage

def refuse(*arguments, **keywords):
    raise PermissionError(1, "Operation not permitted")

def die(*arguments, **keywords):
    os.kill(os.getpid(), signal.SIGKILL)

os.link = refuse
setattr(*{"fsync": (os, "fsync"), "rename": (pathlib.Path, "rename")}[sys.argv[2]], die)
storage.write_once(pathlib.Path(sys.argv[1]), b"of the dead")
"""


@pytest.mark.fault
@pytest.mark.parametrize("moment", ["fsync", "rename"])
def test_a_writer_that_dies_leaves_no_partial_file_under_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "once"
    dead = subprocess.run([sys.executable, "-c", DYING_WRITER, str(path), moment], check=False)
    assert dead.returncode == -signal.SIGKILL
    assert not path.exists()
    without_links(monkeypatch)
    assert write_once(path, b"of the next")
    assert path.read_bytes() == b"of the next"


def test_a_link_whose_answer_was_lost_is_known_as_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., None] = os.link

    def lose_answer(source: Path, destination: Path) -> None:
        real(source, destination)
        real(source, destination)

    monkeypatch.setattr(os, "link", lose_answer)
    assert write_once(tmp_path / "once", b"1")
    assert not write_once(tmp_path / "once", b"1")


def test_names_near_the_limit_of_a_file_system_are_written(tmp_path: Path) -> None:
    name = "名" * 80
    write_bytes(tmp_path / name, b"1")
    assert write_once(tmp_path / f"{name}x", b"1")
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{name}x"}
