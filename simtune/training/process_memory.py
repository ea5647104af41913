"""The memory of a process that runs one trial after another: its peak, keeping it while it works, giving it back."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def restart_peak() -> None:
    """Lets the peak of memory count from now, where the system can (Linux); elsewhere it goes on."""
    import torch

    with contextlib.suppress(OSError):
        # 5 resets the high-water mark of resident memory (proc(5)).
        _CLEAR.write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_host_memory_mib() -> float:
    """Most resident memory since `restart_peak`, or else since the process began."""
    try:
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10
    except (OSError, StopIteration):
        # Kilobytes on Linux, bytes on macOS.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def keep_freed_memory() -> None:
    """Lets this process use freed memory again in place of handing it back, where the C library can (glibc).

    A training step on a processor frees and asks for the same large arrays, and by default each comes from the system
    anew, zeroed page by page: an eighth of a step. `release_memory` gives back what was kept.
    """
    set_option = _of_glibc("mallopt")
    if set_option is not None:
        # mallopt(3): no array of its own mapping, and no trimming at the top.
        set_option(_M_MMAP_MAX, 0)
        set_option(_M_TRIM_THRESHOLD, -1)


def release_memory() -> None:
    """Gives a finished trial's memory back to the system, so that a long sweep's processes do not grow."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
