"""Locks on files: the holder is named, and every wait has a message and an end."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest
from locked_elsewhere import locked_elsewhere

from simtune.errors import StoreError
from simtune.storage.locks import LockWait, file_lock


@pytest.mark.parametrize("how", ["exclusive", "shared"])
def test_a_held_lock_is_waited_for_with_a_message_and_a_limit(tmp_path: Path, how: str) -> None:
    path, warnings = tmp_path / ".guard", list[str]()
    with locked_elsewhere(path, how) as holder:
        with (
            pytest.raises(StoreError, match=rf"\.guard: locked by process {holder.pid} \('python") as error,
            file_lock(path, LockWait(warnings.append, warn_after_s=0.05, limit_s=0.3)),
        ):
            pytest.fail("two hold the lock")
        assert error.value.exit_code == 1
        assert "End that process and run the same command again" in str(error.value)
    assert len(warnings) == 1
    assert warnings[0].startswith(f"waiting for {path}, locked by process {holder.pid}")
    # The kernel releases the lock of a dead holder.
    holder.wait()
    with file_lock(path, LockWait(limit_s=10.0)):
        pass


def test_a_lock_that_comes_free_is_taken(tmp_path: Path) -> None:
    path, warnings = tmp_path / ".guard", list[str]()
    with locked_elsewhere(path) as holder:
        wait = LockWait(lambda text: (warnings.append(text), holder.kill()), warn_after_s=0.05)
        with file_lock(path, wait):
            assert len(warnings) == 1


def test_a_file_system_without_locks_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, os.strerror(37))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(StoreError, match=r"does not support file locks \(No locks available\).*--storage") as error,
        file_lock(tmp_path / ".guard"),
    ):
        pytest.fail("nothing was locked")
    assert error.value.exit_code == 2


def test_something_other_than_a_regular_file_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".guard")
    started = time.monotonic()
    with pytest.raises(StoreError, match="not a regular file"), file_lock(tmp_path / ".guard"):
        pytest.fail("a FIFO was locked")
    assert time.monotonic() - started < LockWait().limit_s
