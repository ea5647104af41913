"""The status of a run and what is wrong with it, as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simtune.evaluation.metric_registry import shown
from simtune.inspection.status import STATUSES, RunStatus, TrialStatus
from simtune.tables import TextTable
from simtune.wording import counted

if TYPE_CHECKING:
    from simtune.inspection.doctor import Diagnosis


def status_table(
    status: RunStatus, run: str = "`simtune run`", retry: str = "`simtune run --retry failed`"
) -> TextTable:
    """The status for a terminal.

    Args:
        status: of a run.
        run: the command that continues it, as it is shown.
        retry: likewise, the one that tries again what failed.
    """
    counts = {name: status.count(name) for name in STATUSES[1:]}
    # A count of zero is shown for failed and missing trials only.
    others = ", ".join(f"{n} {name}" for name, n in counts.items() if n or name in {"failed", "missing"})
    driver = f"driven by {status.driver}" if status.driver else "no driver is running"
    hints = [driver]
    if counts["missing"] and not status.driver:
        hints.append(f"{run} continues what is missing")
    if counts["failed"]:
        hints.append(f"{retry} tries again what failed")
    table = TextTable(
        title=f"{status.run}: {status.count('done')} of {counted(len(status.trials), 'trial')} done, {others}",
        caption="; ".join(hints),
    )
    for name in ("trial", "what", "status", "scores", "reason"):
        table.add_column(name, overflow="fold")
    for trial in status.trials:
        table.add_row(trial.trial, trial.label, trial.status, _scores_shown(trial), trial.error)
    return table


def _scores_shown(trial: TrialStatus) -> str:
    """The first metric of each scored suite; with the suite's name if there are several."""
    parts = []
    for suite, values in trial.scores.items():
        if values:
            metric, value = next(iter(values.items()))
            parts.append((f"{suite} " if len(trial.scores) > 1 else "") + shown(metric, value))
    return ", ".join(parts)


def diagnosis_table(diagnosis: Diagnosis) -> TextTable:
    """The findings for a terminal."""
    number = len(diagnosis.findings)
    table = TextTable(
        title=f"{diagnosis.run}: {counted(diagnosis.num_trials, 'trial')}, {counted(diagnosis.num_verified, 'file')} "
        "verified, " + (counted(number, "problem") if number else "nothing wrong"),
        caption="\n".join(diagnosis.notes) or None,
        show_header=bool(number),
    )
    table.add_columns("where", "what", "what to do", overflow="fold")
    for finding in diagnosis.findings:
        table.add_row(finding.path, finding.problem, finding.remedy)
    return table
