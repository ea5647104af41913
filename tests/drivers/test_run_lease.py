"""Which driver may drive a run, and what happens to a stopped one: in this process, with clocks that a test sets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from simtune.drivers.holder import Holder, is_held_by, lease_file, read_holder
from simtune.drivers.run_lease import Lease, acquire_lease
from simtune.errors import RunError, SimtuneError, StoreError
from simtune.storage.checksummed import checksummed_json
from simtune.storage.files import json_text
from simtune.storage.records import record_bytes
from simtune.storage.versioned_file import LocalVersionedFile


@pytest.fixture
def file(tmp_path: Path) -> LocalVersionedFile:
    return lease_file(tmp_path / "run")


def of_this_machine(process: int) -> Holder:
    """A holder that started one second after this machine."""
    return Holder(token="x", host=socket.gethostname(), process=process, process_started_s=1.0)  # noqa: S106 no secret


class Clock:
    """A monotonic clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


def elsewhere(**changes: object) -> Holder:
    """A holder on another machine, of which nothing is known but its beat."""
    fields = {"token": "other", "host": "another-host", "process": 4711, "process_started_s": 1.0}
    return Holder.model_validate(fields | changes)


def taken(file: LocalVersionedFile, clock: Clock, warnings: list[str] | None = None) -> Lease:
    shown = warnings if warnings is not None else []
    return acquire_lease(file, "runs/a", shown.append, beat_s=1000, stale_after_s=60, clock=clock, sleep=clock.sleep)


def test_only_a_writer_that_knows_the_latest_version_changes_a_file(file: LocalVersionedFile) -> None:
    assert file.read() is None
    first = file.swap(b"1", None)
    assert first is not None
    assert file.swap(b"2", None) is None
    second = file.swap(b"2", first)
    assert second is not None
    assert file.swap(b"3", first) is None
    assert file.read() == (b"2", second)


def test_a_living_holder_is_named_and_a_released_lease_is_free(file: LocalVersionedFile) -> None:
    lease = taken(file, Clock())
    with pytest.raises(RunError, match=rf"runs/a: held by {socket.gethostname()}, process {os.getpid()}\. Wait for it"):
        taken(file, Clock())
    lease.check()
    lease.release()
    again = taken(file, Clock())
    assert again.token != lease.token
    again.release()


def test_a_dead_holder_on_this_machine_is_known_immediately(file: LocalVersionedFile) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    file.swap(record_bytes(of_this_machine(ended.pid)), None)
    clock = Clock()
    taken(file, clock).release()
    # A process id that is reused belongs to another process.
    found = file.read()
    assert found is not None
    file.swap(record_bytes(of_this_machine(os.getpid())), found[1])
    taken(file, clock).release()
    assert clock.slept == 0


def test_a_silent_holder_elsewhere_is_taken_over_after_its_time_and_a_beating_one_never(
    file: LocalVersionedFile,
) -> None:
    version = file.swap(record_bytes(elsewhere()), None)
    clock, warnings = Clock(), list[str]()
    taken(file, clock, warnings).release()
    assert clock.slept == pytest.approx(60, abs=1)
    assert warnings == [
        "runs/a: held by another-host, process 4711, which may have ended; this driver takes over if the "
        "lease is not renewed for 60 s"
    ]

    found = file.read()
    assert found is not None
    version = file.swap(record_bytes(elsewhere()), found[1])
    beats = iter(range(1, 1000))

    def sleep(seconds: float) -> None:
        nonlocal version
        clock.sleep(seconds)
        if int(clock.now) % 7 == 0:
            version = file.swap(record_bytes(elsewhere(beat=next(beats))), version)

    with pytest.raises(RunError, match="held by another-host, process 4711"):
        acquire_lease(file, "runs/a", clock=clock, sleep=sleep)


def test_the_wall_clock_has_no_effect(file: LocalVersionedFile, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = taken(file, Clock())
    for moved in (-3600.0, 3600.0):
        monkeypatch.setattr(time, "time", lambda moved=moved: 1.7e9 + moved)
        # psutil derives the start of a process from the wall clock.
        monkeypatch.setattr(psutil.Process, "create_time", lambda self, moved=moved: 1.7e9 + moved)
        lease.check()
        with pytest.raises(RunError, match="held by"):
            taken(file, Clock())
    lease.release()


def test_a_driver_that_lost_its_lease_learns_who_took_over(file: LocalVersionedFile) -> None:
    lease = acquire_lease(file, "runs/a", beat_s=0.05)
    found = None
    for _ in range(100):
        found = file.read()
        assert found is not None
        if file.swap(record_bytes(elsewhere()), found[1]):
            break
    assert not is_held_by(file, lease.token)
    with pytest.raises(RunError, match="taken over by another-host, process 4711"):
        lease.check()
    lease.release()
    assert read_holder(file)[0] == elsewhere()


@dataclass(frozen=True)
class Troubled:
    """A file whose first swaps fail, before or after the write."""

    file: LocalVersionedFile
    trouble: list[BaseException]
    written: bool = False

    @property
    def path(self) -> Path:
        return self.file.path

    def read(self) -> tuple[bytes, str] | None:
        return self.file.read()

    def swap(self, data: bytes, version: str | None, wait: object = None) -> str | None:
        if not self.trouble:
            return self.file.swap(data, version)
        if self.written:
            self.file.swap(data, version)
        raise self.trouble.pop()


def renewed(file: LocalVersionedFile, trouble: list[BaseException], written: bool = False) -> Lease:
    """A held lease whose renewals fail."""
    version = file.swap(record_bytes(elsewhere()), None)
    assert version is not None
    return Lease(Troubled(file, trouble, written), elsewhere(), version, beat_s=0.01)


def beat_of(file: LocalVersionedFile) -> int:
    return read_holder(file)[0].beat


@pytest.mark.parametrize("written", [False, True])
def test_no_error_ends_the_renewal_of_a_lease_and_a_lost_answer_loses_no_lease(
    file: LocalVersionedFile, written: bool
) -> None:
    errors = [StoreError("away"), AttributeError("'NoneType' object has no attribute 'get'"), MemoryError(), OSError(5)]
    lease = renewed(file, list(errors), written)
    while beat_of(file) < len(errors) + 3:
        lease.check()
    lease.check()
    lease.release()
    assert read_holder(file)[0].has_ended()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lease_that_nothing_renews_any_more_is_refused(file: LocalVersionedFile) -> None:
    trouble: list[BaseException] = [GeneratorExit("interpreter")]
    lease = renewed(file, trouble)
    lease._thread.join()
    with pytest.raises(SimtuneError, match=r"no longer renewed.*GeneratorExit.*run the same command again"):
        lease.check()
    lease.release()


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_a_lease_that_is_no_file_is_one_message_and_never_waited_for(file: LocalVersionedFile, kind: str) -> None:
    file.path.parent.mkdir(parents=True)
    os.mkfifo(file.path) if kind == "fifo" else file.path.mkdir()
    with pytest.raises(
        StoreError, match=r"\.lease: (not a regular file|cannot be read).*Make it a regular file"
    ) as error:
        taken(file, Clock())
    assert error.value.exit_code == 2


@pytest.mark.fault
def test_of_many_drivers_one_gets_the_run(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from simtune.drivers.run_lease import *\n"
        "try: lease = acquire_lease(lease_file(Path(sys.argv[1])), 'run')\n"
        "except Exception as error: print('refused', error); sys.exit()\n"
        "print('holds', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    drivers = [subprocess.Popen(command, **pipes) for _ in range(6)]
    said = [driver.stdout.readline() for driver in drivers]
    for driver in drivers:
        driver.communicate("\n")
    assert sorted(text.split()[0] for text in said) == ["holds", *["refused"] * 5], said


@pytest.mark.fault
def test_a_stopped_driver_is_taken_over_and_knows_it_when_it_wakes(file: LocalVersionedFile) -> None:
    code = (
        "import sys; from pathlib import Path; from simtune.drivers.run_lease import *\n"
        "lease = acquire_lease(lease_file(Path(sys.argv[1])), 'run', beat_s=0.1); print('holds', flush=True)\n"
        "input()\n"
        "try: lease.check()\n"
        "except Exception as error: print('lost', error)"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    driver = subprocess.Popen([sys.executable, "-c", code, str(file.path.parent)], **pipes)  # type: ignore[call-overload]
    assert driver.stdout.readline() == "holds\n"
    driver.send_signal(signal.SIGSTOP)
    while psutil.Process(driver.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    lease = acquire_lease(file, "run", stale_after_s=1.0)
    driver.send_signal(signal.SIGCONT)
    out, _ = driver.communicate("\n")
    assert out.startswith("lost this driver did not renew its lease")
    assert f"process {os.getpid()}" in out
    lease.check()
    lease.release()


@pytest.mark.parametrize(
    "change",
    [
        *({"process": -1}, {"process": 0}, {"process": 2**80}, {"process": "1e3"}, {"host": None}, {"token": [1]}),
        *({"version": 2}, {"more": 1}),
    ],
)
def test_a_damaged_lease_belongs_to_nobody(file: LocalVersionedFile, change: dict[str, object]) -> None:
    file.path.parent.mkdir()
    fields = Holder.from_this_process().model_dump()
    file.path.write_bytes(checksummed_json(json_text(fields)))
    with pytest.raises(RunError, match="held by"):
        taken(file, Clock())
    file.path.write_bytes(checksummed_json(json_text(fields | change)))
    taken(file, Clock()).release()
