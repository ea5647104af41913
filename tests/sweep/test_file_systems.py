"""Runs on all kinds of file systems: without hard links, on FAT, locked by another process, under any umask."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from locked_elsewhere import locked_elsewhere

from simtune.corpus.archive.fetch import ArchiveSource, fetch_archive
from simtune.drivers import run_lease
from simtune.embedding.cache import EmbeddingCache, Encoded
from simtune.errors import StoreError
from simtune.export.subset_files import export_subset
from simtune.progress import Quiet
from simtune.storage.locks import LockWait
from sweeps import run

TABLES = ("results.parquet", "scores.parquet", "subsets.parquet", "results.csv", "results.md", "report/results.md")


@pytest.fixture
def small_sweep(tiny_sweep: dict[str, Any]) -> dict[str, Any]:
    tiny_sweep["selection"] = {"strategies": ["random"], "sizes": [2], "seeds": [0]}
    tiny_sweep["training"]["keep"] = "last"
    return tiny_sweep | {"baselines": ["copy-input"], "resources": {"checkpoint_minutes": 0}}


def bytes_of(storage: Path) -> dict[str, bytes]:
    """The results of a run, without measurements and paths."""
    run_files = {name: (storage / "tiny" / name).read_bytes() for name in TABLES}
    kept = {
        str(path.relative_to(storage)): path.read_bytes()
        for pattern in ("trials/*/scores/*/metrics.json", "trials/*/weights/**/*")
        for path in sorted(storage.glob(pattern))
        if path.is_file()
    }
    return run_files | kept


def on(fields: dict[str, Any], storage: Path) -> dict[str, Any]:
    """The sweep in another storage, which has the same embeddings."""
    (storage / "cache").mkdir(parents=True)
    shutil.copytree(Path(fields["storage"]) / "cache" / "embeddings", storage / "cache" / "embeddings")
    return fields | {"storage": str(storage)}


def test_a_run_without_hard_links_has_the_bytes_of_one_with_them_and_ends_once(
    small_sweep: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(small_sweep)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    fields = on(small_sweep, tmp_path / "elsewhere")
    assert run(fields).num_failed == 0
    assert bytes_of(tmp_path / "elsewhere") == bytes_of(Path(small_sweep["storage"]))
    assert run(fields).num_run == 0


@pytest.fixture
def fat_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MiB with a FAT file system: neither hard links nor permissions."""
    image, place = tmp_path / "fat.img", tmp_path / "fat"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(64 * 2**20)

    def done(*command: str) -> str | None:
        program = shutil.which(command[0])
        if program is None:
            return None
        ended = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
        return ended.stdout.strip() if ended.returncode == 0 else None

    device = done("losetup", "-f", "--show", str(image))
    try:
        mounted = device is not None and (
            (done("mkfs.vfat", device) is not None and done("mount", "-t", "vfat", device, str(place)) is not None)
            or (done("mkfs.exfat", device) is not None and done("mount.exfat-fuse", device, str(place)) is not None)
        )
        if not mounted:
            pytest.skip("no FAT disk can be mounted here: that needs an administrator's rights, mkfs and a driver")
        yield place
        assert done("umount", str(place)) is not None
    finally:
        if device is not None:
            done("losetup", "-d", device)


@pytest.mark.fault
def test_a_run_on_fat_has_the_bytes_of_any_other(small_sweep: dict[str, Any], fat_disk: Path) -> None:
    run(small_sweep)
    fields = on(small_sweep, fat_disk / "runs")
    assert run(fields).num_failed == 0
    assert bytes_of(fat_disk / "runs") == bytes_of(Path(small_sweep["storage"]))
    assert run(fields).num_run == 0


@pytest.mark.fault
def test_a_locked_guard_ends_a_run_with_a_message_before_any_work(
    small_sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lease, "LockWait", partial(LockWait, warn_after_s=0.05, limit_s=0.3))
    warnings: list[str] = []
    monkeypatch.setattr(Quiet, "warn", lambda self, text: warnings.append(text))
    guard = Path(small_sweep["storage"]) / ".guard"
    with (
        locked_elsewhere(guard) as holder,
        pytest.raises(StoreError, match=rf"\.guard: locked by process {holder.pid} .*for more than 0\.3 s") as error,
    ):
        run(small_sweep)
    assert error.value.exit_code == 1
    assert [text for text in warnings if f"waiting for {guard}, locked by process {holder.pid}" in text]
    assert not (Path(small_sweep["storage"]) / "tiny" / "sweep.yaml").exists()
    assert run(small_sweep).num_failed == 0


@contextmanager
def served(file: Path) -> Iterator[str]:
    """The address of a file, served inside the `with` block."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(file.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{file.name}"
        server.shutdown()


def otherwise(mask: int, *roots: Path) -> dict[str, str]:
    """The permissions of files below a folder that differ from what the umask gives."""
    found = [path for root in roots for path in (root, *root.rglob("*")) if not path.is_symlink()]
    assert len(found) > 50
    modes = {path: path.stat().st_mode & 0o777 for path in found}
    return {str(path): oct(mode) for path, mode in modes.items() if mode != (0o777 if path.is_dir() else 0o666) & ~mask}


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_what_a_run_an_export_and_a_fetch_leave_follows_the_umask(
    small_sweep: dict[str, Any], tmp_path: Path, mask: int
) -> None:
    storage, exported, fetched = tmp_path / "masked", tmp_path / "exported", tmp_path / "fetched"
    (tmp_path / "corpus" / "tasks").mkdir(parents=True)
    (tmp_path / "corpus" / "tasks" / "task1_a.json").write_text("{}")
    archive = shutil.make_archive(str(tmp_path / "archive"), "gztar", tmp_path, "corpus")
    before = os.umask(mask)
    try:
        (storage / "cache").mkdir(parents=True)
        (storage / "cache" / "embeddings").symlink_to(Path(small_sweep["storage"]) / "cache" / "embeddings")
        EmbeddingCache(storage / "cache" / "more", "a" * 64).add({"key": Encoded(np.ones(4, dtype=np.float32), 1, 128)})
        assert run(small_sweep | {"storage": str(storage)}).num_failed == 0
        export_subset(storage / "tiny", "random", 2, 0, exported, Quiet())
        with served(Path(archive)) as url:
            fetch_archive(ArchiveSource(url), fetched)
    finally:
        os.umask(before)
    assert otherwise(mask, storage, exported, fetched, tmp_path / "fetched.fetch.json") == {}
