"""The command line: it reads arguments, calls a room, and prints what came back."""

import contextlib
import signal
import sys
from pathlib import Path

with contextlib.suppress(OSError):
    # `python -m simtune.cli` puts the working directory before everything else: whoever runs it inside a cloned corpus
    # would run that corpus's `statistics.py`.
    if sys.argv[:1] == ["-m"] and sys.path[:1] == [str(Path.cwd())]:
        del sys.path[0]

try:
    from simtune.cli.main import app, main
except KeyboardInterrupt:
    # Nothing has begun that needs a word.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise SystemExit(130) from None

__all__ = ["app", "main"]
