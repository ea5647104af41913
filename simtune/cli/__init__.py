"""The command line: it reads arguments, calls a room, and prints what came back."""

import signal

try:
    from simtune.cli.main import app, main
except KeyboardInterrupt:
    # Nothing has begun that needs a word.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise SystemExit(130) from None

__all__ = ["app", "main"]
