"""What a command that was stopped by a signal has left, and how to go on: the truth for each command."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from simtune.redaction import redact_command

_NOTHING_CHANGED = "nothing was changed"
# Embeddings come into their cache once all of a call are there, so that the same texts make the same batches.
_EMBEDDINGS = "embeddings are kept once all of them are made"

LEFT = {
    "run": ("finished stages and trials are kept", "to continue"),
    "embed": (_EMBEDDINGS, "again"),
    "select": (f"{_EMBEDDINGS}, no subset is", "again"),
    "select --embeddings": ("no subset is kept", "to start again"),
    "graph": (f"{_EMBEDDINGS}, the graph is not", "again"),
    "recommend": (f"{_EMBEDDINGS}, no ranking is", "again"),
    "train": (f"nothing of the trial is kept, {_EMBEDDINGS}", "to start the trial again"),
    "export": ("nothing was exported", "to start again"),
    "report": ("the run's results are as they were", "to build the report again"),
    "data fetch": ("what was downloaded is kept where the server can go on from it", "to go on"),
    **dict.fromkeys(("plan", "score", "status", "doctor", "strategies", "data check"), (_NOTHING_CHANGED, "again")),
}
"""By command: what is left, and what the same command does then."""


def what_is_left(command: str, arguments: Sequence[str]) -> str:
    """What to say after the reason of the stop.

    Args:
        command: as `simtune` knows it, such as `data fetch`; empty where it did not come so far.
        arguments: of the process, without its own name.
    """
    if command == "select" and any(argument.partition("=")[0] == "--embeddings" for argument in arguments):
        command = "select --embeddings"
    left, then = LEFT.get(command, (_NOTHING_CHANGED, "again"))
    again = shlex.join(["simtune", *redact_command(arguments)])
    return f"{left}: run `{again}` {then}"
