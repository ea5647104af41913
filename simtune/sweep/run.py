"""Running a sweep: making the results exist that it names and that are not there yet.

Resuming after a crash, growing a grid, and two sweeps that share arms are this one operation.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simtune import __version__
from simtune.config import Sweep, dump_sweep
from simtune.config.settings import accumulation_steps
from simtune.embedding.embed import TaskEmbeddings, embed_tasks
from simtune.graph.similarity import SimilarityGraph
from simtune.report.build import build_report
from simtune.selection.subsets import Subset, build_subsets, subsets_table
from simtune.storage import fingerprint, run_lock, write_json, write_table, write_text
from simtune.sweep.display import Display
from simtune.sweep.executors import Executor, Job
from simtune.sweep.results import read_failure, read_metrics, results_tables
from simtune.sweep.study import Study, TaskStudy, check_encoders, open_studies, open_tasks
from simtune.sweep.trial_run import SharedData, make_spec, prepare, run_heuristic
from simtune.sweep.trials import PlannedRow, plan_rows, unique_rows

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

    run_directory: Path
    results: pa.Table
    report: Path
    num_run: int
    num_failed: int


def run_sweep(sweep: Sweep, executor: Executor, display: Display, command: Sequence[str] = ()) -> RunOutcome:
    """Embeds, selects, trains what is missing, scores and reports.

    Raises:
        UserError: wrong input, found before the run directory exists.
        RunError: another driver holds the run.
    """
    task_studies = read_tasks(sweep, display)
    for task_study in task_studies:
        executor.check(task_study.sweep)
    with display.stage("load tokenizer and model"):
        check_encoders(task_studies)
        studies = open_studies(task_studies)
    run_directory = Path(sweep.storage) / sweep.name
    with run_lock(run_directory):
        write_text(run_directory / "sweep.yaml", dump_sweep(sweep))
        embeddings = embed_studies(task_studies, executor, display)
        subsets = select_subsets(task_studies, embeddings, display)
        write_stage_tables(run_directory, task_studies, embeddings, subsets)
        rows = unique_rows(
            row for study, chosen in zip(studies, subsets, strict=True) for row in plan_rows(study, chosen)
        )
        write_json(run_directory / "manifest.json", _manifest(rows, embeddings, command))
        num_run = _run_missing(rows, sweep, executor, display)
        with display.stage("gather results and report"):
            tables = results_tables(rows, Path(sweep.storage) / "trials")
            for name, table in tables.items():
                write_table(run_directory / f"{name}.parquet", table)
            report = build_report(run_directory)
    num_failed = sum(status != "done" for status in tables["results"]["status"].to_pylist())
    return RunOutcome(run_directory, tables["results"], report, num_run, num_failed)


def read_tasks(sweep: Sweep, display: Display) -> list[TaskStudy]:
    """Reads and checks the tasks, telling what was dropped."""
    with display.stage("read tasks") as on_progress:
        task_studies = open_tasks(sweep, on_progress)
    tasks = task_studies[0].tasks
    display.note(f"  {len(tasks.pool)} tasks in the pool, {len(tasks.test)} held out, {len(tasks.dropped)} dropped")
    absent = [record.task for record in tasks.dropped if record.reason.endswith("not on disk")]
    if absent:
        display.warn(
            f"the split names {len(absent)} tasks that are not on disk: {', '.join(absent[:3])}, ... (tasks.parquet)"
        )
    unreadable = [record.task for record in tasks.dropped if record.reason.startswith("unreadable")]
    if unreadable:
        display.warn(
            f"{len(unreadable)} unreadable task files were left out: {', '.join(unreadable[:3])} (tasks.parquet)"
        )
    return task_studies


def embed_studies(task_studies: Sequence[TaskStudy], executor: Executor, display: Display) -> list[TaskEmbeddings]:
    """Embeddings of the pool and the test tasks at each grid point, each distinct text once."""
    cache = Path(task_studies[0].sweep.storage) / "cache" / "embeddings"
    made: dict[str, TaskEmbeddings] = {}
    result = []
    for study in task_studies:
        key = _embedding_key(study)
        if key not in made:
            with display.stage("embed tasks") as on_progress:
                tasks = (*study.tasks.pool, *study.tasks.test)
                made[key] = embed_tasks(tasks, study.sweep.embedding, cache, executor.encode_texts, on_progress)
            _tell_embeddings(made[key], display)
        result.append(made[key])
    return result


def graph_of(study: TaskStudy, embedded: TaskEmbeddings) -> SimilarityGraph:
    """The similarity graph of a study's pool, with its test tasks beside it."""
    pool, test = study.tasks.pool, study.tasks.test
    return SimilarityGraph.build(
        [task.name for task in pool],
        [task.category for task in pool],
        embedded.of([task.name for task in pool]),
        embedded.of([task.name for task in test]),
    )


def select_subsets(
    task_studies: Sequence[TaskStudy], embeddings: Sequence[TaskEmbeddings], display: Display
) -> list[list[Subset]]:
    """The subsets at each grid point."""
    made: dict[str, list[Subset]] = {}
    with display.stage("choose subsets"):
        for study, embedded in zip(task_studies, embeddings, strict=True):
            key = _embedding_key(study)
            if key not in made:
                made[key] = build_subsets(graph_of(study, embedded), study.sweep.selection)
    for note in dict.fromkeys(subset.note for subsets in made.values() for subset in subsets if subset.note):
        display.warn(note)
    return [made[_embedding_key(study)] for study in task_studies]


def write_stage_tables(
    run_directory: Path,
    task_studies: Sequence[TaskStudy],
    embeddings: Sequence[TaskEmbeddings],
    subsets: Sequence[Sequence[Subset]] = (),
) -> None:
    """Writes `tasks`, `embeddings` and `subsets.parquet`; column `grid` says which swept values rows belong to."""
    import pyarrow as pa

    tables: dict[str, dict[str, pa.Table]] = {"tasks": {}, "embeddings": {}, "subsets": {}}
    for index, study in enumerate(task_studies):
        label = _label(study, ("corpus.", "evaluation.instances_per_task"))
        tables["tasks"].setdefault(label, study.tasks.table())
        label = _label(study, ("corpus.", "embedding.", "evaluation.instances_per_task"))
        tables["embeddings"].setdefault(label, embeddings[index].table())
        if subsets:
            tables["subsets"].setdefault(label, subsets_table(subsets[index]))
    for name, by_label in tables.items():
        if by_label:
            parts = [
                table.add_column(0, "grid", pa.array([label] * len(table), pa.string()))
                for label, table in by_label.items()
            ]
            write_table(run_directory / f"{name}.parquet", pa.concat_tables(parts).combine_chunks())


def _run_missing(rows: Sequence[PlannedRow], sweep: Sweep, executor: Executor, display: Display) -> int:
    trials_root = Path(sweep.storage) / "trials"
    missing: dict[str, PlannedRow] = {}
    done = set()
    for row in rows:
        directory = trials_root / row.trial.id
        if read_metrics(directory) is not None:
            done.add(row.trial.id)
        elif (read_failure(directory) or {"retry": True})["retry"]:
            missing.setdefault(row.trial.id, row)
    heuristics = [row for row in missing.values() if row.trial.kind.startswith("copy-")]
    for row in heuristics:
        with display.stage(f"baseline {row.arm}"):
            run_heuristic(row.trial, trials_root / row.trial.id)
    to_train = [row for row in missing.values() if not row.trial.kind.startswith("copy-")]
    display.trials_start(len(to_train), len(done))
    if to_train:
        shared: dict[str, SharedData] = {}
        jobs = []
        for row in sorted(to_train, key=lambda row: -len(row.trial.tasks)):
            # Longest first: the last trial to end decides when the sweep ends.
            key = _data_key(row)
            if key not in shared:
                with display.stage("tokenise tasks") as on_progress:
                    needs_pool = any(other.trial.tasks for other in to_train if _data_key(other) == key)
                    shared[key] = prepare(row.trial, needs_pool, token_cache(sweep), on_progress)
                _tell_tokenised(shared[key], display)
            spec = make_spec(row.trial, accumulation_steps(row.trial.sweep), trials_root / row.trial.id)
            jobs.append(Job(spec, _job_label(row), key))
        executor.run(jobs, shared, sweep, display)
    return len(missing)


def token_cache(sweep: Sweep) -> Path:
    """Where a storage keeps tokenised tasks."""
    return Path(sweep.storage) / "cache" / "tokens"


def _data_key(row: PlannedRow) -> str:
    sweep, study = row.trial.sweep, row.trial.study
    return fingerprint(
        [
            _corpus_key(study.task_study),
            sweep.encoding.model_dump(mode="json"),
            sweep.training.max_source_tokens,
            sweep.training.max_target_tokens,
            study.tokenizer.fingerprint,
            study.model.fingerprint,
        ]
    )


def _corpus_key(study: TaskStudy) -> str:
    return fingerprint([study.sweep.corpus.model_dump(mode="json"), study.sweep.evaluation.instances_per_task])


def _embedding_key(study: TaskStudy) -> str:
    return fingerprint([_corpus_key(study), study.sweep.embedding.model_dump(mode="json")])


def _label(study: TaskStudy, deciding: tuple[str, ...]) -> str:
    return ", ".join(f"{key}={value}" for key, value in study.point.values if key.startswith(deciding))


def _job_label(row: PlannedRow) -> str:
    parts = [row.arm]
    if row.size is not None:
        parts.append(f"{len(row.trial.tasks)} tasks")
    if row.seed is not None:
        parts.append(f"seed {row.seed}")
    grid = ", ".join(f"{key.split('.')[-1]}={value}" for key, value in row.grid if value is not None)
    return ", ".join([*parts, grid] if grid else parts)


def _tell_embeddings(embedded: TaskEmbeddings, display: Display) -> None:
    cached = (
        f"{embedded.num_computed} encoded now, the rest from the cache"
        if embedded.num_computed
        else "all from the cache"
    )
    display.note(
        f"  {len(embedded.names)} tasks, {cached}; "
        f"{embedded.num_cut} texts cut at the encoder's {embedded.max_tokens} tokens"
    )
    if embedded.num_damaged:
        display.warn(f"{embedded.num_damaged} damaged entries of the embedding cache were set aside and encoded again")


def _tell_tokenised(shared: SharedData, display: Display) -> None:
    pool, test = shared.pool, shared.test
    display.note(
        f"  {len(pool.sources)} training and {len(test.sources)} test prompts; "
        f"{pool.num_cut + test.num_cut} cut at the source length, "
        f"{pool.num_left_out + test.num_left_out} demonstrations left out to fit"
    )


def _manifest(
    rows: Sequence[PlannedRow], embeddings: Sequence[TaskEmbeddings], command: Sequence[str]
) -> dict[str, Any]:
    versions = {"simtune": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    studies: dict[str, Study] = {}
    for row in rows:
        studies.setdefault(row.trial.study.point.label, row.trial.study)
    return {
        "versions": versions,
        "machine": f"{platform.system()} {platform.machine()}",
        "command": list(command),
        "embeddings": [
            {
                "encoder": embedded.encoder_fingerprint,
                "max_tokens": embedded.max_tokens,
                "num_tasks": len(embedded.names),
                "num_cut": embedded.num_cut,
            }
            for embedded in {id(embedded): embedded for embedded in embeddings}.values()
        ],
        "studies": {
            label or "all": {
                "pool_tasks": len(study.tasks.pool),
                "test_tasks": len(study.tasks.test),
                "corpus": fingerprint(sorted(study.task_study.task_fingerprints.items())),
                "tokenizer": study.tokenizer.fingerprint,
                "model": study.model.fingerprint,
            }
            for label, study in studies.items()
        },
        "trials": {row.trial.id: _job_label(row) for row in rows},
    }
