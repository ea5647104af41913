"""Trials with made-up results, written by the functions that write real ones."""

from __future__ import annotations

from pathlib import Path

from simtune.storage.files import fingerprint
from simtune.storage.records import write_record
from simtune.sweep.run_files import MANIFEST, Manifest, PlannedTrial
from simtune.trial.files import METRICS, score_folder
from simtune.trial.records import Files, GroupScores, MeanScores, Metrics, Training

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
