"""What to say when a signal stops a command: what the command leaves behind, and what running it again does."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from simtune.ray_head import SUBMIT_COMMAND
from simtune.redaction import redact_command

_NOTHING_CHANGED = "nothing was changed"
# Embeddings enter their cache once all of a call are there, so that the same texts make the same batches.
_EMBEDDINGS = "embeddings are kept once all of them are computed"

LEFT_BEHIND = {
    "run": ("finished stages and trials are kept", "to continue"),
    "embed": (_EMBEDDINGS, "again"),
    "select": (f"{_EMBEDDINGS}, subsets are not", "again"),
    "select --embeddings": ("no subsets are kept", "to start again"),
    "graph": (f"{_EMBEDDINGS}, the graph is not", "again"),
    "recommend": (f"{_EMBEDDINGS}, the ranking is not", "again"),
    "mixture": ("no mixture was written", "again"),
    "train": (f"nothing of the trial is kept, {_EMBEDDINGS}", "to start the trial again"),
    "export": ("nothing was exported", "to start again"),
    "report": ("the run's results are unchanged", "to build the report again"),
    "data fetch": ("the part that was downloaded is kept if the server can resume", "to resume"),
    **dict.fromkeys(("submit", "logs"), ("a submitted sweep keeps running without this machine", "to follow it")),
    "cancel": ("the sweep may or may not have stopped", "to stop it"),
    "results": ("nothing was downloaded", "again"),
    "cluster up": ("machines may have been created and may be costing money", "to finish it"),
    "cluster down": ("machines may still be running and costing money", "to give them back"),
    "cluster supervise": ("interrupted sweeps wait until it runs again", "again"),
    **dict.fromkeys(
        ("new", "plan", "score", "status", "doctor", "strategies", "data check", "cluster status"),
        (_NOTHING_CHANGED, "again"),
    ),
}
"""By command: what it leaves behind, and what the same command does if it is run again."""


def stop_message(command: str, arguments: Sequence[str]) -> str:
    """What to say after the reason of the stop.

    Args:
        command: its name, such as `data fetch`; empty if the stop came before it was known.
        arguments: of the process, without its own name.
    """
    if command == "select" and any(argument.partition("=")[0] == "--embeddings" for argument in arguments):
        command = "select --embeddings"
    left, effect = LEFT_BEHIND.get(command, (_NOTHING_CHANGED, "again"))
    # What a submitted driver runs is of use on its head alone.
    again = os.environ.get(SUBMIT_COMMAND) or shlex.join(["simtune", *redact_command(arguments)])
    return f"{left}: run `{again}` {effect}"
