"""Runs a test's Ray part in another process.

Ray ends a driver by `_exit` when its own processes die; in the tests' process that would end all other tests too,
without a message.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

_HERE = Path(__file__).parent

# Runs one script after another on the same Ray, each in a namespace of its own; a line of input is a script as JSON.
_SERVER = """
import contextlib, io, json, sys, traceback
import ray

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
answers = sys.stdout
for line in sys.stdin:
    printed, error = io.StringIO(), ""
    with contextlib.redirect_stdout(printed):
        try:
            exec(json.loads(line), {"__name__": "__main__"})
        except Exception:
            error = traceback.format_exc()
    print(json.dumps({"printed": printed.getvalue(), "error": error}), file=answers, flush=True)
ray.shutdown()
"""


def run_isolated(script: str, *arguments: str) -> str:
    """What `script` prints as `python -c`; it sees `simtune` and the tests' folder."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=_HERE, check=False)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class RayProcess:
    """A process that has a local Ray of two CPUs, for several tests: starting one takes seconds."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 open as long as the process
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors}
        self._process = subprocess.Popen([sys.executable, "-c", _SERVER], text=True, cwd=_HERE, **pipes)

    def run(self, script: str) -> str:
        """What `script` prints; it finds `ray` initialised, and sees `simtune` and the tests' folder."""
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
