"""A display for tests that records the warnings it is given."""

from __future__ import annotations

from simtune.progress import Quiet


class RecordingDisplay(Quiet):
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
