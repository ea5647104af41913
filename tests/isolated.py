"""Runs a test's Ray part in another process.

Ray ends a driver by `_exit` when its own processes die; in the tests' process that would end all other tests too,
without a message.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from simtune.threads import VARIABLES

_HERE = Path(__file__).parent

# Runs one script after another on the same Ray, each in a namespace of its own; a line of input is a script as JSON.
_SERVER = """
import contextlib, io, json, sys, traceback
from simtune.executors.ray_executor import RayExecutor

answers = sys.stdout
with RayExecutor("local") as executor:
    executor._start()
    for line in sys.stdin:
        printed, error = io.StringIO(), ""
        with contextlib.redirect_stdout(printed):
            try:
                exec(json.loads(line), {"__name__": "__main__", "executor": executor})
            except Exception:
                error = traceback.format_exc()
        print(json.dumps({"printed": printed.getvalue(), "error": error}), file=answers, flush=True)
"""


def run_isolated(script: str, *arguments: str) -> str:
    """What `script` prints as `python -c`; it sees `simtune` and the tests' folder."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=_HERE, check=False)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class RayProcess:
    """A process that has an executor with a local Ray, for several tests: starting one takes seconds."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 open as long as the process
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors}
        # How threads wait is for simtune to set.
        environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        command = [sys.executable, "-c", _SERVER]
        self._process = subprocess.Popen(command, text=True, cwd=_HERE, env=environment, **pipes)

    def run(self, script: str) -> str:
        """What `script` prints; it finds `executor`, whose Ray is started, and sees `simtune` and the tests' folder."""
        assert self._process.poll() is None, self._died()
        self._process.stdin.write(json.dumps(script) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self._died()
        answer = json.loads(line)
        assert not answer["error"], answer["error"]
        return answer["printed"]

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(60)
        self._errors.close()

    def _died(self) -> str:
        self._errors.seek(0)
        return f"exit code {self._process.wait(60)}\n{self._errors.read()}"
