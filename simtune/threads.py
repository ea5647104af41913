"""How the threads of an OpenMP loop wait for each other: they spin briefly, then sleep.

By default they spin for milliseconds. That is fastest on an idle machine. But if another process uses a core, the
spinning thread prevents the thread that it waits for from running, and training takes many times as long.

OpenMP reads these variables once, when it is loaded. `import simtune` therefore sets them, before any of its modules
imports torch or scikit-learn; processes that are started later inherit them. OpenBLAS is left unchanged: its threads
yield the core while they spin, and shorter spinning made small steps of the selection 14 % slower. The measurements are
in `docs/performance.md`.
"""

from __future__ import annotations

import os

_SETTINGS = {
    # libgomp (torch and scikit-learn on Linux): iterations of the spin loop.
    "GOMP_SPINCOUNT": "1000",
    # LLVM's and Intel's OpenMP (macOS, conda): milliseconds.
    "KMP_BLOCKTIME": "0",
}
VARIABLES = (*_SETTINGS, "OMP_WAIT_POLICY", "KMP_LIBRARY")
"""All variables that affect how OpenMP's threads wait, set by simtune or not."""


def set_waiting() -> None:
    """Sets the variables in this process's environment, unless the user has set one of `VARIABLES`.

    Has no effect on libraries that this process has already loaded.
    """
    if not waiting_environment():
        os.environ.update(_SETTINGS)


def waiting_environment() -> dict[str, str]:
    """The variables that are set now, for processes that do not inherit this environment."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}
