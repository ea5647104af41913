"""Parts of a sweep: the stages before training, and one trial in this process."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simtune.config import SelectionSettings, Sweep, dump_sweep
from simtune.drivers.run_lease import run_lease
from simtune.embedding.embed import TaskEmbeddings
from simtune.errors import SimtuneError, UserError
from simtune.evaluation.baselines import HEURISTICS
from simtune.executors.base import Executor, Job
from simtune.executors.inline import InlineExecutor
from simtune.grid.grid_points import PointTasks, with_resolved_encoding
from simtune.grid.leak_guard import find_text_leaks, guard_leaks
from simtune.grid.prepared_points import load_models, prepare_points
from simtune.grid.stages import embed_points, find_encoders, read_tasks, select_subsets, write_stage_tables
from simtune.progress import Display
from simtune.selection.arms import named_arm
from simtune.selection.subsets import FULL_ARM, Subset, resolve_arms
from simtune.storage.files import AnyPath, as_path, write_text
from simtune.storage.preflight import check_storage
from simtune.sweep.jobs import make_spec, prepare, token_cache
from simtune.sweep.preflight import check_hosts
from simtune.sweep.run_files import check_run_files, drop_checksums
from simtune.sweep.trials import make_scores, make_trial
from simtune.trial.files import read_outcome
from simtune.trial.spec import ScoreSpec, TrialSpec
from simtune.wording import counted


@dataclass(frozen=True)
class Stages:
    """Results of the stages before training, one entry per grid point.

    Attributes:
        subsets: empty if they were not asked for.
    """

    run_directory: AnyPath
    points: list[PointTasks]
    embeddings: list[TaskEmbeddings]
    subsets: list[list[Subset]]


def embed_and_select(sweep: Sweep, executor: Executor, display: Display, with_subsets: bool) -> Stages:
    """Runs the stages up to the embeddings or the subsets and writes their tables to the run directory."""
    check_run_files(sweep.storage, sweep.name)
    points = read_tasks(sweep, display)
    text_leaks = find_text_leaks(points, display)
    encoders = find_encoders(points, display)
    check_hosts([point.sweep for point in points], executor, display, trains=False)
    run_directory = as_path(sweep.storage) / sweep.name
    with run_lease(run_directory, display.warn):
        drop_checksums(run_directory)
        write_text(run_directory / "sweep.yaml", dump_sweep(with_resolved_encoding(sweep)))
        embeddings = embed_points(points, encoders, executor, display)
        points = guard_leaks(points, text_leaks, display, embeddings, run_directory)
        subsets = select_subsets(points, embeddings, display) if with_subsets else []
        write_stage_tables(run_directory, points, embeddings, subsets)
    return Stages(run_directory, points, embeddings, subsets)


def train_one(sweep: Sweep, arm: str, size: int | None, seed: int, display: Display) -> dict[str, Any]:
    """Trains and scores one trial in this process and returns its scores by suite; writes nothing to the run directory.

    Raises:
        UserError: the arm, size or grid does not name one trial.
        SimtuneError: the trial failed; with its reason.
    """
    if sweep.grid:
        raise UserError(
            f"one trial has one value of each field ({', '.join(sweep.grid)}); choose them with --set, and "
            "--set grid={}",
            field="grid",
        )
    if sweep.corpus.holdout.gives_several:
        raise UserError(
            "gives several splits, but a trial has one; choose it, for "
            "example with --set 'corpus.holdout={categories: [NAME]}'",
            field=f"corpus.holdout.{sweep.corpus.holdout.rule}",
        )
    selection = _selection_of(sweep, arm, size, seed)
    executor = InlineExecutor()
    for warning in executor.check(sweep, display):
        display.warn(warning)
    points = read_tasks(sweep.model_copy(update={"selection": selection}), display, trains=True)
    text_leaks = find_text_leaks(points, display)
    models = load_models(points, display)
    check_storage(as_path(sweep.storage))
    # A tokenizer of the pool is trained without tasks that leak by their embedding, for the untuned model too.
    needed = arm != "untuned" or sweep.model.tokenizer == "pool"
    embeddings = embed_points(points, find_encoders(points, display), executor, display) if needed else None
    points = guard_leaks(points, text_leaks, display, embeddings)
    (prepared,) = prepare_points(points, models)
    label = arm
    tasks: tuple[str, ...] = ()
    if arm != "untuned" and embeddings is not None:
        ((subset,),) = select_subsets(points, embeddings, display)
        label, tasks = subset.arm, subset.tasks
    trial = make_trial(prepared, "fine-tune" if tasks else "untuned", tasks, seed)
    with display.stage("tokenise tasks") as on_progress:
        scores = make_scores(trial)
        wanted = [(prepared, score) for score in scores]
        shared = prepare(prepared, wanted, [prepared] if tasks else [], token_cache(sweep), on_progress)
    with tempfile.TemporaryDirectory() as scratch:
        spec = make_spec(trial, scores, Path(scratch) / trial.id)
        display.trials_start(1, 0)
        executor.run(
            [Job(spec, f"{label}, {counted(len(tasks), 'task')}, seed {seed}", "data")],
            {"data": shared},
            sweep,
            display,
        )
        return {score.suite.name: _scores_of(spec, score) for score in spec.scores}


def _scores_of(spec: TrialSpec, score: ScoreSpec) -> dict[str, Any]:
    outcome = read_outcome(spec.directory, score.id)
    if outcome.metrics is None:
        raise SimtuneError(outcome.failure.message if outcome.failure else "no results were written")
    return outcome.metrics.model_dump(mode="json")


def _selection_of(sweep: Sweep, arm: str, size: int | None, seed: int) -> SelectionSettings:
    """The selection with the one arm, size and seed of a trial; reads and computes nothing.

    Raises:
        UserError: the arm or the size is wrong.
    """
    if arm in HEURISTICS:
        raise UserError(f"--arm: {arm!r} copies and is not trained; give a strategy, {FULL_ARM} or untuned")
    if arm in {FULL_ARM, "untuned"}:
        if size is not None:
            has = "has the whole pool" if arm == FULL_ARM else "is trained on no task"
            raise UserError(f"--size: {size}; arm {arm!r} {has}, so leave --size out")
        wanted: dict[str, Any] = {"strategies": (), "sizes": ("all",)}
    else:
        if size is None:
            raise UserError(f"--size: missing; give the number of tasks for arm {arm!r}")
        wanted = {"strategies": (named_arm(arm, sweep.selection),), "sizes": (size,)}
    selection = sweep.selection.model_copy(update={**wanted, "seeds": (seed,)})
    resolve_arms(selection, "--arm")
    return selection
