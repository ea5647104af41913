"""Runs a test's Ray part in a process of its own.

Ray ends a driver by `_exit` where its own processes die; in the tests' process that would take all other tests along
without a word.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run_isolated(script: str, *arguments: str) -> str:
    """What `script` prints as `python -c`; it sees `simtune` and the tests' folder.

    A driver that Ray ended before it could raise anything is started once more.
    """
    command = [sys.executable, "-c", script, *arguments]
    for attempt in (1, 2):
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
        if done.returncode == 0:
            return done.stdout
        if "Traceback" in done.stderr or attempt == 2:
            break
        print(f"Ray ended the driver (exit {done.returncode}), once more:\n{done.stderr}", file=sys.stderr)
    raise AssertionError(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
