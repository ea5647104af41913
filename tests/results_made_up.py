"""Trials with made-up results, written by the functions that write real ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from simtune.evaluation.metric_registry import METRICS as REGISTRY
from simtune.report.table_metadata import ArmInfo, MetricInfo, ResultsMetadata
from simtune.storage.files import fingerprint, write_text
from simtune.storage.parquet_files import write_table
from simtune.storage.records import write_record
from simtune.sweep.results import Planned, results_tables
from simtune.sweep.run_files import MANIFEST, Manifest, PlannedTrial
from simtune.trial.files import COSTS, METRICS, PREDICTIONS, read_outcomes, score_folder
from simtune.trial.records import Costs, Files, GroupScores, MeanScores, Metrics, Training

SCORE = "fedcba9876543210"


def trial_id(number: int) -> str:
    return fingerprint(number)[:16]


def metrics_of(trial: str, num_tasks: int = 2, num_steps: int = 3) -> Metrics:
    """A valid result whose scores follow from the trial's id."""
    values = {"rouge-l": int(trial, 16) % 10_000 / 100, "exact-match": 1 / 3}
    mean = MeanScores(values=values, num_instances=100 * num_tasks)
    headline = {"metric": "rouge-l", "headline": values["rouge-l"]}
    group = {**mean.model_dump(), "category": "textual_entailment", **headline}
    return Metrics(
        model=trial,
        score=SCORE,
        overall=mean,
        task_mean=mean,
        categories=tuple(GroupScores(name=f"category {n}", num_tasks=10, **group) for n in range(num_tasks // 10)),
        tasks=tuple(GroupScores(name=f"task{n:04d}_made_up", num_tasks=1, **group) for n in range(num_tasks)),
        training=Training(
            num_examples=8 * num_steps,
            num_source_tokens=1000 * num_steps,
            num_target_tokens=10 * num_steps,
            num_steps=num_steps,
            loss_by_epoch=(2.5, 1.25),
            losses=tuple(round(5 / (step + 1), 6) for step in range(num_steps)),
            accumulation_steps=1,
        ),
        files=Files(identity="0" * 64, predictions="0" * 64),
    )


def run_of(storage: Path, trials: list[str], name: str = "run") -> Path:
    """A run directory with a manifest of these trials."""
    manifest = Manifest(
        versions={"simtune": "0"},
        machine="",
        command=(),
        commits={},
        embeddings=(),
        grid_points={},
        trials={
            trial: PlannedTrial(label=f"random, 10 tasks, seed {number}", scores={SCORE: "test"})
            for number, trial in enumerate(trials)
        },
    )
    write_record(storage / name / MANIFEST, manifest)
    return storage / name


def finished_run(storage: Path, num_trials: int, num_tasks: int = 2, num_steps: int = 3) -> Path:
    """A run with this number of finished trials."""
    trials = [trial_id(number) for number in range(num_trials)]
    for trial in trials:
        write_record(score_folder(storage / "trials" / trial, SCORE) / METRICS, metrics_of(trial, num_tasks, num_steps))
    return run_of(storage, trials)


@dataclass(frozen=True)
class Shape:
    """How large a made-up sweep is.

    Attributes:
        answers: to each test task.
    """

    arms: int = 3
    sizes: tuple[int, ...] = (10, 50)
    seeds: int = 2
    pool: int = 60
    tests: int = 6
    answers: int = 4
    steps: int = 30


def made_sweep(storage: Path, shape: Shape, name: str = "made") -> Path:
    """A finished run with everything that its report reads, trials' files included; the same bytes each time."""
    draw = np.random.default_rng(0)
    run = run_of(storage, [], name)
    pool = [f"task{n:04d}_pool" for n in range(shape.pool)]
    tests = [f"task{n:04d}_test" for n in range(5000, 5000 + shape.tests)]
    rows, subsets, difficulty = [], [], draw.uniform(10, 60, shape.tests)
    for arm in range(shape.arms):
        for size in shape.sizes:
            for seed in range(shape.seeds):
                trial = trial_id(len(rows))
                chosen = draw.permutation(shape.pool)[:size]
                rows.append(_planned_row(trial, f"arm-{arm}", size, seed, draw))
                subsets += [
                    {"grid": "", "arm": f"arm-{arm}", "seed": seed, "size": size, "rank": rank, "task": pool[task]}
                    for rank, task in enumerate(chosen.tolist())
                ]
                merit = 8 * math.log10(size) + arm % 5 + draw.normal(0, 1)
                scores = np.clip(difficulty + merit + draw.normal(0, 6, shape.tests), 0, 100).round(4).tolist()
                _write_trial(storage, trial, tests, scores, shape)
    arms = tuple(ArmInfo(name=f"arm-{arm}", type="strategy") for arm in range(shape.arms))
    metric = MetricInfo.model_validate({f: getattr(REGISTRY["rouge-l"], f) for f in MetricInfo.model_fields})
    planned = Planned(tuple(rows), (), ResultsMetadata(arms=arms, metrics=(metric,)))
    for table, made in results_tables(planned, read_outcomes(storage / "trials", planned.scores)).items():
        write_table(run / f"{table}.parquet", made)
    roles = [(task, "pool") for task in pool] + [(task, "test") for task in tests]
    tasks = [
        {"grid": "", "task": task, "role": role, "category": f"category_{n % 13}", "num_instances": 50 + 7 * n % 400,
         "reason": "", "reason_group": ""}
        for n, (task, role) in enumerate(roles)
    ]  # fmt: skip
    write_table(run / "tasks.parquet", pa.Table.from_pylist(tasks))
    write_table(run / "subsets.parquet", pa.Table.from_pylist(subsets))
    centres = draw.normal(size=(13, 16))
    vectors = [(centres[n % 13] + draw.normal(0, 0.4, 16)).tolist() for n in range(len(roles))]
    embeddings = {"grid": [""] * len(roles), "task": [task for task, _ in roles], "embedding": vectors}
    write_table(run / "embeddings.parquet", pa.table(embeddings))
    write_text(run / "sweep.yaml", f"name: {name}\ncorpus: {{path: demo}}\n")
    return run


def _planned_row(trial: str, arm: str, size: int, seed: int, draw: np.random.Generator) -> dict[str, Any]:
    similarity = round(0.2 + 0.1 * draw.random(), 4)
    return {
        "trial": trial, "score": SCORE, "suite": "test", "prompt": "", "arm": arm, "note": "", "size": size,
        "seed": seed, "num_tasks": size, "num_examples": 8 * size, "num_categories": min(13, size),
        "mean_similarity": similarity, "max_similarity": 0.9, "coverage": round(0.4 + 0.0005 * size, 4),
    }  # fmt: skip


def _write_trial(storage: Path, trial: str, tests: list[str], scores: list[float], shape: Shape) -> None:
    """The files of one trial; its answers are right as often as its scores say."""
    made = metrics_of(trial, num_tasks=len(tests), num_steps=shape.steps)
    overall = MeanScores(values={"rouge-l": sum(scores) / len(scores)}, num_instances=len(tests) * shape.answers)

    def group(name: str, category: str, score: float, number: int) -> GroupScores:
        values = {"rouge-l": score}
        return GroupScores(
            values=values, num_instances=shape.answers, name=name, category=category, metric="rouge-l", headline=score,
            num_tasks=number,
        )  # fmt: skip

    tasks = [group(t, f"category_{n % 6}", s, 1) for n, (t, s) in enumerate(zip(tests, scores, strict=True))]
    names = sorted({task.category for task in tasks})
    own = {name: [task.headline for task in tasks if task.category == name] for name in names}
    categories = [group(name, name, sum(own[name]) / len(own[name]), len(own[name])) for name in names]
    record = made.model_copy(
        update={"overall": overall, "task_mean": overall, "tasks": tuple(tasks), "categories": tuple(categories)}
    )
    folder = score_folder(storage / "trials" / trial, SCORE)
    write_record(folder / METRICS, record)
    write_record(folder / COSTS, Costs(trial=trial, score=SCORE, train_s=3.0, evaluate_s=1.0, failed_attempts=0))
    answers = [
        {"instance_id": f"{task.name}-{n:03d}", "task": task.name, "category": task.category,
         "prediction": "the answer" if (n + 0.5) / shape.answers < task.headline / 100 else f"not {n} <b>this</b>",
         "references": ["The answer", "another answer"], "rouge_l": task.headline}
        for task in tasks for n in range(shape.answers)
    ]  # fmt: skip
    write_table(folder / PREDICTIONS, pa.Table.from_pylist(answers))
