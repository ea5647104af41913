"""Runs a test's Ray part in a process of its own.

Ray ends a driver by `_exit` where its own processes die; in the tests' process that would take all other tests along
without a word.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run_isolated(script: str, *arguments: str) -> str:
    """What `script` prints as `python -c`; it sees `simtune` and the tests' folder."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
