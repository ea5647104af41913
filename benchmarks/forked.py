"""Drivers forked from a process that has done a driver's imports, which take seconds: faults then hit its work."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_FORKED = multiprocessing.get_context("forkserver")
# What a driver imports while it works. Not DeepSpeed, which looks for devices.
_FORKED.set_forkserver_preload(
    [
        "simtune.cli.main",
        "simtune.sweep.run",
        "simtune.executors.inline",
        "simtune.executors.ray_executor",
        "simtune.report.figures",
        "transformers.models.t5.modeling_t5",
        "datasets",
        "rouge_score.rouge_scorer",
        "sklearn.cluster",
    ]
)


class ForkedDriver:
    """A `simtune` command in a process group of its own, with what a `subprocess.Popen` has."""

    def __init__(
        self,
        words: Sequence[str],
        output: Path,
        errors: Path,
        environment: Mapping[str, str] | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """Starts the command.

        Args:
            words: after `simtune`.
            output: a file for standard output.
            errors: a file for standard error; may be the same.
            environment: instead of this process's.
            prepare: a function of a module, called in the new process first.
        """
        self.output, self.errors = output, errors
        environment = dict(os.environ if environment is None else environment)
        self._process = _FORKED.Process(target=_drive, args=(words, output, errors, environment, prepare))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("simtune", timeout or 0.0)
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()


def wait_for_imports() -> None:
    """Starts the process that drivers are forked from, unless it runs, and waits until it has done its imports."""
    process = _FORKED.Process(target=int)
    process.start()
    process.join()


def _drive(
    words: Sequence[str],
    output: Path,
    errors: Path,
    environment: Mapping[str, str],
    prepare: Callable[[], None] | None,
) -> None:
    os.setsid()
    for descriptor, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    # As a shell leaves it; a test run in the background inherits it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["simtune", *words]
    from simtune.cli import main

    try:
        if prepare is not None:
            prepare()
        main()
    finally:
        # As at the end of any Python; `multiprocessing` leaves them out.
        atexit._run_exitfuncs()
