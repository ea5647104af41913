"""How threads of one computation wait for each other: they spin briefly, then sleep.

The libraries' own default is a long spin. That is fastest on a quiet machine, but where another process takes a core,
the spinning thread keeps the thread it waits for from running, and training takes many times as long.

OpenMP and OpenBLAS read these variables once, when they are loaded. `import simtune` therefore sets them, before any of
its modules imports torch or numpy; processes started later inherit them. `docs/performance.md` has the measurements.
"""

from __future__ import annotations

import os

# By library: what simtune sets, and what else a user may have set for the same library.
_SETTINGS: tuple[tuple[dict[str, str], tuple[str, ...]], ...] = (
    (
        {
            # libgomp (torch and scikit-learn on Linux): iterations of the spin loop.
            "GOMP_SPINCOUNT": "1000",
            # LLVM's and Intel's OpenMP (macOS, conda): milliseconds.
            "KMP_BLOCKTIME": "0",
        },
        ("OMP_WAIT_POLICY", "KMP_LIBRARY"),
    ),
    (
        # OpenBLAS (numpy and scipy): 2^N processor cycles, at least 4.
        {"OPENBLAS_THREAD_TIMEOUT": "14"},
        (),
    ),
)
VARIABLES = tuple(name for ours, others in _SETTINGS for name in (*ours, *others))
"""Every variable that decides how threads wait, set or not."""


def set_waiting() -> None:
    """Sets the variables in this process's environment.

    A library for which the user has set one of its variables is left alone. Has no effect on libraries that this
    process has loaded already.
    """
    for ours, others in _SETTINGS:
        if not any(name in os.environ for name in (*ours, *others)):
            os.environ.update(ours)


def waiting_environment() -> dict[str, str]:
    """The variables as they are set now, for processes that do not inherit this environment."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}
