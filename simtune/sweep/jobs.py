"""From planned trials to what workers need: the spec of each, and the tokenised tasks that several share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from simtune.config import Sweep
from simtune.corpus.task import Task
from simtune.drivers.lease import LeaseToken
from simtune.evaluation.baselines import HEURISTICS
from simtune.evaluation.scores import PredictionRecord
from simtune.progress import Display
from simtune.storage.files import AnyPath, cache_folder, fingerprint
from simtune.sweep.stages import corpus_key
from simtune.sweep.trials import PlannedRow, Trial
from simtune.training.examples import TOKENS_FORMAT, TokenisedTasks, tokenise_tasks
from simtune.training.token_store import stored
from simtune.trial.run import SharedData, TrialSpec, records_of, write_results
from simtune.wording import counted


def shared_data(rows: Iterable[PlannedRow], sweep: Sweep, display: Display) -> dict[str, SharedData]:
    """What the trials read, once for all that read the same."""
    shared: dict[str, SharedData] = {}
    alike: dict[str, list[PlannedRow]] = {}
    for row in rows:
        alike.setdefault(data_key(row), []).append(row)
    for key, group in alike.items():
        with display.stage("tokenise tasks") as on_progress:
            needs_pool = any(row.trial.tasks for row in group)
            shared[key] = prepare(group[0].trial, needs_pool, token_cache(sweep), on_progress)
        _tell_tokenised(shared[key], display)
    return shared


def token_cache(sweep: Sweep) -> Path:
    """Where a storage keeps tokenised tasks."""
    return cache_folder(sweep.storage) / "tokens"


def data_key(row: PlannedRow) -> str:
    sweep, study = row.trial.sweep, row.trial.study
    return fingerprint(
        [
            corpus_key(study.task_study),
            sweep.encoding.model_dump(mode="json"),
            sweep.training.max_source_tokens,
            sweep.training.max_target_tokens,
            study.tokenizer.fingerprint,
            study.model.fingerprint,
        ]
    )


def job_label(row: PlannedRow) -> str:
    parts = [row.arm]
    if row.size is not None:
        parts.append(counted(len(row.trial.tasks), "task"))
    if row.seed is not None:
        parts.append(f"seed {row.seed}")
    grid = ", ".join(f"{key.split('.')[-1]}={value}" for key, value in row.grid if value is not None)
    return ", ".join([*parts, grid] if grid else parts)


def _tell_tokenised(shared: SharedData, display: Display) -> None:
    pool, test = shared.pool, shared.test
    display.note(
        f"  {len(pool.sources)} training and {counted(len(test.sources), 'test prompt')}; "
        f"{pool.num_cut + test.num_cut} cut at the source length, "
        f"{counted(pool.num_left_out + test.num_left_out, 'demonstration')} left out to fit"
    )


def prepare(trial: Trial, with_pool: bool, cache: Path, on_progress: Callable[[int, int], None]) -> SharedData:
    """Tokenises the tasks of a trial's study, or reads what an earlier run tokenised from `cache`.

    `with_pool` false leaves the pool's tasks out.
    """
    study, sweep = trial.study, trial.sweep
    pool = study.tasks.pool if with_pool else ()
    total = len(pool) + len(study.tasks.test)

    def tokenised(tasks: tuple[Task, ...], before: int) -> TokenisedTasks:
        limits = (sweep.training.max_source_tokens, sweep.training.max_target_tokens)
        fingerprints = [study.task_study.task_fingerprints[task.name] for task in tasks]
        encoding = sweep.encoding.model_dump(mode="json")
        key = fingerprint([TOKENS_FORMAT, fingerprints, encoding, limits, study.tokenizer.fingerprint])
        data = stored(
            cache / key[:16],
            lambda: tokenise_tasks(
                tasks, sweep.encoding, *limits, study.tokenizer, lambda done, _: on_progress(before + done, total)
            ),
        )
        on_progress(before + len(tasks), total)
        return data

    return SharedData(
        tokenised(pool, 0),
        tokenised(study.tasks.test, len(pool)),
        tuple(records_of(study.tasks.test)),
        study.tokenizer,
        study.model,
    )


def run_heuristic(trial: Trial, directory: AnyPath, lease: LeaseToken | None = None) -> None:
    """A baseline without a model: copies the input, or a demonstration's output."""
    started = time.monotonic()
    predict = HEURISTICS[trial.kind]
    records = [
        PredictionRecord(instance.id, task.name, task.category, instance.outputs, predict(task, instance))
        for task in trial.study.tasks.test
        for instance in task.instances
    ]
    spec = make_spec(trial, 1, directory, lease)
    write_results(spec, records, None, {"evaluate_s": time.monotonic() - started}, None)


def make_spec(
    trial: Trial,
    accumulation_steps: int,
    directory: AnyPath,
    lease: LeaseToken | None = None,
    gone: frozenset[str] = frozenset(),
) -> TrialSpec:
    return TrialSpec(
        trial.id,
        trial.kind,
        trial.identity,
        trial.tasks,
        trial.seed,
        trial.sweep,
        accumulation_steps,
        directory,
        lease,
        gone,
    )
