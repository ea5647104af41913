"""Memory of a process that runs one trial after another: its peak, reusing it during a trial, releasing it after."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def restart_peak() -> None:
    """Restarts the measurement of peak memory, where the system can (Linux); elsewhere it continues."""
    import torch

    with contextlib.suppress(OSError):
        # 5 resets the high-water mark of resident memory (proc(5)).
        _CLEAR.write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_host_memory_mib() -> float:
    """Peak resident memory since `restart_peak` (Linux), elsewhere since the process started."""
    try:
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10
    except (OSError, StopIteration):
        # Kilobytes on Linux, bytes on macOS.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def reuse_freed_memory() -> None:
    """Makes this process reuse freed memory instead of returning it to the system, where the C library can (glibc).

    A training step on a CPU frees and allocates the same large arrays. By default the system hands out each of them
    again, zeroed page by page, which takes an eighth of a step. `release_memory` returns the memory afterwards.
    """
    set_option = _of_glibc("mallopt")
    if set_option is not None:
        # mallopt(3): no array of its own mapping, and no trimming at the top.
        set_option(_M_MMAP_MAX, 0)
        set_option(_M_TRIM_THRESHOLD, -1)


def release_memory() -> None:
    """Returns a finished trial's memory to the system, so that the processes of a long sweep do not grow."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


@contextmanager
def released_between_trials() -> Iterator[Callable[[], None]]:
    """Gives the function that a process calls after each of its trials, when no model is alive.

    It is `release_memory`. What is alive after a trial, above all the modules of the libraries, is left out of later
    garbage collections until the block ends: looking through it takes a quarter of a second each time.
    """
    exempts = not gc.get_freeze_count()

    def release() -> None:
        release_memory()
        if exempts:
            gc.freeze()

    try:
        yield release
    finally:
        if exempts:
            gc.unfreeze()


def _of_glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
