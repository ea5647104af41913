"""The process on the head that supervises submissions, and starts Ray again if it has ended there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from simtune.cluster.launcher import ray_command
from simtune.cluster.ray_health import ports_of, what_has_ended
from simtune.cluster.ray_jobs import RayJobs
from simtune.cluster.submission import RECORDS, SUPERVISOR_LOCK, state_folder
from simtune.cluster.supervisor import record_files, supervise
from simtune.errors import SimtuneError
from simtune.ray_token import read_token
from simtune.storage.records import Record, read_record_if_present, write_record
from simtune.terminal import say

POLL_S = 5.0
GONE_AFTER_S = 60.0
"""How long a part of Ray may be missing: a restart by hand takes less."""
_LONGEST_S = 3600.0
_END_WITHIN_S = 10.0
_COMMAND = "supervisor.json"


class _Command(Record):
    """What a supervisor was started with: the job server's port, Ray's start command, and settings of Ray."""

    version: Literal[1] = 1
    port: int
    ray_start: tuple[str, ...]
    environment: dict[str, str]


def run_supervisor(port: int, ray_start: Sequence[str], gone_after_s: float = GONE_AFTER_S) -> None:
    """Supervises submissions until this process is ended; a supervisor that runs already is replaced.

    Args:
        port: of Ray's job server on this machine.
        ray_start: the command that starts Ray here; it is run again if Ray has ended while a submission is unfinished.
        gone_after_s: seconds after which a part of Ray that is missing counts as ended.
    """
    folder = state_folder() / Path(RECORDS).name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _only_one(folder.parent / SUPERVISOR_LOCK):
        watch = _RayWatch(ray_start, gone_after_s) if ray_start else None
        said = ""
        while True:
            try:
                if watch is not None:
                    watch.look(bool(record_files(folder)))
                # The token may be another one after a restart.
                supervise(folder, RayJobs("this head", lambda: port, read_token()), _log)
                said = ""
            except Exception as error:
                # Sweeps continue only as long as this process lives.
                text = str(error) if isinstance(error, SimtuneError) else repr(error)
                if text != said:
                    _log(text)
                said = text
            time.sleep(POLL_S)


class _RayWatch:
    """Starts Ray again once a part of it has been missing for some time."""

    def __init__(self, ray_start: Sequence[str], gone_after_s: float) -> None:
        self._ray_start, self._ports = ray_start, ports_of(ray_start)
        self._limit_s = self._shortest_s = gone_after_s
        self._lived_at = time.monotonic()

    def look(self, is_needed: bool) -> None:
        """Looks once; without a sweep that needs Ray, nobody misses it."""
        ended = what_has_ended(self._ports) if is_needed else ""
        if not ended:
            self._lived_at = time.monotonic()
            self._limit_s = self._shortest_s if is_needed else self._limit_s
        elif time.monotonic() - self._lived_at >= self._limit_s:
            _log(f"{ended} has not answered for {self._limit_s:g} s; restarting Ray")
            _start_ray_again(self._ray_start)
            self._lived_at = time.monotonic()
            # Where this does not help, it is not to go on for ever.
            self._limit_s = min(2 * self._limit_s, _LONGEST_S)


def start_supervisor(port: int, ray_start: Sequence[str]) -> Path:
    """Starts a supervisor that outlives this process; returns the file that it logs to."""
    folder = state_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = {name: value for name, value in os.environ.items() if name.startswith("RAY_")} | {"PYTHONSAFEPATH": "1"}
    # A secret is in no file but its own.
    settings.pop("RAY_AUTH_TOKEN", None)
    write_record(folder / _COMMAND, _Command(port=port, ray_start=tuple(ray_start), environment=settings))
    return _start(_Command(port=port, ray_start=tuple(ray_start), environment=dict(os.environ)), folder)


def start_supervisor_again() -> Path | None:
    """Starts the supervisor of this head once more, with the code that is here; None if there never was one."""
    folder = state_folder()
    command = read_record_if_present(folder / _COMMAND, _Command)
    if command is None:
        return None
    # What the start commands in the cluster's file unset.
    mine = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return _start(command.model_copy(update={"environment": mine | command.environment}), folder)


def _start(command: _Command, folder: Path) -> Path:
    log = folder / "supervisor.log"
    words = [sys.executable, "-m", "simtune.cli", "cluster", "supervise", "--port", str(command.port), "--"]
    with log.open("ab") as output:
        subprocess.Popen(  # noqa: S603
            [*words, *command.ray_start],
            env=command.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    return log


def _start_ray_again(ray_start: Sequence[str]) -> None:
    # What is left of it would keep its ports.
    for command in (ray_command("stop", "--force"), ray_start):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)  # noqa: S603
        if done.returncode:
            _log(f"`{shlex.join(command)}` failed with exit code {done.returncode}")


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Holds a lock whose file names this process; whoever holds it is asked to end, since its code may be older."""
    with path.open("a+") as file:
        until = time.monotonic() + _END_WITHIN_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip()
                if holder.isdecimal() and int(holder) != os.getpid():
                    with contextlib.suppress(OSError):
                        os.kill(int(holder), signal.SIGTERM if time.monotonic() < until else signal.SIGKILL)
                time.sleep(0.2)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _log(text: str) -> None:
    # A full disk is not a reason to end.
    with contextlib.suppress(OSError):
        say(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", err=True)
