"""The command line called in the tests' own process: a new process for each call would cost seconds of imports."""

from __future__ import annotations

import importlib
import shlex
import sys
from collections.abc import Callable

import pytest

Call = Callable[[str], tuple[int, str, str]]
"""Takes the words after `simtune`; gives exit code, standard output, and standard error with single spaces."""


def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line as a function."""
    command_line = importlib.import_module("simtune.cli.main")
    monkeypatch.setattr(command_line.signals, "install", lambda: None)
    monkeypatch.setenv("COLUMNS", "200")

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["simtune", *shlex.split(line)])
        capsys.readouterr()
        try:
            command_line.main()
            code = 0
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        said = capsys.readouterr()
        return code, said.out, " ".join(said.err.split())

    return call
