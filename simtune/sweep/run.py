"""Running a sweep: making the results exist that it names and that are not there yet.

Resuming after a crash, growing a grid, and two sweeps that share arms are this one operation.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simtune.config import Sweep, dump_sweep
from simtune.drivers.holder import lease_file
from simtune.drivers.run_lease import Lease, LeaseToken, run_lease
from simtune.drivers.trial_claims import wait_for_other_drivers
from simtune.embedding.embed import TaskEmbeddings
from simtune.executors.base import Executor, Job
from simtune.grid.choice_records import arm_fingerprints, choice_fingerprint, model_fingerprint
from simtune.grid.grid_points import with_resolved_encoding
from simtune.grid.leak_guard import find_text_leaks, guard_leaks
from simtune.grid.prepared_points import (
    PreparedPoint,
    hub_commits,
    load_models,
    prepare_points,
)
from simtune.grid.stages import embed_points, find_encoders, read_tasks, select_subsets, write_stage_tables
from simtune.progress import Display
from simtune.redaction import redact_command
from simtune.report.build import build_report
from simtune.storage.files import AnyPath, as_path, child_names, write_text
from simtune.storage.many_files import read_each
from simtune.storage.parquet_files import write_table
from simtune.storage.records import write_record
from simtune.sweep.jobs import data_key, make_spec, run_heuristic, shared_data
from simtune.sweep.missing_trials import MissingTrial, find_missing, unsaved_note, warn_of_unsaved_weights
from simtune.sweep.package_versions import package_versions
from simtune.sweep.preflight import check_hosts
from simtune.sweep.results import Planned, results_tables
from simtune.sweep.run_files import (
    MANIFEST,
    Manifest,
    PlannedTrial,
    check_run_files,
    drop_checksums,
    write_checksums,
)
from simtune.sweep.timings import DriverClock
from simtune.sweep.trial_details import detail_reader
from simtune.sweep.trial_label import trial_label
from simtune.sweep.trials import PlannedRow, plan_rows
from simtune.trial.environments import environments_of, warn_of_mixed_environments
from simtune.trial.files import Outcome, ScoreOf, ScoreState, check_trial_files, is_scored, read_attempts, read_outcomes
from simtune.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa


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
    sweep: Sweep,
    executor: Executor,
    display: Display,
    command: Sequence[str] = (),
    only_failed: bool = False,
    retrain: bool = False,
) -> RunOutcome:
    """Embeds, selects, trains what is missing, scores and reports.

    Args:
        sweep: the settings.
        executor: where encoders and trials run.
        display: where progress is shown.
        command: the words after `simtune`, for the manifest.
        only_failed: tries the failed trials again, whatever the reason, and leaves out what is only missing.
        retrain: trains models again that lack scores and whose weights were not saved.

    Raises:
        UserError: wrong input, found before the run directory exists; leaks that only the embeddings show, after.
        RunError: another driver holds the run, or has taken it over meanwhile.
    """
    clock = DriverClock()
    check_run_files(sweep.storage, sweep.name)
    points = read_tasks(sweep, display, trains=True)
    text_leaks = find_text_leaks(points, display)
    for warning in dict.fromkeys(text for point in points for text in executor.check(point.sweep, display)):
        display.warn(warning)
    encoders = find_encoders(points, display)
    models = load_models(points, display)
    check_hosts([point.sweep for point in points], executor, display)
    run_directory = as_path(sweep.storage) / sweep.name
    with run_lease(run_directory, display.warn) as lease:
        drop_checksums(run_directory)
        write_text(run_directory / "sweep.yaml", dump_sweep(with_resolved_encoding(sweep)))
        embeddings = embed_points(points, encoders, executor, display)
        points = guard_leaks(points, text_leaks, display, embeddings, run_directory)
        with display.stage("load tokenizer and model"):
            prepared_points = prepare_points(points, models)
        subsets = select_subsets(points, embeddings, display)
        write_stage_tables(run_directory, points, embeddings, subsets)
        rows = plan_rows(prepared_points, subsets)
        for note in filter(None, dict.fromkeys(row.trial.mixture_note for row in rows)):
            display.warn(note)
        driver = _Driver(sweep, executor, display, lease, clock)
        manifest, planned = _manifest(rows, embeddings, command), Planned.from_rows(rows)
        num_run, left_out = _make_results(driver, rows, planned, manifest, only_failed, retrain)
        return _gather(driver, planned, manifest, num_run, left_out)


@dataclass(frozen=True)
class _Driver:
    """What a run works with, and where."""

    sweep: Sweep
    executor: Executor
    display: Display
    lease: Lease
    clock: DriverClock

    @property
    def run_directory(self) -> AnyPath:
        return as_path(self.sweep.storage) / self.sweep.name

    @property
    def trials(self) -> AnyPath:
        return as_path(self.sweep.storage) / "trials"

    @property
    def token(self) -> LeaseToken:
        return LeaseToken(lease_file(self.run_directory), self.lease.token)


def _make_results(
    driver: _Driver,
    rows: Sequence[PlannedRow],
    planned: Planned,
    manifest: Manifest,
    only_failed: bool,
    retrain: bool,
) -> tuple[int, dict[str, str]]:
    """Makes the scores that are missing.

    Returns:
        The number of trials that were run, and those that were left out by their ids, with the reasons.
    """
    display, trials = driver.display, driver.trials
    started = child_names(trials)
    check_trial_files(trials / trial for trial in dict.fromkeys(row.trial.id for row in rows) if trial in started)
    tables, states = _read_results(driver, planned, shows_problems=True)
    write_record(driver.run_directory / MANIFEST, manifest)
    # Before the work: what an interrupted run has is reported from its rows.
    _write_tables(driver.run_directory, tables)
    del tables
    warn_of_unsaved_weights(rows, states, trials, display.warn)
    missing = find_missing(rows, states, trials, only_failed, retrain)
    if note := unsaved_note(missing.unsaved):
        display.warn(note)
    num_done = len({trial for (trial, _), state in states.items() if state.done})
    left_out = _run_missing(driver, missing.trials, num_done, retrain)
    driver.lease.check()
    return len(missing.trials) - len(left_out), left_out


def _gather(
    driver: _Driver, planned: Planned, manifest: Manifest, num_run: int, left_out: Mapping[str, str]
) -> RunOutcome:
    """The tables and the report of what the trials left."""
    run_directory = driver.run_directory
    with driver.display.stage("gather results and report"):
        tables, _ = _read_results(driver, planned, shows_problems=bool(num_run), left_out=left_out)
        _write_tables(run_directory, tables)
        environments = environments_of(tables["costs"])
        ended = {"trained_on": tuple(environments), "left_out": dict(left_out)}
        write_record(run_directory / MANIFEST, manifest.model_copy(update=ended))
        warn_of_mixed_environments(environments, driver.display.warn)
        report = build_report(run_directory, read_detail=detail_reader(driver.trials))
        driver.clock.write(run_directory, len(planned.rows))
        write_checksums(run_directory)
    num_failed = sum(status != "done" for status in tables["results"]["status"].to_pylist())
    return RunOutcome(run_directory, tables["results"], report, num_run, num_failed)


def _write_tables(run_directory: AnyPath, tables: Mapping[str, pa.Table]) -> None:
    for name, table in tables.items():
        write_table(run_directory / f"{name}.parquet", table)


def _read_results(
    driver: _Driver, planned: Planned, shows_problems: bool, left_out: Mapping[str, str] | None = None
) -> tuple[dict[str, pa.Table], dict[ScoreOf, ScoreState]]:
    """The tables of what the trials have, and the state of each score.

    Damaged files beside results are left out; with `shows_problems`, a warning says so.
    """
    states: dict[ScoreOf, ScoreState] = {}
    problems: dict[str, None] = {}

    def noted() -> Iterator[tuple[ScoreOf, Outcome]]:
        for score, outcome in read_outcomes(driver.trials, planned.scores):
            states[score] = outcome.state
            problems.update(dict.fromkeys(outcome.problems))
            yield score, outcome

    tables = results_tables(planned, noted(), left_out)
    if problems and shows_problems:
        more = f" ({len(problems) - 1} more; `simtune doctor` lists them)" if len(problems) > 1 else ""
        driver.display.warn(f"{next(iter(problems))}; what it recorded is left out{more}")
    return tables, states


def _run_missing(driver: _Driver, missing: Sequence[MissingTrial], num_done: int, retrain: bool) -> dict[str, str]:
    """Runs trials; returns those that were left out by their ids, with the reasons."""
    display = driver.display
    for each in missing:
        trial = each.trial
        if trial.is_heuristic:
            with display.stage(f"baseline {each.rows[0].arm}"):
                run_heuristic(each, driver.trials / trial.id, driver.token)
    to_run = [each for each in missing if not each.trial.is_heuristic]
    display.trials_start(len(to_run), num_done)
    if num_saved := sum(each.saved_epoch is not None for each in to_run):
        display.note(f"  {counted(num_saved, 'trial')} of them: saved weights are scored, and nothing is trained")
    dead_drivers: frozenset[str] = frozenset()
    left_out: dict[str, str] = {}
    while to_run:
        left_out |= _run_trials(driver, to_run, dead_drivers, retrain)
        tried = [each for each in to_run if each.trial.id not in left_out]
        to_run, dead_drivers = _left_by_others(driver, tried, dead_drivers, retrain)
    return left_out


def _run_trials(
    driver: _Driver, to_run: Sequence[MissingTrial], dead_drivers: frozenset[str], retrain: bool
) -> Mapping[str, str]:
    shared = shared_data(to_run, driver.sweep, driver.display)
    jobs = []
    # Longest first: the last trial to end decides when the sweep ends.
    for each in sorted(to_run, key=lambda each: -len(each.trial.tasks)):
        spec = make_spec(each.trial, each.scores, driver.trials / each.trial.id, driver.token, each.saved_epoch)
        spec = replace(spec, dead_drivers=dead_drivers, retrain=retrain)
        jobs.append(Job(spec, trial_label(each.rows[0]), data_key(each.trial.prepared)))
    with driver.clock.trials(driver.display) as display:
        return driver.executor.run(jobs, shared, driver.sweep, display)


def _left_by_others(
    driver: _Driver, tried: Sequence[MissingTrial], dead_drivers: frozenset[str], retrain: bool
) -> tuple[list[MissingTrial], frozenset[str]]:
    """Waits for trials that drivers of other runs are running.

    Returns:
        Those of which scores are missing still: their drivers are dead, or have made other scores. What such a driver
        has trained and saved is not trained again. Also the tokens of all drivers known to be dead.
    """
    driver.lease.check()
    by_directory = {driver.trials / each.trial.id: each for each in tried}

    def is_done(directory: AnyPath) -> bool:
        return all(is_scored(directory, score.id) for score in by_directory[directory].scores)

    done = read_each(driver.trials, by_directory, is_done)
    left, dead_drivers = wait_for_other_drivers(
        [path for path in by_directory if not done[path]], driver.lease.token, dead_drivers, is_done, driver.display
    )
    driver.lease.check()
    left = [path for path in left if not _has_tried(driver, path)]
    if not left:
        return [], dead_drivers
    rows = [row for path in left for row in by_directory[path].rows]
    outcomes = read_outcomes(driver.trials, [(row.trial.id, row.score.id) for row in rows])
    states = {score: outcome.state for score, outcome in outcomes}
    missing = find_missing(rows, states, driver.trials, retrain=retrain)
    if note := unsaved_note(missing.unsaved):
        driver.display.warn(note)
    return list(missing.trials), dead_drivers


def _has_tried(driver: _Driver, directory: AnyPath) -> bool:
    """Whether this driver has tried a trial without success; a damaged record of an attempt may say so."""
    attempts, problems = read_attempts(directory)
    return bool(problems) or any(attempt.driver == driver.lease.token for attempt in attempts)


def _manifest(rows: Sequence[PlannedRow], embeddings: Sequence[TaskEmbeddings], command: Sequence[str]) -> Manifest:
    prepared_points: dict[str, PreparedPoint] = {}
    for row in rows:
        prepared_points.setdefault(row.trial.prepared.point.label, row.trial.prepared)
    return Manifest(
        versions=package_versions(),
        machine=f"{platform.system()} {platform.machine()}",
        command=tuple(redact_command(command)),
        commits=hub_commits(prepared_points.values()),
        embeddings=tuple(
            {
                "encoder": embedded.encoder_fingerprint,
                "max_tokens": embedded.max_tokens,
                "num_tasks": len(embedded.names),
                "num_cut": embedded.num_cut,
            }
            for embedded in {id(embedded): embedded for embedded in embeddings}.values()
        ),
        grid_points={
            label or "all": {
                # As in the columns of results.parquet.
                "values": {key: str(value) for key, value in prepared.point.values},
                "pool_tasks": len(prepared.tasks.pool),
                "test_tasks": len(prepared.tasks.test),
                "corpus": prepared.point_tasks.fingerprint,
                "tokenizer": prepared.tokenizer.fingerprint,
                "model": prepared.model.fingerprint,
                "model_settings": model_fingerprint(prepared.point_tasks),
                "choice": choice_fingerprint(prepared.point_tasks),
            }
            for label, prepared in prepared_points.items()
        },
        metrics=tuple(dict.fromkeys(name for row in rows for name in row.score.suite.metrics)),
        # A grid sweeps no selection.
        arms=arm_fingerprints(rows[0].trial.sweep.selection) if rows else {},
        trials=_planned_trials(rows),
    )


def _planned_trials(rows: Sequence[PlannedRow]) -> dict[str, PlannedTrial]:
    by_trial: dict[str, dict[str, list[PlannedRow]]] = {}
    for row in rows:
        by_trial.setdefault(row.trial.id, {}).setdefault(row.score.id, []).append(row)
    return {
        trial: PlannedTrial(label=trial_label(next(iter(by_score.values()))[0]), scores=_score_names(by_score))
        for trial, by_score in by_trial.items()
    }


def _score_names(rows: Mapping[str, Sequence[PlannedRow]]) -> dict[str, str]:
    """The names of the suites of each score, with its grid point where a trial has those at several."""
    # Suites with the same settings share a score.
    suites = {score: ", ".join(dict.fromkeys(row.score.suite.name for row in of)) for score, of in rows.items()}
    several = {name for name, number in Counter(suites.values()).items() if number > 1}
    names = {}
    for score, name in suites.items():
        grid = ", ".join(f"{key}={value}" for key, value in rows[score][0].grid if value is not None)
        names[score] = f"{name} ({grid or score})" if name in several else name
    return names
