"""Signals to a command: in a destructor, several times, in a clean-up that hangs, without a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

pytestmark = pytest.mark.fault

START = """
import os, signal, subprocess, sys, time
from simtune.cli import signals
signals.install()

def ended():
    try:
        {body}
    except SystemExit:
        pass
    print(signals.received().name, flush=True)
    signals.ignore()
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGINT)
    sys.exit(7)
"""


def ends(script: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **more,
    )


@pytest.mark.parametrize(
    ("body", "name"),
    [
        # Python drops what is raised in a destructor; three at once, of which the first is dropped.
        (
            "type('D', (), {'__del__': lambda _: [os.kill(os.getpid(), 2) for _ in range(3)]})(); time.sleep(30)",
            "SIGINT",
        ),
        # A library's own handler, as Ray has one while it starts.
        ("signal.signal(15, lambda *_: sys.exit(15)); os.kill(os.getpid(), 15); time.sleep(30)", "SIGTERM"),
        ("os.kill(os.getpid(), 1); time.sleep(30)", "SIGHUP"),
    ],
)
def test_a_signal_stops_wherever_it_comes_and_none_comes_after_the_end(body: str, name: str) -> None:
    done = ends(START.format(body=body) + "ended()")
    assert (done.stdout.strip(), done.returncode) == (name, 7), done.stderr


def test_a_clean_up_that_hangs_ends_with_all_processes() -> None:
    script = START.format(body="pass") + (
        "signals._LONGEST_CLEAN_UP_S = 0.2\n"
        "child = subprocess.Popen(['sleep', '300'])\n"
        "print(child.pid, flush=True)\n"
        "try:\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "finally:\n    time.sleep(300)\n"
    )
    done = ends(script)
    assert done.returncode == 143, done.stderr
    with contextlib.suppress(psutil.NoSuchProcess):
        child = psutil.Process(int(done.stdout))
        deadline = time.monotonic() + 30
        while child.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_forked_child_handles_its_own_signals() -> None:
    script = START.format(body="pass") + (
        "child = os.fork()\n"
        "if not child:\n    signal.pause()\n"
        "time.sleep(0.2)\nos.kill(child, signal.SIGTERM)\n"
        "print(os.waitpid(child, 0)[1] != 0, signals.received())\n"
    )
    assert ends(script).stdout == "True None\n"


def test_an_ignored_signal_stays_ignored() -> None:
    script = "import signal\nsignal.signal(1, signal.SIG_IGN)\n" + START.format(body="pass")
    done = ends(script + "os.kill(os.getpid(), 1)\nprint('on', signals.received())")
    assert (done.stdout, done.returncode) == ("on None\n", 0), done.stderr


def test_a_run_whose_terminal_is_closed_ends_and_frees_its_run(
    tiny_sweep: dict[str, Any], tmp_path: Path, storage: Path
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_sweep, sort_keys=False))
    ours, terminal = pty.openpty()
    driver = subprocess.Popen(
        [sys.executable, "-m", "simtune.cli", "run", str(path), "--executor", "inline"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    os.set_blocking(ours, False)
    deadline = time.monotonic() + 60
    while not (storage / "tiny/manifest.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
        # A terminal that nobody reads would stop the driver.
        try:
            os.read(ours, 1 << 16)
        except BlockingIOError:
            continue
    os.close(ours)
    assert driver.wait(60) == 129
    assert json.loads((storage / "tiny/.lease").read_text())["token"] == ""
