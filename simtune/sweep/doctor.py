"""`simtune doctor`: verifies what a run left on disk, and says what to do about what is wrong.

Nothing is changed. Whether a trial is done, its metrics decide; so a finding either costs a trial, which has to be
run again, or a file that the next `simtune run` or `simtune report` makes anew from what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from simtune.config import Sweep, load_sweep
from simtune.errors import UserError
from simtune.evaluation.scores import PredictionRecord, score_predictions
from simtune.storage import AnyPath, check_shape, child_names, file_sha256, fingerprint, read_json, read_table
from simtune.sweep.display import Display
from simtune.sweep.failures import read_failure
from simtune.sweep.results import read_metrics
from simtune.sweep.run_files import CHECKSUMS, read_checksums
from simtune.sweep.status import planned_trials
from simtune.training.complete import MARKER, read_marker
from simtune.training.kept import kept_folder, missing_epochs
from simtune.wording import counted

if TYPE_CHECKING:
    from simtune.text_tables import TextTable

_RUN_AGAIN = "`simtune run` writes it anew"
_WEIGHTS_AGAIN = "remove {}; to have these weights again, move {} aside and `simtune run`"
_TRIAL_AGAIN = "move {} aside; `simtune run` then runs that trial again"
_NO_RESULT = "remove it: it decides no result"
_ATTEMPT = {"attempt": int, "kind": str, "message": str, "driver": str}


@dataclass(frozen=True)
class Finding:
    """Something wrong: where, what, and what to do."""

    path: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class Diagnosis:
    """What was looked at, and what is wrong with it.

    Attributes:
        num_verified: files whose bytes were compared with a checksum.
        num_unverified: files of a run that recorded no checksums (the first release).
        notes: what is no fault, but worth knowing.
    """

    run: str
    num_trials: int
    num_verified: int
    num_unverified: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def diagnose(run_directory: AnyPath, display: Display) -> Diagnosis:
    """Verifies a run: its own files, each trial's files, and each trial's scores against its predictions.

    Raises:
        RunError: not a run directory.
    """
    trials = planned_trials(run_directory)
    found = _Found()
    sweep = _sweep(run_directory, found)
    done = _done(run_directory)
    unkept = []
    with display.stage("verify") as on_progress:
        found.extend(_run_files(run_directory, found))
        missing = failed = 0
        for number, trial in enumerate(trials, start=1):
            directory = run_directory.parent / "trials" / trial
            findings = list(_trial(directory, trial, trial in done, found))
            found.extend(findings)
            if sweep is not None and not findings and _keeps_less(directory, trial, sweep):
                unkept.append(trial)
            if not findings and not (directory / "metrics.json").is_file():
                failed += (directory / "failure.json").is_file()
                missing += not (directory / "failure.json").is_file()
            on_progress(number, len(trials))
    notes = []
    if missing:
        notes.append(f"{counted(missing, 'trial has', 'trials have')} no result yet: `simtune run` continues")
    if failed:
        notes.append(f"{counted(failed, 'trial')} failed: see results.md, and `simtune run --retry failed`")
    if unkept and sweep is not None:
        notes.append(
            f"{counted(len(unkept), 'finished trial keeps', 'finished trials keep')} less than training.keep: "
            f"{sweep.training.keep}; to have it, move what is named here aside and `simtune run`: {', '.join(unkept)}"
        )
    if found.num_unverified:
        notes.append(
            f"{counted(found.num_unverified, 'file has', 'files have')} no checksum: a run of the first release, "
            "or one under way"
        )
    return Diagnosis(
        str(run_directory), len(trials), found.num_verified, found.num_unverified, tuple(found.findings), tuple(notes)
    )


class _Found:
    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.num_verified = self.num_unverified = 0

    def extend(self, findings: Iterator[Finding] | list[Finding]) -> None:
        self.findings.extend(findings)

    def compared(self, path: AnyPath, checksum: str | None, remedy: str) -> Iterator[Finding]:
        """A finding where a file is not there or not what it was."""
        if checksum is None:
            self.num_unverified += 1
        elif not path.is_file():
            yield Finding(str(path), "is missing", remedy)
        else:
            self.num_verified += 1
            if file_sha256(path) != checksum:
                yield Finding(str(path), "is not what was written: its SHA-256 differs", remedy)


def _sweep(run_directory: AnyPath, found: _Found) -> Sweep | None:
    try:
        return load_sweep(run_directory / "sweep.yaml")
    except UserError as error:
        found.extend([Finding(str(run_directory / "sweep.yaml"), str(error), _RUN_AGAIN)])
        return None


def _done(run_directory: AnyPath) -> set[str]:
    """The trials that had a result when the table was last written."""
    try:
        rows = read_table(run_directory / "results.parquet").select(["trial", "status"]).to_pylist()
    except (UserError, KeyError):
        # That it is damaged, its checksum says.
        return set()
    return {row["trial"] for row in rows if row["status"] == "done"}


def _run_files(run_directory: AnyPath, found: _Found) -> Iterator[Finding]:
    try:
        checksums = read_checksums(run_directory)
    except UserError as error:
        yield Finding(str(run_directory / CHECKSUMS), str(error), _RUN_AGAIN)
        return
    if checksums is None:
        found.num_unverified += sum(1 for _ in run_directory.glob("*.parquet"))
        return
    for name, checksum in checksums.items():
        remedy = (
            "`simtune report` writes it anew" if name.startswith(("report/", "results.m", "results.c")) else _RUN_AGAIN
        )
        yield from found.compared(run_directory / name, checksum, remedy)


def _trial(directory: AnyPath, trial: str, was_done: bool, found: _Found) -> Iterator[Finding]:
    again = _TRIAL_AGAIN.format(directory)
    yield from _records(directory)
    try:
        metrics = read_metrics(directory)
        read_failure(directory)
    except UserError as error:
        yield Finding(str(directory), str(error), again)
        return
    if metrics is None:
        if was_done:
            problem = "is missing, and results.parquet has its result"
            yield Finding(str(directory / "metrics.json"), problem, "`simtune run` runs that trial again")
        return
    if metrics["trial"] != trial:
        yield Finding(str(directory / "metrics.json"), f"is of trial {metrics['trial']}", again)
        return
    broken = False
    for name in ("trial.json", "predictions.parquet"):
        for finding in found.compared(directory / name, metrics.get("files", {}).get(name), again):
            broken = True
            yield finding
    if not broken:
        yield from _agreement(directory, trial, metrics, again)
    yield from _kept(directory, trial, found)


def _records(directory: AnyPath) -> Iterator[Finding]:
    """Findings in what a trial recorded beside its result: what it took, and its failed attempts."""
    shapes: dict[AnyPath, Any] = {directory / "costs.json": {}}
    shapes |= dict.fromkeys(sorted((directory / "attempts").glob("*.json"), key=str), _ATTEMPT)
    for path, shape in shapes.items():
        try:
            if path.is_file():
                check_shape(read_json(path), shape, str(path))
        except UserError as error:
            yield Finding(str(path), str(error), _NO_RESULT)


def _kept(directory: AnyPath, trial: str, found: _Found) -> Iterator[Finding]:
    """Findings in the weights that a finished trial has kept."""
    kept = kept_folder(directory)
    for folder in (kept / name for name in sorted(child_names(kept)) if name.startswith("epoch-")):
        again = _WEIGHTS_AGAIN.format(folder, directory)
        marker = read_marker(folder)
        if marker is None or marker.get("trial") != trial:
            yield Finding(str(folder), f"does not count: it has no {MARKER} of this trial", again)
            continue
        for name, checksum in marker["files"].items():
            yield from found.compared(folder / name, checksum, again)


def _keeps_less(directory: AnyPath, trial: str, sweep: Sweep) -> bool:
    metrics = read_metrics(directory)
    training = (metrics or {}).get("training")
    return bool(training and missing_epochs(directory, trial, sweep.training.keep, training["loss_by_epoch"]))


def _agreement(directory: AnyPath, trial: str, metrics: dict[str, Any], again: str) -> Iterator[Finding]:
    """Findings where identity, predictions and metrics of a trial do not belong together."""
    try:
        identity = read_json(directory / "trial.json")
        identity.pop("trial", None)
        if fingerprint(identity)[:16] != trial:
            yield Finding(str(directory / "trial.json"), "does not describe this trial", again)
        columns = ("instance_id", "task", "category", "references", "prediction")
        table = read_table(directory / "predictions.parquet").select(list(columns))
        records = [
            PredictionRecord(
                row["instance_id"], row["task"], row["category"], tuple(row["references"]), row["prediction"]
            )
            for row in table.to_pylist()
        ]
        overall = score_predictions(records).to_dict()["overall"]
    except (UserError, KeyError, TypeError, AttributeError, ValueError) as error:
        yield Finding(str(directory), f"cannot be verified: {error}", again)
        return
    if overall != metrics["overall"]:
        problem = f"says {metrics['overall']}, its predictions score {overall}"
        yield Finding(str(directory / "metrics.json"), problem, again)


def diagnosis_table(diagnosis: Diagnosis) -> TextTable:
    """The findings for a terminal."""
    from simtune.text_tables import TextTable

    number = len(diagnosis.findings)
    table = TextTable(
        title=f"{diagnosis.run}: {counted(diagnosis.num_trials, 'trial')}, {counted(diagnosis.num_verified, 'file')} "
        "verified, " + (counted(number, "problem") if number else "nothing wrong"),
        caption="\n".join(diagnosis.notes) or None,
        show_header=bool(number),
    )
    for name in ("where", "what", "what to do"):
        table.add_column(name, overflow="fold")
    for finding in diagnosis.findings:
        table.add_row(finding.path, finding.problem, finding.remedy)
    return table
