"""The command line: it reads arguments, calls a room, and prints what came back."""

from simtune.cli.main import app, main

__all__ = ["app", "main"]
