"""Trials and their scores: which ones a sweep has, and the identity of each.

A trial is a model, named by the hash of everything that decides its weights and of nothing that does not (names, paths,
workers, which arm chose its tasks). Two arms that chose the same tasks, two sweeps that share an arm, or a sweep run
again all meet in the same trial. A score is named by its trial and by everything that decides the suite's answers and
their scores, so that a further suite never changes what a model is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from simtune.config import Sweep
from simtune.config.evaluation import Suite, suites_of
from simtune.selection.subsets import Subset
from simtune.storage.files import fingerprint
from simtune.sweep.mixtures import mixture_identity, mixture_of
from simtune.sweep.prepared_points import PreparedPoint
from simtune.sweep.suites import SuiteTasks
from simtune.training.examples import TOKENS_FORMAT
from simtune.trial.spec import ScoreSpec

TrialKind = Literal["fine-tune", "untuned", "copy-input", "copy-demonstration"]

SCHEMA_VERSION = 1

# Settings that decide each kind of result; a grid over any other setting has no effect on it.
_DECIDING: dict[TrialKind, tuple[str, ...]] = {
    "fine-tune": (
        *("corpus.", "leakage.", "embedding.", "model.", "encoding.", "mixture.", "training.", "evaluation."),
    ),
    "untuned": (
        "corpus.",
        "model.",
        "encoding.",
        "training.max_source_tokens",
        "training.precision",
        "evaluation.",
    ),
    "copy-input": ("corpus.", "evaluation.instances_per_task", "evaluation.suites"),
    "copy-demonstration": ("corpus.", "evaluation.instances_per_task", "evaluation.suites"),
}


@dataclass(frozen=True)
class Trial:
    """A model that a sweep needs.

    Attributes:
        id: 16 hexadecimal digits of the identity's SHA-256.
        identity: everything that decides its weights, ready for JSON.
        tasks: the training tasks, sorted; none for baselines.
        prepared: where tasks, tokenizer and model come from.
    """

    id: str
    kind: TrialKind
    identity: dict[str, Any]
    tasks: tuple[str, ...]
    seed: int
    prepared: PreparedPoint

    @property
    def sweep(self) -> Sweep:
        return self.prepared.sweep


@dataclass(frozen=True)
class PlannedRow:
    """A row of the results: a score of a trial, and its place in the sweep.

    Attributes:
        score: on one suite.
        size: as asked for; None for baselines.
        seed: None where no seed decides the result.
        grid: the swept settings; None where one does not decide the result.
    """

    trial: Trial
    score: ScoreSpec
    arm: str
    size: int | None
    seed: int | None
    subset: Subset | None
    grid: tuple[tuple[str, Any], ...]


def plan_rows(prepared: PreparedPoint, subsets: Sequence[Subset]) -> list[PlannedRow]:
    """All rows of one grid point: its baselines, then its subsets, each with all suites."""
    rows: list[PlannedRow] = []
    seeds = prepared.sweep.selection.seeds
    for baseline in prepared.sweep.baselines:
        # Only the weights of a new model depend on the seed; those of a published model are fixed.
        seeded = baseline == "untuned" and prepared.sweep.model.init == "random"
        for seed in seeds if seeded else seeds[:1]:
            trial = make_trial(prepared, baseline, (), seed if seeded else 0)
            grid = _grid(prepared, baseline)
            for score in make_scores(trial):
                rows.append(PlannedRow(trial, score, baseline, None, seed if seeded else None, None, grid))
    for subset in subsets:
        trial = make_trial(prepared, "fine-tune", subset.tasks, subset.seed)
        grid = _grid(prepared, "fine-tune")
        for score in make_scores(trial):
            rows.append(PlannedRow(trial, score, subset.arm, subset.size, subset.seed, subset, grid))
    return rows


def make_trial(prepared: PreparedPoint, kind: TrialKind, tasks: Iterable[str], seed: int) -> Trial:
    """A trial with its identity."""
    sweep, fingerprints = prepared.sweep, prepared.point_tasks.task_fingerprints
    names = tuple(sorted(tasks))
    identity: dict[str, Any] = {"schema": SCHEMA_VERSION, "kind": kind}
    if kind in {"fine-tune", "untuned"}:
        identity |= {
            "seed": seed,
            "model": prepared.model.fingerprint,
            "tokenizer": prepared.tokenizer.fingerprint,
            "precision": sweep.training.precision,
        }
    if kind == "fine-tune":
        wanted = set(names)
        shares = mixture_of((task for task in prepared.tasks.pool if task.name in wanted), sweep)
        identity |= {
            "mixture": mixture_identity(shares),
            "train_tasks": {name: fingerprints[name] for name in names},
            **model_settings(sweep),
        }
    return Trial(fingerprint(identity)[:16], kind, identity, names, seed, prepared)


def model_settings(sweep: Sweep) -> dict[str, Any]:
    """The settings that decide a fine-tuned model's weights, beside its tasks, tokenizer, initial weights and seed."""
    settings: dict[str, Any] = {
        "tokens": TOKENS_FORMAT,
        "precision": sweep.training.precision,
        "encoding": sweep.encoding.model_dump(mode="json"),
        "training": sweep.training.model_dump(mode="json", exclude={"keep"}),
    }
    if sweep.evaluation.held_in:
        # The answers to the instances that are set aside decide which epoch's weights are saved.
        evaluation = sweep.evaluation
        settings["held_in"] = [evaluation.held_in, evaluation.max_new_tokens, evaluation.tokens_per_batch]
    return settings


def make_scores(trial: Trial) -> tuple[ScoreSpec, ...]:
    """The scores of a trial, one for each suite that applies to its kind."""
    scores = []
    for suite in suites_of(trial.sweep):
        if trial.kind.startswith("copy-") and suite.method != "generate":
            continue
        identity = score_identity(trial.id, trial.kind, trial.sweep, trial.prepared.point_tasks.suites[suite.name])
        scores.append(
            ScoreSpec(
                id=fingerprint(identity)[:16],
                suite=suite,
                identity=identity,
                tokens_per_batch=trial.sweep.evaluation.tokens_per_batch,
                prompts=prompts_key(trial.prepared, suite),
            )
        )
    return tuple(scores)


def score_identity(model: str, kind: TrialKind, sweep: Sweep, suite_tasks: SuiteTasks) -> dict[str, Any]:
    """Everything that decides a score, ready for JSON.

    Args:
        model: the trial's id.
        kind: of the trial.
        sweep: the settings of its grid point.
        suite_tasks: what it is scored on.
    """
    suite = suite_tasks.suite
    identity: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "model": model,
        "test_tasks": suite_tasks.fingerprint,
        "metrics": list(suite.metrics),
        "rouge_tokenizer": suite.rouge_tokenizer,
    }
    if not kind.startswith("copy-"):
        identity |= {
            "method": suite.method,
            "tokens": TOKENS_FORMAT,
            "encoding": suite.encoding.model_dump(mode="json"),
            "max_source_tokens": sweep.training.max_source_tokens,
            "tokens_per_batch": sweep.evaluation.tokens_per_batch,
        }
        if suite.method == "generate":
            identity |= {"max_new_tokens": suite.max_new_tokens}
        else:
            limits = {"max_choices": suite.max_choices, "max_target_tokens": sweep.training.max_target_tokens}
            identity |= {"length_normalised": suite.length_normalised, **limits}
    return identity


def prompts_key(prepared: PreparedPoint, suite: Suite) -> str:
    """Names the tokenised prompts of a suite at a grid point."""
    sweep = prepared.sweep
    return fingerprint(
        [
            prepared.point_tasks.suites[suite.name].fingerprint,
            suite.encoding.model_dump(mode="json"),
            [sweep.training.max_source_tokens, sweep.training.max_target_tokens, suite.num_choices],
            prepared.tokenizer.fingerprint,
        ]
    )[:16]


def _grid(prepared: PreparedPoint, kind: TrialKind) -> tuple[tuple[str, Any], ...]:
    deciding = _DECIDING[kind]
    if kind == "untuned" and prepared.sweep.model.tokenizer == "pool":
        # The tokenizer is not trained on tasks that leak; which do, the encoder says too.
        deciding += ("leakage.", "embedding.") if prepared.sweep.leakage.policy == "remove" else ("leakage.",)
    if kind == "untuned" and any(suite.method == "rank" for suite in suites_of(prepared.sweep)):
        # Answer choices are cut at this length.
        deciding += ("training.max_target_tokens",)
    return tuple((key, value if key.startswith(deciding) else None) for key, value in prepared.point.values)


def unique_rows(rows: Iterable[PlannedRow]) -> list[PlannedRow]:
    """Rows without repeats: a baseline that a grid does not touch appears once, not at each grid point."""
    seen: dict[tuple[Any, ...], PlannedRow] = {}
    for row in rows:
        seen.setdefault(
            (row.trial.id, row.score.id, row.score.suite.name, row.arm, row.size, row.seed, repr(row.grid)), row
        )
    return list(seen.values())
