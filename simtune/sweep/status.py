"""How far a run is, read from its files alone: it works beside a running driver, and after a killed one."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from simtune.errors import RunError, shown
from simtune.storage import AnyPath, read_json
from simtune.sweep.lease import Holder, lease_of
from simtune.sweep.results import read_outcomes
from simtune.wording import counted

if TYPE_CHECKING:
    from simtune.text_tables import TextTable


@dataclass(frozen=True)
class TrialStatus:
    """One trial of a run: `done` with its score, `failed` with its reason, or `missing`."""

    trial: str
    label: str
    status: str
    rouge_l: float | None
    error: str


@dataclass(frozen=True)
class RunStatus:
    """The trials of a run, and who drives it now (None: nobody)."""

    run: str
    driver: str | None
    trials: tuple[TrialStatus, ...]

    def count(self, status: str) -> int:
        return sum(trial.status == status for trial in self.trials)

    def to_dict(self) -> dict[str, Any]:
        counts = {status: self.count(status) for status in ("done", "failed", "missing")}
        return {**asdict(self), "counts": counts}


def run_status(run_directory: AnyPath) -> RunStatus:
    """Reads the status of a run.

    Raises:
        RunError: not a run directory, or one that has not planned its trials yet.
    """
    trials = []
    planned = planned_trials(run_directory)
    for trial, outcome in read_outcomes(run_directory.parent / "trials", planned).items():
        label, metrics, failure = planned[trial], outcome.metrics, outcome.failure
        if metrics is not None:
            trials.append(TrialStatus(trial, label, "done", metrics["overall"]["rouge_l"], ""))
        elif failure is not None:
            trials.append(TrialStatus(trial, label, "failed", None, f"{failure['class']}: {failure['message']}"))
        else:
            trials.append(TrialStatus(trial, label, "missing", None, ""))
    return RunStatus(str(run_directory), _driver(run_directory), tuple(trials))


def planned_trials(run_directory: AnyPath) -> dict[str, str]:
    """The labels of a run's trials by id.

    Raises:
        RunError: not a run directory, or one that has not planned its trials yet.
    """
    manifest_path = run_directory / "manifest.json"
    if not manifest_path.is_file():
        raise RunError(
            f"{run_directory}: no manifest.json here, so no run was started in it. Give a run directory such as "
            "runs/quickstart, or start one with `simtune run SWEEP`"
        )
    manifest = read_json(manifest_path)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("trials"), dict):
        raise RunError(f"{manifest_path}: not the manifest of a run; `simtune run` writes it anew")
    for trial, label in manifest["trials"].items():
        # The name of a folder beside the run's: nothing else is looked at.
        if not re.fullmatch("[0-9a-f]{16}", trial) or not isinstance(label, str):
            raise RunError(f"{manifest_path}: {shown(trial)} is no trial; `simtune run` writes the file anew")
    return dict(manifest["trials"])


def status_table(status: RunStatus) -> TextTable:
    """The status for a terminal."""
    from simtune.text_tables import TextTable

    driver = f"driven by {status.driver}" if status.driver else "no driver is running"
    table = TextTable(
        title=f"{status.run}: {status.count('done')} of {counted(len(status.trials), 'trial')} done, "
        f"{status.count('failed')} failed, {status.count('missing')} missing",
        caption=f"{driver}; `simtune run` continues what is missing",
    )
    for name in ("trial", "what", "status", "ROUGE-L", "reason"):
        table.add_column(name, justify="right" if name == "ROUGE-L" else "left", overflow="fold")
    for trial in status.trials:
        rouge_l = f"{trial.rouge_l:.2f}" if trial.rouge_l is not None else ""
        table.add_row(trial.trial, trial.label, trial.status, rouge_l, trial.error)
    return table


def _driver(run_directory: AnyPath) -> str | None:
    found = lease_of(run_directory).read()
    holder = Holder.parse(found[0]) if found else None
    return None if holder is None or holder.gone() else str(holder)
