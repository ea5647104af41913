"""What users call a trial, on the terminal and in `simtune status`."""

from __future__ import annotations

from simtune.sweep.trials import PlannedRow
from simtune.wording import counted


def trial_label(row: PlannedRow) -> str:
    """What users call a trial: `random, 12 tasks, seed 0`, and its grid point."""
    parts = [row.arm]
    if row.size is not None:
        parts.append(counted(len(row.trial.tasks), "task"))
    if row.seed is not None:
        parts.append(f"seed {row.seed}")
    grid = ", ".join(f"{key.split('.')[-1]}={value}" for key, value in row.grid if value is not None)
    return ", ".join([*parts, grid] if grid else parts)
