"""`simtune doctor`: verifies what a run left on disk, and says what to do about what is wrong.

Nothing is changed. Whether a trial is done is decided by its metrics, so a finding either costs a trial, which must be
run again, or a file that the next `simtune run` or `simtune report` writes again from what is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from simtune.config import Sweep, expand_grid, load_sweep
from simtune.errors import RunError, UserError
from simtune.evaluation.xlingual import Gpt2Tokenize
from simtune.grid.rouge_tokenizers import available_rouge_tokenizers
from simtune.progress import Display
from simtune.selection.split_lists import INDEX, SPLITS
from simtune.storage.file_types import WrongFileType, file_type_at
from simtune.storage.files import AnyPath, cache_folder, files_below
from simtune.storage.object_store import ObjectPath
from simtune.storage.parquet_files import read_table
from simtune.sweep.results import Planned
from simtune.sweep.run_files import (
    CHECKSUMS,
    MANIFEST,
    TIMINGS,
    read_checksums,
    read_manifest,
    wrong_cache_files,
    wrong_run_files,
    wrong_storage_files,
)
from simtune.training.saved_weights import saved_epoch
from simtune.trial.files import ScoreOf, read_failure, read_metrics, read_training
from simtune.trial.findings import Finding, Found, finding_of, keeps_less, trial_findings
from simtune.wording import counted

_RUN_AGAIN = "`simtune run` writes it again"
_REPORT_AGAIN = "`simtune report` writes it again"


@dataclass(frozen=True)
class Diagnosis:
    """What was looked at, and what is wrong with it.

    Attributes:
        num_verified: files whose bytes were compared with a checksum.
        num_unverified: tables of a run that has no checksums because it is running or was interrupted.
        notes: what is worth knowing, but not wrong.
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
    found = Found()
    found.extend(map(finding_of, _wrong_files(run_directory)))
    planned = _planned_scores(run_directory, found)
    sweep = _sweep(run_directory, found)
    found.rouge_tokenizers, why_absent = _rouge_tokenizers(sweep)
    done = _done(run_directory)
    keeping_less = []
    with display.stage("verify") as on_progress:
        found.extend(_run_files(run_directory, found))
        missing = failed = unsaved = 0
        for number, (trial, scores) in enumerate(planned.items(), start=1):
            directory = run_directory.parent / "trials" / trial
            findings = list(trial_findings(directory, scores, {score for of, score in done if of == trial}, found))
            found.extend(findings)
            if not findings:
                metrics = [read_metrics(directory, score) for score in scores]
                if None in metrics:
                    lacking = [score for score, made in zip(scores, metrics, strict=True) if made is None]
                    failures = [read_failure(directory, score)[0] for score in lacking]
                    trained = read_training(directory)
                    lost = trained is not None and saved_epoch(directory, trained.training.loss_by_epoch) is None
                    failed += any(failures)
                    unsaved += None in failures and lost
                    missing += None in failures and not lost
                elif sweep is not None and (first := metrics[0]) is not None and keeps_less(directory, first, sweep):
                    keeping_less.append(trial)
            on_progress(number, len(planned))
    notes = []
    if missing:
        notes.append(f"{counted(missing, 'trial has', 'trials have')} no result yet: `simtune run` continues")
    if unsaved:
        notes.append(
            f"{counted(unsaved, 'trained model has', 'trained models have')} no saved weights and "
            f"{'lacks' if unsaved == 1 else 'lack'} scores of further suites: `simtune run --retrain` trains "
            f"{'it' if unsaved == 1 else 'them'} again"
        )
    if failed:
        notes.append(f"{counted(failed, 'trial')} failed: see results.md, and `simtune run --retry failed`")
    if keeping_less and sweep is not None:
        notes.append(
            f"{counted(len(keeping_less), 'finished trial keeps', 'finished trials keep')} less than training.keep: "
            f"{sweep.training.keep}; to have it, move these aside and run "
            f"`simtune run`: {', '.join(keeping_less)}"
        )
    notes += _not_computed_again(found.num_unscored, why_absent)
    if found.num_unverified:
        notes.append(
            f"{counted(found.num_unverified, 'file has', 'files have')} no checksum: the run is under "
            "way, or was interrupted"
        )
    return Diagnosis(
        str(run_directory), len(planned), found.num_verified, found.num_unverified, tuple(found.findings), tuple(notes)
    )


def _wrong_files(run_directory: AnyPath) -> Iterator[WrongFileType]:
    storage = run_directory.parent
    yield from wrong_storage_files(storage)
    yield from wrong_cache_files(cache_folder(str(storage)))
    yield from wrong_run_files(run_directory)


def _planned_scores(run_directory: AnyPath, found: Found) -> dict[str, list[str]]:
    """The scores of each of the run's trials: as its manifest has them, or else its table.

    Raises:
        RunError: no run was started here.
    """
    try:
        return {trial: list(planned.scores) for trial, planned in read_manifest(run_directory).trials.items()}
    except RunError as error:
        path = run_directory / MANIFEST
        if not isinstance(path, ObjectPath) and file_type_at(path) is None:
            raise
        found.extend([Finding(str(path), str(error), _RUN_AGAIN)])
    scores: dict[str, list[str]] = {}
    try:
        for trial, score in Planned.read(run_directory).scores:
            scores.setdefault(trial, []).append(score)
    except RunError:
        return {}
    return scores


def _sweep(run_directory: AnyPath, found: Found) -> Sweep | None:
    try:
        return load_sweep(run_directory / "sweep.yaml")
    except UserError as error:
        found.extend([Finding(str(run_directory / "sweep.yaml"), str(error), _RUN_AGAIN)])
        return None


def _rouge_tokenizers(sweep: Sweep | None) -> tuple[dict[str, Gpt2Tokenize], list[str]]:
    """The tokenizers that scores were made with and that are still there, and why others cannot be loaded."""
    try:
        return available_rouge_tokenizers(point.sweep for point in expand_grid(sweep)) if sweep else ({}, [])
    except UserError:
        # The settings were damaged; each file has a checksum of its own.
        return {}, []


def _not_computed_again(num_scores: int, why_absent: Sequence[str]) -> list[str]:
    """A note on scores whose tokenizer is not at hand; their files are sound."""
    if not num_scores:
        return []
    made = "it" if num_scores == 1 else "them"
    why = f" ({why_absent[0]})" if why_absent else ": its files have changed"
    return [
        f"{counted(num_scores, 'score was', 'scores were')} not computed again: the rouge_tokenizer that made {made} "
        f"is not at hand{why}. The results are as they were written"
    ]


def _done(run_directory: AnyPath) -> set[ScoreOf]:
    """The scores that existed when the table was last written."""
    try:
        rows = read_table(run_directory / "results.parquet").select(["trial", "score", "status"]).to_pylist()
    except (UserError, KeyError):
        # A damaged one is found with the other tables.
        return set()
    return {(row["trial"], row["score"]) for row in rows if row["status"] == "done"}


def _run_files(run_directory: AnyPath, found: Found) -> Iterator[Finding]:
    try:
        checksums = read_checksums(run_directory)
    except UserError as error:
        yield Finding(str(run_directory / CHECKSUMS), str(error), _RUN_AGAIN)
        return
    if checksums is None:
        tables = files_below(run_directory, "*.parquet")
        for path in (path for name, path in tables.items() if not name.startswith(".")):
            found.num_unverified += 1
            try:
                read_table(path)
            except UserError as error:
                yield Finding(str(path), str(error), _RUN_AGAIN)
        return
    for name, checksum in checksums.items():
        yield from found.compared(run_directory / name, checksum, _remedy(name))


def _remedy(name: str) -> str:
    """The command that writes a file of a run again."""
    if name == f"{SPLITS}/{INDEX}":
        # A run refuses a damaged one: it says which folders may be removed.
        return f"move it aside; {_RUN_AGAIN}"
    if name == TIMINGS:
        return "move it aside: no result depends on it, and only `simtune plan --nodes` reads it"
    return _REPORT_AGAIN if name.startswith(("report/", "results.m", "results.c")) else _RUN_AGAIN
