"""The command line: each command reads its arguments, calls another part of the package, and prints the result."""

import signal

try:
    from simtune.cli.main import app, main
except KeyboardInterrupt:
    # Nothing has started yet, so there is nothing to report.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise SystemExit(130) from None

__all__ = ["app", "main"]
