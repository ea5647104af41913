"""Ends the processes of a local Ray once its driver has ended, however it did, and removes the folder of this Ray.

A driver that is killed, or that Ray's client aborts because the raylet has ended, cannot do so itself. Ray's workers
then train on for a while, and its agents need more than a minute to notice.

Runs as a script in a process of its own and therefore imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from pathlib import Path

import psutil

_LOOK_S = 0.3
_WITHIN_S = 60.0


def is_part(process: psutil.Process, variable: str, folder: str) -> bool:
    """Whether a process was started with a variable that names the folder of its Ray, or is one of Ray's that hides it.

    Ray's agents write their titles over their environment. They have log files in the folder open, but so may a pager
    of the user's, which stays.
    """
    environment = process.environ()
    if environment or not process.name().startswith("ray::"):
        return environment.get(variable) == folder
    return any(Path(file.path).is_relative_to(folder) for file in process.open_files())


def parts_of(variable: str, folder: str) -> list[psutil.Process]:
    """This user's other processes that are a part of the Ray in a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and is_part(process, variable, folder):
                found.append(process)
    return found


def reap(driver: int, variable: str, folder: str) -> None:
    """Waits until the driver, the parent of this process, has ended; then ends its Ray and removes the folder."""
    while os.getppid() == driver:
        time.sleep(_LOOK_S)
    ends = time.monotonic() + _WITHIN_S
    # Those that are ended may have started others meanwhile.
    while (remaining := parts_of(variable, folder)) and time.monotonic() < ends:
        for process in remaining:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(remaining, timeout=_LOOK_S)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    reap(int(sys.argv[1]), sys.argv[2], sys.argv[3])
