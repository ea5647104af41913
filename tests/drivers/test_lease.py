"""Who may drive a run, and what becomes of one who stood still: in this process, with clocks that a test turns."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil
import pytest

from simtune.drivers.claims import claim_cell, drop_claim, read_claim, take_claim, wait_for_others
from simtune.drivers.lease import Holder, Lease, LeaseToken, acquire, held, lease_of
from simtune.errors import RunError, SimtuneError, StoreError
from simtune.progress import Quiet
from simtune.storage.versioned_file import FileCell
from simtune.trial.files import is_done


@pytest.fixture
def cell(tmp_path: Path) -> FileCell:
    return lease_of(tmp_path / "run")


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
    return replace(Holder("other", "another-host", 4711, 1.0), **changes)


def taken(cell: FileCell, clock: Clock, warnings: list[str] | None = None) -> Lease:
    told = warnings if warnings is not None else []
    return acquire(cell, "runs/a", told.append, beat_s=1000, stale_after_s=60, clock=clock, sleep=clock.sleep)


def test_only_who_knows_the_latest_version_changes_a_cell(cell: FileCell) -> None:
    assert cell.read() is None
    first = cell.swap(b"1", None)
    assert first is not None
    assert cell.swap(b"2", None) is None
    second = cell.swap(b"2", first)
    assert second is not None
    assert cell.swap(b"3", first) is None
    assert cell.read() == (b"2", second)


def test_a_living_holder_is_named_and_a_released_lease_is_free(cell: FileCell) -> None:
    lease = taken(cell, Clock())
    with pytest.raises(RunError, match=rf"runs/a: held by {socket.gethostname()}, process {os.getpid()}\. Wait for it"):
        taken(cell, Clock())
    lease.check()
    lease.release()
    again = taken(cell, Clock())
    assert again.token != lease.token
    again.release()


def test_a_dead_holder_of_this_machine_is_known_at_once(cell: FileCell) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    cell.swap(Holder("x", socket.gethostname(), ended.pid, 1.0).encoded(), None)
    clock = Clock()
    taken(cell, clock).release()
    # A process number that is used again is another process.
    found = cell.read()
    assert found is not None
    cell.swap(Holder("x", socket.gethostname(), os.getpid(), 1.0).encoded(), found[1])
    taken(cell, clock).release()
    assert clock.slept == 0


def test_a_silent_holder_elsewhere_is_taken_over_after_its_time_and_a_beating_one_never(cell: FileCell) -> None:
    version = cell.swap(elsewhere().encoded(), None)
    clock, warnings = Clock(), list[str]()
    taken(cell, clock, warnings).release()
    assert clock.slept == pytest.approx(60, abs=1)
    assert warnings == [
        "runs/a: held by another-host, process 4711, which may be gone; taken over if it stands still for 60 s"
    ]

    found = cell.read()
    assert found is not None
    version = cell.swap(elsewhere().encoded(), found[1])
    beats = iter(range(1, 1000))

    def sleep(seconds: float) -> None:
        nonlocal version
        clock.sleep(seconds)
        if int(clock.now) % 7 == 0:
            version = cell.swap(elsewhere(beat=next(beats)).encoded(), version)

    with pytest.raises(RunError, match="held by another-host, process 4711"):
        acquire(cell, "runs/a", clock=clock, sleep=sleep)


def test_a_clock_on_the_wall_decides_nothing(cell: FileCell, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = taken(cell, Clock())
    for moved in (-3600.0, 3600.0):
        monkeypatch.setattr(time, "time", lambda moved=moved: 1.7e9 + moved)
        # What Linux tells of the machine's start is counted back from the clock on the wall.
        monkeypatch.setattr(psutil.Process, "create_time", lambda self, moved=moved: 1.7e9 + moved)
        lease.check()
        with pytest.raises(RunError, match="held by"):
            taken(cell, Clock())
    lease.release()


def test_who_lost_its_lease_is_told_by_whom(cell: FileCell) -> None:
    lease = acquire(cell, "runs/a", beat_s=0.05)
    found = None
    for _ in range(100):
        found = cell.read()
        assert found is not None
        if cell.swap(elsewhere().encoded(), found[1]):
            break
    assert not held(cell, lease.token)
    with pytest.raises(RunError, match="taken over by another-host, process 4711"):
        lease.check()
    lease.release()
    found = cell.read()
    assert found is not None
    assert json.loads(found[0]) == asdict(elsewhere())


@dataclass(frozen=True)
class Troubled:
    """A cell whose first swaps run into something, before or after the write."""

    cell: FileCell
    trouble: list[BaseException]
    written: bool = False

    @property
    def path(self) -> Path:
        return self.cell.path

    def read(self) -> tuple[bytes, str] | None:
        return self.cell.read()

    def swap(self, data: bytes, version: str | None, patience: object = None) -> str | None:
        if not self.trouble:
            return self.cell.swap(data, version)
        if self.written:
            self.cell.swap(data, version)
        raise self.trouble.pop()


def renewed(cell: FileCell, trouble: list[BaseException], written: bool = False) -> Lease:
    """A held lease whose renewals run into trouble."""
    version = cell.swap(elsewhere().encoded(), None)
    assert version is not None
    return Lease(Troubled(cell, trouble, written), elsewhere(), version, beat_s=0.01)


def beat_of(cell: FileCell) -> int:
    found = cell.read()
    assert found is not None
    return Holder.parse(found[0]).beat


@pytest.mark.parametrize("written", [False, True])
def test_no_error_ends_the_renewal_of_a_lease_and_a_lost_answer_loses_no_lease(cell: FileCell, written: bool) -> None:
    errors = [StoreError("away"), AttributeError("'NoneType' object has no attribute 'get'"), MemoryError(), OSError(5)]
    lease = renewed(cell, list(errors), written)
    while beat_of(cell) < len(errors) + 3:
        lease.check()
    lease.check()
    lease.release()
    found = cell.read()
    assert found is not None
    assert Holder.parse(found[0]).gone()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lease_that_nothing_renews_any_more_is_refused(cell: FileCell) -> None:
    trouble: list[BaseException] = [GeneratorExit("interpreter")]
    lease = renewed(cell, trouble)
    lease._thread.join()
    with pytest.raises(SimtuneError, match=r"no longer renewed.*GeneratorExit.*run the same command again"):
        lease.check()
    lease.release()


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_a_lease_that_is_no_file_is_one_message_and_never_waited_for(cell: FileCell, kind: str) -> None:
    cell.path.parent.mkdir(parents=True)
    os.mkfifo(cell.path) if kind == "fifo" else cell.path.mkdir()
    with pytest.raises(
        StoreError, match=r"\.lease: (not a regular file|cannot be read).*Make it an ordinary file"
    ) as error:
        taken(cell, Clock())
    assert error.value.exit_code == 2


@pytest.mark.fault
def test_of_many_drivers_one_gets_the_run(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from simtune.drivers.lease import *\n"
        "try: lease = acquire(lease_of(Path(sys.argv[1])), 'run')\n"
        "except Exception as error: print('refused', error); sys.exit()\n"
        "print('holds', flush=True); time.sleep(3)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    drivers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    said = [driver.communicate()[0] for driver in drivers]
    assert sorted(text.split()[0] for text in said) == ["holds", *["refused"] * 5], said


@pytest.mark.fault
def test_a_stopped_driver_is_taken_over_and_knows_it_when_it_wakes(cell: FileCell) -> None:
    code = (
        "import sys; from pathlib import Path; from simtune.drivers.lease import *\n"
        "lease = acquire(lease_of(Path(sys.argv[1])), 'run', beat_s=0.1); print('holds', flush=True)\n"
        "input()\n"
        "try: lease.check()\n"
        "except Exception as error: print('lost', error)"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    driver = subprocess.Popen([sys.executable, "-c", code, str(cell.path.parent)], **pipes)  # type: ignore[call-overload]
    assert driver.stdout.readline() == "holds\n"
    driver.send_signal(signal.SIGSTOP)
    while psutil.Process(driver.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    lease = acquire(cell, "run", stale_after_s=1.0)
    driver.send_signal(signal.SIGCONT)
    out, _ = driver.communicate("\n")
    assert out.startswith("lost this driver stood still")
    assert f"process {os.getpid()}" in out
    lease.check()
    lease.release()


def test_a_claim_holds_as_long_as_its_driver(tmp_path: Path) -> None:
    trial = tmp_path / "trials" / "0123"
    one, two = (acquire(lease_of(tmp_path / name), name) for name in ("one", "two"))
    first, second = (LeaseToken(lease_of(tmp_path / name), lease.token) for name, lease in (("one", one), ("two", two)))
    assert take_claim(trial, first)
    assert take_claim(trial, first)
    assert not take_claim(trial, second)
    assert take_claim(trial, second, gone=frozenset({one.token}))
    assert not take_claim(trial, first)
    two.release()
    assert take_claim(trial, first)
    claim = read_claim(claim_cell(trial))
    assert claim is not None
    assert claim.token == one.token
    drop_claim(trial)
    assert read_claim(claim_cell(trial)) is None
    one.release()


def test_a_claim_holds_where_another_machine_has_the_storage_under_another_path(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "runs").mkdir(parents=True)
    one = acquire(lease_of(here / "runs" / "one"), "one")
    assert take_claim(here / "runs" / "trials" / "0123", LeaseToken(lease_of(here / "runs" / "one"), one.token))
    one._stop.set()
    here.rename(there)
    claim = read_claim(claim_cell(there / "runs" / "trials" / "0123"))
    assert claim is not None
    assert claim.alive()
    other = LeaseToken(lease_of(there / "runs" / "two"), "two")
    assert not take_claim(there / "runs" / "trials" / "0123", other)


@pytest.mark.parametrize(
    "content",
    [
        *(b"[" * 100_000, b"[]", b"5", b"\xff", b'{"run": "one"}', b'{"run": 5, "token": "a"}'),
        *(b'{"run": "one", "token": ["a"]}', b'{"run": "x\\u0000y", "token": "a"}'),
        *(b'{"run": "\\ud800", "token": "a"}', b'{"run": "..", "token": "a"}', b'{"run": "/dev", "token": "a"}'),
        b'{"run": "s3://bucket/run", "token": "a"}',
    ],
)
def test_a_damaged_claim_is_nobodys(tmp_path: Path, content: bytes) -> None:
    trial = tmp_path / "trials" / "0123"
    trial.mkdir(parents=True)
    (trial / ".claim").write_bytes(content)
    assert read_claim(claim_cell(trial)) is None
    assert take_claim(trial, LeaseToken(lease_of(tmp_path / "run"), "me"))


@pytest.mark.parametrize(
    "change", [{"process": -1}, {"process": 0}, {"process": 2**80}, {"process": "1e3"}, {"host": None}, {"token": [1]}]
)
def test_a_damaged_lease_is_nobodys(cell: FileCell, change: dict[str, object]) -> None:
    cell.path.parent.mkdir()
    cell.path.write_text(json.dumps({**asdict(Holder.this_process()), **change}))
    acquire(cell, "run").release()


def test_waiting_ends_with_a_result_with_a_failure_or_with_the_end_of_the_driver(tmp_path: Path) -> None:
    trials = [tmp_path / "trials" / name for name in ("finished", "dropped", "mine", "orphaned")]
    other = acquire(lease_of(tmp_path / "other"), "other")
    lease = LeaseToken(lease_of(tmp_path / "other"), other.token)
    mine = LeaseToken(lease_of(tmp_path / "mine"), "me")
    for trial in trials:
        assert take_claim(trial, mine if trial.name == "mine" else lease)
    steps = iter(
        [
            lambda: (trials[0] / "metrics.json").touch(),
            lambda: drop_claim(trials[1]),
            other.release,
        ]
    )
    left, gone = wait_for_others(trials, "me", frozenset(), is_done, Quiet(), sleep=lambda _: next(steps)())
    assert [path.name for path in left] == ["orphaned"]
    assert gone == {lease.token}
