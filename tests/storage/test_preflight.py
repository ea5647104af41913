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
from simtune.storage.files import as_path
from simtune.storage.preflight import check_from_host, check_storage, driver_probes, hosts_seen


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
        (
            os,
            "fsync",
            refusing(errno.EIO),
            RunError,
            r"cannot write a file .*\(fsync\) \(Input/output error\)\. .* --storage",
        ),
        (
            os,
            "fsync",
            refusing(errno.EINVAL),
            RunError,
            r"cannot write a file .*\(fsync\) \(Invalid argument\)\. .* --storage",
        ),
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


def test_a_host_that_sees_the_drivers_storage_passes_and_nothing_stays(tmp_path: Path) -> None:
    with driver_probes(tmp_path) as probes:
        check_from_host(probes, "h1")
        check_from_host(probes, "h2")
        assert hosts_seen(probes) == {"h1", "h2"}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_same_name_on_another_host_is_not_the_drivers(tmp_path: Path) -> None:
    with driver_probes(tmp_path / "head") as probes:
        (tmp_path / "worker").mkdir()
        elsewhere = [tmp_path / "worker" / probe.name for probe in probes]
        for _ in range(2):
            with pytest.raises(RunError, match=r"/worker: the driver's files are not there.*Mount one shared folder"):
                check_from_host(elsewhere, "h1")
            # Another driver's files, as an old copy of the folder may have.
            elsewhere[0].mkdir(exist_ok=True)
            (elsewhere[0] / "driver").write_bytes(b"another")
        assert hosts_seen(probes) == set()


def test_locks_that_hosts_do_not_share_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with driver_probes(tmp_path) as probes:
        # As on NFS with `nolock`: a lock holds among the processes of one host.
        (tmp_path / "own").touch()
        real = os.open

        def locks_of_this_host(path: Any, *arguments: Any, **keywords: Any) -> int:
            own = Path(path) == Path(str(probes[0])) / "lock"
            return real(tmp_path / "own" if own else path, *arguments, **keywords)

        monkeypatch.setattr(os, "open", locks_of_this_host)
        with pytest.raises(RunError, match=r"locks of the driver have no effect on this host.*`nolock`"):
            check_from_host(probes, "h1")
        monkeypatch.undo()


def test_a_host_that_may_only_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with driver_probes(tmp_path) as probes:
        monkeypatch.setattr(os, "mkdir", refusing(errno.EROFS))
        with pytest.raises(RunError, match=r"cannot be written \(Read-only file system\)"):
            check_from_host(probes, "h1")
        monkeypatch.undo()
        assert hosts_seen(probes) == set()


def test_hosts_are_tried_on_an_object_store_with_conditions(
    s3_storage: str, s3_folder: tuple[Path, dict[str, str]]
) -> None:
    with driver_probes(as_path(s3_storage)) as probes:
        check_from_host(probes, "h1")
        assert hosts_seen(probes) == {"h1"}
        (s3_folder[0] / "careless").touch()
        try:
            with pytest.raises(StoreError, match="ignores the conditions of writes"):
                check_from_host(probes, "h2")
        finally:
            (s3_folder[0] / "careless").unlink()
        other = [as_path(str(probe).replace("/runs/", "/others/")) for probe in probes]
        with pytest.raises(RunError, match=r"the driver's files are not there.*AWS_ENDPOINT_URL"):
            check_from_host(other, "h1")
    assert list(as_path(s3_storage).glob("**/*")) == []
