"""The progress of a run, read from its files alone, so it works while a driver runs and after one was killed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

from simtune.drivers.holder import lease_file, read_holder
from simtune.drivers.trial_claims import Claim, read_claim
from simtune.errors import RunError, StoreError
from simtune.storage.files import AnyPath
from simtune.storage.many_files import read_each
from simtune.storage.object_store import ObjectPath
from simtune.sweep.run_files import read_manifest
from simtune.trial.files import read_failure, read_overall

Status = Literal["done", "running", "failed", "missing", "damaged"]
STATUSES: tuple[Status, ...] = ("done", "running", "failed", "missing", "damaged")


@dataclass(frozen=True)
class TrialStatus:
    """One trial of a run.

    Attributes:
        status: `done` with its scores, `failed` or `damaged` with the reason, `running` where the workers of a living
            driver run it, or `missing`, with the reason if it was left out.
        scores: the first metric of each suite, by the suite's name; None if there is none yet.
    """

    trial: str
    label: str
    status: Status
    scores: dict[str, dict[str, float] | None]
    error: str


@dataclass(frozen=True)
class RunStatus:
    """The trials of a run, and the driver that is running it (None: no driver)."""

    run: str
    driver: str | None
    trials: tuple[TrialStatus, ...]

    def count(self, status: Status) -> int:
        return sum(trial.status == status for trial in self.trials)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "counts": {status: self.count(status) for status in STATUSES}}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunStatus:
        """The status that `to_dict` gave, maybe on another machine."""
        return cls(values["run"], values["driver"], tuple(TrialStatus(**trial) for trial in values["trials"]))


def run_status(run_directory: AnyPath) -> RunStatus:
    """Reads the status of a run; linear in its trials, one small file each.

    Raises:
        RunError: not a run directory, or one that has not planned its trials yet.
    """
    manifest = read_manifest(run_directory)
    planned = manifest.trials
    trials = run_directory.parent / "trials"
    # Many claims point to few leases.
    alive = cache(Claim.is_alive)

    def look(trial: str) -> TrialStatus:
        label, suites = planned[trial].label, planned[trial].scores
        scores: dict[str, dict[str, float] | None] = dict.fromkeys(suites.values())
        try:
            for score, suite in suites.items():
                scores[suite] = _in_order(read_overall(trials / trial, score), manifest.metrics)
            if None not in scores.values():
                return TrialStatus(trial, label, "done", scores, "")
            claim = read_claim(trials / trial)
        except (RunError, StoreError) as error:
            if isinstance(trials, ObjectPath) and isinstance(error, StoreError):
                raise
            return TrialStatus(trial, label, "damaged", scores, str(error))
        if claim is not None and alive(claim):
            return TrialStatus(trial, label, "running", scores, "")
        problems: dict[str, None] = {}
        for score in (score for score, suite in suites.items() if scores[suite] is None):
            failure, damaged = read_failure(trials / trial, score)
            if failure is not None:
                of_suite = f"{suites[score]}: " if failure.score and len(suites) > 1 else ""
                reason = f"{of_suite}{failure.error}: {failure.message} (on {failure.host})"
                return TrialStatus(trial, label, "failed", scores, reason)
            problems |= dict.fromkeys(damaged)
        reason = "; ".join(problems) or manifest.left_out.get(trial, "")
        return TrialStatus(trial, label, "missing", scores, reason)

    return RunStatus(str(run_directory), _driver(run_directory), tuple(read_each(trials, planned, look).values()))


def _in_order(values: dict[str, float] | None, metrics: Sequence[str]) -> dict[str, float] | None:
    """The values of a score's metrics in the order of the sweep."""
    if values is None:
        return None
    return {name: values[name] for name in (*(name for name in metrics if name in values), *values)}


def _driver(run_directory: AnyPath) -> str | None:
    holder, _ = read_holder(lease_file(run_directory))
    return None if holder.has_ended() else str(holder)
