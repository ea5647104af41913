"""Trials and their scores: which ones a sweep has, and the identity of each.

A trial is a model, named by the hash of everything that decides its weights and of nothing that does not (names, paths,
workers, which arm chose its tasks). Two arms that chose the same tasks, two sweeps that share an arm, or a sweep run
again all meet in the same trial. A score is named by its trial and by everything that decides the suite's answers and
their scores, so that a further suite never changes what a model is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from simtune.config import Sweep
from simtune.config.evaluation import Suite, suites_of
from simtune.evaluation.baselines import HEURISTICS
from simtune.evaluation.xlingual import Gpt2Tokenize
from simtune.grid.grid_points import PointTasks
from simtune.grid.mixtures import mixture_identity, mixture_of, no_example_note
from simtune.grid.prepared_points import PreparedPoint
from simtune.grid.suites import SuiteTasks
from simtune.selection.subsets import Subset
from simtune.storage.files import fingerprint
from simtune.training.examples import TOKENS_FORMAT
from simtune.trial.spec import ScoreSpec

TrialKind = Literal["fine-tune", "untuned", "copy-input", "copy-demonstration"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Trial:
    """A model that a sweep needs.

    Attributes:
        id: 16 hexadecimal digits of the identity's SHA-256.
        identity: everything that decides its weights, ready for JSON.
        tasks: the training tasks, sorted; none for baselines.
        prepared: where tasks, tokenizer and model come from.
        num_examples: of an epoch.
    """

    id: str
    kind: TrialKind
    identity: dict[str, Any]
    tasks: tuple[str, ...]
    seed: int
    prepared: PreparedPoint
    num_examples: int

    @property
    def sweep(self) -> Sweep:
        return self.prepared.sweep

    @property
    def is_heuristic(self) -> bool:
        """Whether it copies its answers, so that no model is trained or run."""
        return self.kind in HEURISTICS

    @property
    def num_trained(self) -> int:
        """Tasks of which an epoch has an example."""
        mixture = self.identity.get("mixture") or {}
        return len(self.tasks) - sum(not num_examples for _, num_examples in mixture.values())

    @property
    def mixture_note(self) -> str:
        """Says which of its tasks it does not train on; empty where there are none."""
        return no_example_note(len(self.tasks) - self.num_trained, len(self.tasks))


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
    grid: tuple[tuple[str, object], ...]


def plan_rows(prepared_points: Sequence[PreparedPoint], subsets: Sequence[Sequence[Subset]]) -> list[PlannedRow]:
    """All rows of a sweep, point by point: its baselines, then its subsets, each with all suites.

    Args:
        prepared_points: the points of its grid.
        subsets: those of each point.
    """
    baselines = [_baseline_rows(prepared) for prepared in prepared_points]
    deciding = _deciding(baselines, [prepared.point.values for prepared in prepared_points])
    rows: dict[tuple[object, ...], PlannedRow] = {}
    for prepared, of_point, chosen in zip(prepared_points, baselines, subsets, strict=True):
        for row in of_point:
            decides = deciding[_series(row)]
            # A baseline that a grid does not touch is there once, not at each grid point.
            _add(rows, replace(row, grid=tuple((key, value if key in decides else None) for key, value in row.grid)))
        for subset in chosen:
            trial = make_trial(prepared, "fine-tune", subset.tasks, subset.seed)
            for score in make_scores(trial):
                columns = (subset.arm, subset.size, subset.seed, subset)
                _add(rows, PlannedRow(trial, score, *columns, prepared.point.values))
    return list(rows.values())


def _add(rows: dict[tuple[object, ...], PlannedRow], row: PlannedRow) -> None:
    key = (row.trial.id, row.score.id, row.score.suite.name, row.arm, row.size, row.seed, repr(row.grid))
    rows.setdefault(key, row)


def _baseline_rows(prepared: PreparedPoint) -> list[PlannedRow]:
    """The baselines of one grid point, with all its values."""
    rows: list[PlannedRow] = []
    seeds = prepared.sweep.selection.seeds
    for baseline in prepared.sweep.baselines:
        # Only the weights of a new model depend on the seed; those of a published model are fixed.
        seeded = baseline == "untuned" and prepared.sweep.model.init == "random"
        for seed in seeds if seeded else seeds[:1]:
            trial = make_trial(prepared, baseline, (), seed if seeded else 0)
            for score in make_scores(trial):
                row_seed = seed if seeded else None
                rows.append(PlannedRow(trial, score, baseline, None, row_seed, None, prepared.point.values))
    return rows


def _series(row: PlannedRow) -> tuple[str, str]:
    """What has a value at each grid point: a baseline on a suite."""
    return row.arm, row.score.suite.name


def _deciding(
    rows_by_point: Sequence[Sequence[PlannedRow]], values_by_point: Sequence[tuple[tuple[str, object], ...]]
) -> dict[tuple[str, str], set[str]]:
    """The swept settings that decide each baseline on each suite: those that alone change the ids of its rows."""
    deciding: dict[tuple[str, str], set[str]] = {_series(row): set() for rows in rows_by_point for row in rows}
    # The ids at the first of the points that differ in one setting only.
    first: dict[tuple[object, ...], set[tuple[object, ...]]] = {}
    for rows, values in zip(rows_by_point, values_by_point, strict=True):
        ids: dict[tuple[str, str], set[tuple[object, ...]]] = {series: set() for series in deciding}
        for row in rows:
            ids[_series(row)].add((row.seed, row.trial.id, row.score.id))
        for key, _ in values:
            others = repr([pair for pair in values if pair[0] != key])
            for series, here in ids.items():
                if first.setdefault((series, key, others), here) != here:
                    deciding[series].add(key)
    return deciding


def make_trial(prepared: PreparedPoint, kind: TrialKind, tasks: Iterable[str], seed: int) -> Trial:
    """A trial with its identity."""
    names = tuple(sorted(tasks))
    model, tokenizer = prepared.model.fingerprint, prepared.tokenizer.fingerprint
    identity, num_examples = model_identity(prepared.point_tasks, kind, names, seed, model, tokenizer)
    return Trial(fingerprint(identity)[:16], kind, identity, names, seed, prepared, num_examples)


def model_identity(
    point: PointTasks, kind: TrialKind, names: tuple[str, ...], seed: int, model: str, tokenizer: str
) -> tuple[dict[str, Any], int]:
    """Everything that decides a trial's weights, ready for JSON, and the examples of an epoch.

    Args:
        point: its settings and the texts of its tasks.
        kind: of the trial.
        names: of its training tasks, sorted.
        seed: of the trial.
        model: fingerprint of the initial weights.
        tokenizer: its fingerprint.
    """
    sweep, fingerprints = point.sweep, point.task_fingerprints
    num_examples = 0
    identity: dict[str, Any] = {"schema": SCHEMA_VERSION, "kind": kind}
    if kind in {"fine-tune", "untuned"}:
        identity |= {"seed": seed, "model": model, "tokenizer": tokenizer, "precision": sweep.training.precision}
    if kind == "fine-tune":
        shares = mixture_of((point.pool_by_name[name] for name in names), sweep)
        num_examples = sum(share.num_examples for share in shares.values())
        identity |= {
            "mixture": mixture_identity(shares),
            "train_tasks": {name: fingerprints[name] for name in names},
            **_model_settings(sweep),
        }
        if sweep.evaluation.held_in:
            held_in = point.held_in_fingerprints
            identity["held_in_tasks"] = {name: held_in[name] for name in names if name in held_in}
    return identity, num_examples


def _model_settings(sweep: Sweep) -> dict[str, Any]:
    """The settings that decide a fine-tuned model's weights, beside its tasks, tokenizer, initial weights and seed."""
    settings: dict[str, Any] = {
        "tokens": TOKENS_FORMAT,
        "precision": sweep.training.precision,
        "encoding": sweep.encoding.model_dump(mode="json"),
        "training": sweep.training.effective.model_dump(mode="json", exclude={"keep"}),
    }
    if sweep.evaluation.held_in:
        # The answers to the instances that are set aside decide which epoch's weights are saved.
        evaluation = sweep.evaluation
        settings["held_in"] = [evaluation.held_in, evaluation.max_new_tokens, evaluation.tokens_per_batch]
    return settings


def make_scores(trial: Trial) -> tuple[ScoreSpec, ...]:
    """The scores of a trial, one for each suite that applies to its kind."""
    tokenizers = trial.prepared.rouge_tokenizers
    return tuple(
        ScoreSpec(
            id=fingerprint(identity)[:16],
            suite=suite,
            identity=identity,
            tokens_per_batch=trial.sweep.evaluation.tokens_per_batch,
            prompts=prompts_key(trial.prepared, suite),
        )
        for suite, identity in score_identities(trial.id, trial.kind, trial.prepared.point_tasks, tokenizers)
    )


def score_identities(
    model: str, kind: TrialKind, point: PointTasks, rouge_tokenizers: Mapping[str, Gpt2Tokenize]
) -> Iterator[tuple[Suite, dict[str, Any]]]:
    """The suites that apply to a kind of trial, each with everything that decides its score."""
    for suite in suites_of(point.sweep):
        if kind in HEURISTICS and suite.method != "generate":
            continue
        tokenizer = rouge_tokenizers.get(suite.name)
        yield suite, _score_identity(model, kind, point.sweep, point.suites[suite.name], tokenizer)


def _score_identity(
    model: str, kind: TrialKind, sweep: Sweep, suite_tasks: SuiteTasks, rouge_tokenizer: Gpt2Tokenize | None
) -> dict[str, Any]:
    """Everything that decides a score, ready for JSON.

    Args:
        model: the trial's id.
        kind: of the trial.
        sweep: the settings of its grid point.
        suite_tasks: what it is scored on.
        rouge_tokenizer: of its suite; None is `rouge_score`'s own.
    """
    suite = suite_tasks.suite
    identity: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "model": model,
        "test_tasks": suite_tasks.fingerprint,
        "metrics": list(suite.computed_metrics),
        # What is in it: where it is has no effect.
        "rouge_tokenizer": rouge_tokenizer.fingerprint if rouge_tokenizer else None,
    }
    if kind not in HEURISTICS:
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
