"""A display for tests that records what it is given: warnings, notes, and how trials ended."""

from __future__ import annotations

from simtune.progress import Quiet


class RecordingDisplay(Quiet):
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.ended: dict[str, str] = {}

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def trial_ended(self, trial: str, outcome: str) -> None:
        self.ended[trial] = outcome
