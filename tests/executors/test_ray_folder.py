"""The private folder of a local Ray: where it is created, who can open it, and which ones are removed."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from simtune.errors import RunError
from simtune.executors import ray_folder
from simtune.executors.ray_folder import LOCAL_RAY, RayFolder, cluster_folder, last_error


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short enough."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as place:
        yield Path(place)


@pytest.fixture
def home_of_folders(short: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    return short


def test_the_first_suitable_folder_is_used(short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    too_long = tmp_path / ("long" * 30)
    too_long.mkdir()
    for unfit in (str(too_long), str(tmp_path / "absent"), "/proc", "/dev/null/file", ""):
        monkeypatch.setenv("RAY_TMPDIR", unfit)
        monkeypatch.setenv("TMPDIR", str(short))
        folder = RayFolder()
        assert folder.path.parent == short, unfit
        folder.remove()
    monkeypatch.setenv("TMPDIR", "/proc")
    folder = RayFolder()
    assert folder.path.parent not in (short, Path("/proc"))
    folder.remove()
    assert not folder.path.exists()
    assert list(too_long.iterdir()) == []


def test_a_folder_without_locks_is_skipped(
    home_of_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def none_at_home(descriptor: int, operation: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(home_of_folders):
            raise OSError(errno.ENOSYS, "Function not implemented")
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", none_at_home)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    folder = RayFolder()
    assert folder.path.parent != home_of_folders
    folder.remove()
    assert list(home_of_folders.iterdir()) == []


def test_nobody_else_can_open_it_whatever_the_umask(home_of_folders: Path) -> None:
    before = os.umask(0)
    try:
        folder = RayFolder()
        token = folder.new_token()
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder.path, folder.temporary, token)] == [
        0o700,
        0o700,
        0o600,
    ]
    assert len(token.read_text()) == 64
    folder.remove()


def test_a_clusters_folder_is_the_same_each_time_and_never_one_that_others_can_open(home_of_folders: Path) -> None:
    before = os.umask(0)
    try:
        private = cluster_folder()
    finally:
        os.umask(before)
    assert private.parent == home_of_folders
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert cluster_folder() == private
    private.chmod(0o770)
    assert cluster_folder() != private
    private.rmdir()
    theirs = home_of_folders / "theirs"
    theirs.mkdir(mode=0o700)
    private.symlink_to(theirs)
    assert cluster_folder() != private


def test_no_folder_for_ray_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    too_long = tmp_path / ("long" * 30)
    too_long.mkdir()
    monkeypatch.setattr(ray_folder, "_locations", lambda: [too_long, tmp_path / "absent"])
    with pytest.raises(RunError) as refusal:
        RayFolder()
    with pytest.raises(RunError, match=r"Set RAY_TMPDIR.*where `ray start` runs"):
        cluster_folder()
    assert "AF_UNIX path too long" in str(refusal.value)
    assert "absent: No such file or directory" in str(refusal.value)
    assert "Set RAY_TMPDIR" in str(refusal.value)


def test_only_folders_of_dead_drivers_are_removed(home_of_folders: Path) -> None:
    alive = RayFolder()
    script = (
        "import os\n"
        "from simtune.executors.ray_folder import RayFolder\n"
        "print(RayFolder().path, flush=True)\n"
        "os._exit(9)"
    )
    killed = Path(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stdout.strip()
    )
    assert killed.parent == home_of_folders
    assert killed.is_dir()
    (home_of_folders / "simtune-ray-new").mkdir()
    # Made by a process of a Ray whose driver has removed its folder.
    (home_of_folders / "simtune-ray-again/t").mkdir(parents=True)
    os.utime(home_of_folders / "simtune-ray-again", (1, 1))
    (home_of_folders / "other").mkdir()
    last = RayFolder()
    assert {path.name for path in home_of_folders.iterdir()} == {
        alive.path.name,
        last.path.name,
        "simtune-ray-new",
        "other",
    }
    alive.remove()
    last.remove()


def test_processes_that_still_write_into_it_are_ended_first(home_of_folders: Path) -> None:
    folder = RayFolder()
    script = "while :; do mkdir -p $0/logs; touch $0/logs/x; echo; done"
    with subprocess.Popen(["/bin/sh", "-c", script, str(folder.path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        folder.remove()
        writer.wait(30)
    assert list(home_of_folders.iterdir()) == []


def test_a_process_of_its_ray_is_ended_whoever_started_it_and_no_other(home_of_folders: Path) -> None:
    folder = RayFolder()
    work = folder.temporary / "work"
    work.mkdir()
    # Its parent ends at once, like a raylet that is killed. Its command names no folder.
    script = "(while :; do mkdir -p $PWD; touch $PWD/x; sleep 0.01; done) > /dev/null 2>&1 & echo $!"
    environment = {**os.environ, LOCAL_RAY: str(folder.path)}
    done = subprocess.run(["/bin/sh", "-c", script], cwd=work, env=environment, stdout=subprocess.PIPE, check=True)
    orphan = psutil.Process(int(done.stdout))
    # Started while this Ray runs, and no part of it.
    with subprocess.Popen(["/bin/sleep", "60"], cwd=folder.path, env=environment) as terminal:
        try:
            until = time.monotonic() + 30
            while not (work / "x").exists() and time.monotonic() < until:
                time.sleep(0.01)
            folder.remove()
            assert list(home_of_folders.iterdir()) == []
            assert terminal.poll() is None
            # Nobody may have waited for it yet.
            assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
        finally:
            terminal.kill()
            with suppress(psutil.NoSuchProcess):
                orphan.kill()


def test_an_agent_that_hides_its_environment_is_ended_too_and_no_reader_of_its_log(home_of_folders: Path) -> None:
    folder = RayFolder()
    log = folder.temporary / "agent.log"
    # As Ray's agents do it, which are orphans once their raylet was killed.
    agent = (
        "import sys, time\n"
        "from ray import _raylet\n"
        "log = open(sys.argv[1], 'w')\n"
        "_raylet.setproctitle('ray::DashboardAgent')\n"
        "log.write('ready')\n"
        "log.flush()\n"
        "time.sleep(600)"
    )
    command = ["/bin/sh", "-c", '"$@" > /dev/null 2>&1 & echo $!', "sh", sys.executable, "-c", agent, str(log)]
    environment = {**os.environ, LOCAL_RAY: str(folder.path)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    orphan = psutil.Process(int(done.stdout))
    until = time.monotonic() + 60
    while not (log.exists() and log.read_text()) and time.monotonic() < until:
        time.sleep(0.02)
    with log.open() as read, subprocess.Popen(["/bin/sleep", "60"], stdin=read) as reader:
        try:
            folder.remove()
            assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
            assert reader.poll() is None
        finally:
            reader.kill()
            with suppress(psutil.NoSuchProcess):
                orphan.kill()


def test_a_driver_that_ends_while_it_removes_its_folder_leaves_no_process_stopped(
    home_of_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(self: psutil.Process) -> None:
        raise KeyboardInterrupt

    folder = RayFolder()
    with subprocess.Popen(["/bin/sh", "-c", "sleep 60; :", str(folder.path)], start_new_session=True) as process:
        monkeypatch.setattr(psutil.Process, "kill", ended)
        try:
            with pytest.raises(KeyboardInterrupt):
                folder.remove()
            assert psutil.Process(process.pid).status() != psutil.STATUS_STOPPED
        finally:
            monkeypatch.undo()
            os.killpg(process.pid, signal.SIGKILL)
    folder.remove()


def test_what_a_killed_driver_leaves_is_ended_and_removed_soon(home_of_folders: Path) -> None:
    script = (
        "import os, signal, subprocess\n"
        "from simtune.executors.ray_folder import LOCAL_RAY, RayFolder\n"
        "folder = RayFolder()\n"
        "folder.start_reaper()\n"
        "environment = {**os.environ, LOCAL_RAY: str(folder.path)}\n"
        "agent = subprocess.Popen(['/bin/sleep', '600'], env=environment, start_new_session=True)\n"
        "print(agent.pid, folder.reaper.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    driver = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=False)
    assert driver.returncode == -signal.SIGKILL
    left = []
    for process in map(int, driver.stdout.split()):
        with suppress(psutil.NoSuchProcess):
            left.append(psutil.Process(process))
    assert psutil.wait_procs(left, timeout=30)[1] == []
    assert list(home_of_folders.iterdir()) == []


def test_the_process_that_waits_for_a_drivers_end_ends_with_the_folder(home_of_folders: Path) -> None:
    folder = RayFolder()
    folder.start_reaper()
    assert folder.reaper is not None
    assert folder.reaper.poll() is None
    folder.remove()
    assert folder.reaper.poll() is not None
    assert list(home_of_folders.iterdir()) == []


def test_an_old_folder_without_a_lock_stays_while_its_ray_lives(home_of_folders: Path) -> None:
    folder = RayFolder()
    (folder.path / "lock").unlink()
    os.utime(folder.path, (1, 1))
    command = ["/bin/sh", "-c", "sleep 60 > /dev/null 2>&1 & echo $!"]
    environment = {**os.environ, LOCAL_RAY: str(folder.path)}
    ray = int(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)
    try:
        RayFolder().remove()
        assert folder.path.exists()
    finally:
        os.kill(ray, signal.SIGKILL)
    RayFolder().remove()
    assert not folder.path.exists()


def test_the_last_error_of_a_log_is_found(tmp_path: Path) -> None:
    assert last_error(tmp_path) == ""
    (tmp_path / "worker-1.err").write_text(
        ":job_id:01\nTraceback\n    x\nImportError: no token=planted-secret here\n\n"
    )
    (tmp_path / "worker-2.err").write_text(":job_id:01\n:task_name:x\n- (pid=7) world_rank=0\n")
    os.utime(tmp_path / "worker-1.err", (1, 1))
    assert last_error(tmp_path) == "ImportError: no token=*** here"
