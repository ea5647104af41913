"""A storage is tested before any work: if it cannot hold a run, one message has path, reason and remedy."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simtune.errors import DiskFullError, RunError, SimtuneError, StoreError
from simtune.storage.preflight import check_storage


def test_an_ordinary_folder_passes_and_nothing_stays(tmp_path: Path) -> None:
    check_storage(tmp_path / "new" / "runs")
    assert list((tmp_path / "new" / "runs").iterdir()) == []


@pytest.mark.parametrize("name", ["EPERM", "EOPNOTSUPP", "ENOSYS", "EMLINK"])
def test_a_storage_without_hard_links_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(os, "link", refusing(getattr(errno, name)))
    check_storage(tmp_path)
    assert list(tmp_path.iterdir()) == []


def refusing(number: int) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def ignoring(*_: object, **__: object) -> None:
    """Reports success and does nothing."""


def not_exclusive(path: Any, flags: int, *arguments: Any, real: Any = os.open, **keywords: Any) -> int:
    return int(real(path, flags & ~os.O_EXCL, *arguments, **keywords))


@pytest.mark.parametrize(
    ("where", "what", "replacement", "kind", "message"),
    [
        (os, "fsync", refusing(errno.EIO), RunError, r"cannot be written \(Input/output error\); give --storage"),
        (os, "fsync", refusing(errno.EDQUOT), DiskFullError, "no space left .* a quota is used up"),
        (os, "open", not_exclusive, RunError, "create a file only if it does not exist .*reported success"),
        (Path, "rename", refusing(errno.EXDEV), RunError, r"rename a folder \(Invalid cross-device link\)"),
        (
            fcntl,
            "flock",
            refusing(errno.ENOLCK),
            StoreError,
            r"does not support file locks \(No locks available\).*--storage",
        ),
        (
            fcntl,
            "flock",
            refusing(errno.ENOSYS),
            StoreError,
            r"does not support file locks \(Function not implemented\)",
        ),
        (fcntl, "flock", ignoring, RunError, "cannot lock files .*it reported success"),
        (shutil, "rmtree", ignoring, RunError, "cannot remove files .*it reported success"),
    ],
)
def test_what_a_file_system_lacks_is_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    what: str,
    replacement: Callable[..., Any],
    kind: type[SimtuneError],
    message: str,
) -> None:
    monkeypatch.setattr(where, what, replacement)
    with pytest.raises(kind, match=message) as error:
        check_storage(tmp_path)
    assert str(error.value).startswith(str(tmp_path))
    assert error.value.exit_code == (1 if kind is DiskFullError else 2)
    monkeypatch.undo()
    if what != "rmtree":
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["/proc/none/runs", "/dev/null", "/sys/runs"])
def test_a_place_that_takes_no_files_is_not_reported_as_full(name: str) -> None:
    with pytest.raises(RunError, match="cannot be written") as error:
        check_storage(Path(name))
    assert "room" not in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.fault
def test_a_full_and_a_read_only_disk_have_different_messages(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free))
    with pytest.raises(DiskFullError, match=r"no space left \(0 MiB free"):
        check_storage(small_disk / "runs")
    filler.unlink()
    # File systems that are mounted inside a storage are tested too.
    mount = shutil.which("mount")
    assert mount is not None
    subprocess.run([mount, "-o", "remount,ro", str(small_disk)], check=True)
    for storage in (small_disk / "runs", small_disk, small_disk.parent):
        with pytest.raises(RunError, match=r"disk.* cannot be written \(Read-only file system\)"):
            check_storage(storage)
