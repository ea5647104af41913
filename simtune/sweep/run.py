"""Running a sweep: making the results exist that it names and that are not there yet.

Resuming after a crash, growing a grid, and two sweeps that share arms are this one operation.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from simtune import __version__
from simtune.config import Sweep, dump_sweep
from simtune.config.settings import accumulation_steps
from simtune.drivers.claims import wait_for_other_drivers
from simtune.drivers.lease import Lease, LeaseToken, lease_file, run_lease
from simtune.embedding.embed import TaskEmbeddings
from simtune.executors.base import Executor, Job
from simtune.progress import Display
from simtune.redaction import redact_command
from simtune.report.build import build_report
from simtune.storage.files import AnyPath, as_path, fingerprint, write_text
from simtune.storage.parquet_files import write_table
from simtune.storage.records import write_record
from simtune.sweep.grid_points import (
    Study,
    check_encoders,
    hub_commits,
    open_studies,
    reopen_studies,
    unused_settings,
    with_resolved_encoding,
)
from simtune.sweep.jobs import data_key, job_label, make_spec, run_heuristic, shared_data
from simtune.sweep.leak_guard import guard_embeddings
from simtune.sweep.results import Planned, results_tables
from simtune.sweep.run_files import (
    MANIFEST,
    Manifest,
    check_run_files,
    drop_checksums,
    write_checksums,
)
from simtune.sweep.stages import embed_studies, read_tasks, select_subsets, write_stage_tables
from simtune.sweep.trials import PlannedRow, plan_rows, unique_rows
from simtune.sweep.unkept import tell_unkept
from simtune.trial.environments import machine_kinds, tell_mixed
from simtune.trial.files import Outcome, check_trial_files, is_done, read_outcomes
from simtune.trial.run import SharedData

if TYPE_CHECKING:
    import pyarrow as pa

_PACKAGES = (
    "ray",
    "torch",
    "transformers",
    "deepspeed",
    "sentence-transformers",
    "tokenizers",
    "numpy",
    "pyarrow",
)


@dataclass(frozen=True)
class RunOutcome:
    """What a run left.

    Attributes:
        num_run: trials that were run now.
        num_failed: rows of the table without a result.
    """

    run_directory: AnyPath
    results: pa.Table
    report: AnyPath
    num_run: int
    num_failed: int


def run_sweep(
    sweep: Sweep, executor: Executor, display: Display, command: Sequence[str] = (), only_failed: bool = False
) -> RunOutcome:
    """Embeds, selects, trains what is missing, scores and reports.

    Args:
        only_failed: tries the failed trials anew, whatever the reason, and leaves what is merely missing.

    Raises:
        UserError: wrong input, found before the run directory exists; leaks that only the embeddings show, after.
        RunError: another driver holds the run, or has taken it over meanwhile.
    """
    check_run_files(sweep.storage, sweep.name)
    task_studies = read_tasks(sweep, display, trains=True)
    for warning in dict.fromkeys(text for task_study in task_studies for text in executor.check(task_study.sweep)):
        display.warn(warning)
    with display.stage("load tokenizer and model"):
        check_encoders(task_studies)
        studies = open_studies(task_studies)
    for note in unused_settings(studies):
        display.warn(note)
    run_directory = as_path(sweep.storage) / sweep.name
    with run_lease(run_directory, display.warn) as lease:
        drop_checksums(run_directory)
        write_text(run_directory / "sweep.yaml", dump_sweep(with_resolved_encoding(sweep)))
        embeddings = embed_studies(task_studies, executor, display)
        task_studies = guard_embeddings(task_studies, embeddings, display, run_directory)
        studies = reopen_studies(studies, task_studies)
        subsets = select_subsets(task_studies, embeddings, display)
        write_stage_tables(run_directory, task_studies, embeddings, subsets)
        rows = unique_rows(
            row for study, chosen in zip(studies, subsets, strict=True) for row in plan_rows(study, chosen)
        )
        trials = as_path(sweep.storage) / "trials"
        check_trial_files(trials / trial for trial in dict.fromkeys(row.trial.id for row in rows))
        planned = Planned.of(rows)
        outcomes = read_outcomes(trials, planned.trials)
        manifest = _manifest(rows, embeddings, command)
        write_record(run_directory / MANIFEST, manifest)
        # Before the work: what an interrupted run has is reported from its rows.
        _write_tables(run_directory, results_tables(planned, outcomes))
        told = _tell_problems(outcomes, display)
        tell_unkept(rows, outcomes, trials, display.warn)
        missing = _missing(rows, outcomes, only_failed)
        num_done = sum(outcome.metrics is not None for outcome in outcomes.values())
        # Of thousands of trials too much to hold while others are trained.
        del outcomes
        _run_missing(missing, num_done, sweep, executor, display, lease)
        lease.check()
        with display.stage("gather results and report"):
            outcomes = read_outcomes(trials, planned.trials)
            _tell_problems(outcomes, display, told)
            tables = results_tables(planned, outcomes)
            _write_tables(run_directory, tables)
            kinds = machine_kinds(tables["costs"])
            write_record(run_directory / MANIFEST, manifest.model_copy(update={"trained_on": tuple(kinds)}))
            tell_mixed(kinds, display.warn)
            report = build_report(run_directory)
            write_checksums(run_directory)
    num_failed = sum(status != "done" for status in tables["results"]["status"].to_pylist())
    return RunOutcome(run_directory, tables["results"], report, len(missing), num_failed)


def _write_tables(run_directory: AnyPath, tables: Mapping[str, pa.Table]) -> None:
    for name, table in tables.items():
        write_table(run_directory / f"{name}.parquet", table)


def _tell_problems(outcomes: Mapping[str, Outcome], display: Display, told: Sequence[str] = ()) -> list[str]:
    """Warns of damaged files beside results, but for those that were told; what they recorded is left out."""
    problems = [problem for outcome in outcomes.values() for problem in outcome.problems if problem not in told]
    if problems:
        more = f" ({len(problems) - 1} more; `simtune doctor` lists them)" if problems[1:] else ""
        display.warn(f"{problems[0]}; what it recorded is left out{more}")
    return problems


def _missing(rows: Sequence[PlannedRow], outcomes: Mapping[str, Outcome], only_failed: bool) -> dict[str, PlannedRow]:
    """A row of each trial that is to be run now, by trial."""
    missing: dict[str, PlannedRow] = {}
    for row in rows:
        outcome = outcomes[row.trial.id]
        failure = outcome.failure
        wanted = failure is not None if only_failed else failure is None or failure.retry
        if outcome.metrics is None and wanted:
            missing.setdefault(row.trial.id, row)
    return missing


def _run_missing(
    missing: Mapping[str, PlannedRow],
    num_done: int,
    sweep: Sweep,
    executor: Executor,
    display: Display,
    lease: Lease,
) -> None:
    trials_root = as_path(sweep.storage) / "trials"
    token = LeaseToken(lease_file(as_path(sweep.storage) / sweep.name), lease.token)
    heuristics = [row for row in missing.values() if row.trial.kind.startswith("copy-")]
    for row in heuristics:
        with display.stage(f"baseline {row.arm}"):
            run_heuristic(row.trial, trials_root / row.trial.id, token)
    to_train = [row for row in missing.values() if not row.trial.kind.startswith("copy-")]
    display.trials_start(len(to_train), num_done)
    if to_train:
        shared = shared_data(to_train, sweep, display)
        jobs = [
            Job(
                make_spec(row.trial, accumulation_steps(row.trial.sweep), trials_root / row.trial.id, token),
                job_label(row),
                data_key(row),
            )
            # Longest first: the last trial to end decides when the sweep ends.
            for row in sorted(to_train, key=lambda row: -len(row.trial.tasks))
        ]
        executor.run(jobs, shared, sweep, display)
        _run_what_others_left(jobs, shared, sweep, executor, display, lease)


def _run_what_others_left(
    jobs: Sequence[Job],
    shared: dict[str, SharedData],
    sweep: Sweep,
    executor: Executor,
    display: Display,
    lease: Lease,
) -> None:
    """Waits for trials that drivers of other runs are at, and runs those whose drivers are gone."""
    gone: frozenset[str] = frozenset()
    while True:
        directories = {job.spec.directory: job for job in jobs}
        left, gone = wait_for_other_drivers(list(directories), lease.token, gone, is_done, display)
        lease.check()
        if not left:
            return
        again = [directories[path] for path in left]
        executor.run([replace(job, spec=replace(job.spec, gone=gone)) for job in again], shared, sweep, display)


def _manifest(rows: Sequence[PlannedRow], embeddings: Sequence[TaskEmbeddings], command: Sequence[str]) -> Manifest:
    versions = {"simtune": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    studies: dict[str, Study] = {}
    for row in rows:
        studies.setdefault(row.trial.study.point.label, row.trial.study)
    return Manifest(
        versions=versions,
        machine=f"{platform.system()} {platform.machine()}",
        command=tuple(redact_command(command)),
        commits=hub_commits(studies.values()),
        embeddings=tuple(
            {
                "encoder": embedded.encoder_fingerprint,
                "max_tokens": embedded.max_tokens,
                "num_tasks": len(embedded.names),
                "num_cut": embedded.num_cut,
            }
            for embedded in {id(embedded): embedded for embedded in embeddings}.values()
        ),
        studies={
            label or "all": {
                "pool_tasks": len(study.tasks.pool),
                "test_tasks": len(study.tasks.test),
                "corpus": fingerprint(sorted(study.task_study.task_fingerprints.items())),
                "tokenizer": study.tokenizer.fingerprint,
                "model": study.model.fingerprint,
            }
            for label, study in studies.items()
        },
        trials={row.trial.id: job_label(row) for row in rows},
    )
