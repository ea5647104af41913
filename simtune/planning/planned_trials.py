"""The trials of one grid point with what each will cost, and what is left of each where the sweep's run has it.

A subset's examples and tokens are the pool's mean times its number of tasks; the whole pool is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple, cast

from simtune.grid.choice_records import model_fingerprint
from simtune.grid.grid_points import PointTasks
from simtune.grid.mixtures import mixture_of, no_example_note
from simtune.planning.earlier_trials import TrialKey, TrialState, TrialStatus
from simtune.planning.expected_lengths import ExpectedLengths, LengthsOfPoints
from simtune.selection.strategies.listed_tasks import skipped_note
from simtune.selection.subsets import FULL_ARM, arms_and_sizes, resolve_arms, short_note, size_note
from simtune.storage.files import fingerprint
from simtune.sweep.trials import TrialKind, score_identities
from simtune.training.batch_order import expected_steps


@dataclass(frozen=True)
class Work:
    """What a trial computes; the fields are those of `PlannedTrial`."""

    num_steps: int = 0
    train_tokens: int = 0
    test_instances: int = 0
    test_tokens: int = 0


@dataclass(frozen=True)
class PlannedTrial:
    """The expected cost of one trial.

    Attributes:
        size: number of tasks asked for; None for baselines.
        num_examples: training examples, each read `epochs` times.
        train_tokens: source and target tokens read in training over all epochs, padding not counted.
        test_instances: of all suites.
        test_tokens: source tokens read in all suites.
        status: whether the sweep's run has it.
        left: what a run would compute of it now. Checkpoints of an interrupted training do not count.
    """

    grid: str
    arm: str
    size: int | None
    num_tasks: int
    seed: int | None
    num_examples: int
    num_steps: int
    train_tokens: int
    test_instances: int
    test_tokens: int
    note: str
    status: TrialStatus
    left: Work


def totals(trials: Sequence[PlannedTrial]) -> dict[str, int]:
    """The costs of trials together."""
    return {
        "trials": len(trials),
        "num_steps": sum(trial.num_steps for trial in trials),
        "train_tokens": sum(trial.train_tokens for trial in trials),
        "test_tokens": sum(trial.test_tokens for trial in trials),
    }


def left_of(trials: Iterable[PlannedTrial]) -> Iterator[PlannedTrial]:
    """The trials that a run would start now, each with the costs of what is left of it."""
    for trial in trials:
        if trial.status == "missing":
            yield replace(trial, **asdict(trial.left))


class Answers(NamedTuple):
    """The test instances of a suite, and the source tokens that a model reads of them."""

    instances: int
    tokens: float


def answers_of(prepared: PointTasks, known: ExpectedLengths, measured: LengthsOfPoints) -> dict[str, Answers]:
    """What each suite asks; `known` are the lengths with the training's encoding."""
    tokenizer, _ = measured.tokenizer(prepared)
    answers = {}
    for name, suite in prepared.suites.items():
        lengths = known
        if suite.suite.encoding != prepared.sweep.encoding:
            lengths = measured.measure(suite.tasks, suite.suite.encoding, prepared.sweep.training, tokenizer)
        answers[name] = Answers(
            sum(len(task.instances) for task in suite.tasks),
            sum(lengths.source[task.name] * len(task.instances) for task in suite.tasks),
        )
    return answers


def plan_point(prepared: PointTasks, lengths: ExpectedLengths, answers: Mapping[str, Answers]) -> list[PlannedTrial]:
    """The trials of a grid point, as if none of them were done."""
    sweep, pool = prepared.sweep, prepared.tasks.pool
    test_instances = sum(suite.instances for suite in answers.values())
    test_tokens = round(sum(suite.tokens for suite in answers.values()))
    counts = {name: share.num_examples for name, share in mixture_of(pool, sweep).items()}
    pool_examples = sum(counts.values())
    mean_source_tokens = sum(lengths.source[name] * count for name, count in counts.items()) / pool_examples
    pool_tokens = sum((lengths.source[name] + lengths.target[name]) * count for name, count in counts.items())

    def planned(arm: str, size: int | None, num_tasks: int, seed: int | None, note: str, reads: bool) -> PlannedTrial:
        fixed = num_tasks and sweep.mixture.examples_per_epoch
        share = 1.0 if fixed else num_tasks / len(pool)
        num_examples = round(pool_examples * share)
        whole = num_tasks == len(pool)
        num_without = sum(not count for count in counts.values()) if whole else max(0, num_tasks - num_examples)
        notes = (note, no_example_note(num_without, num_tasks, at_least=not whole))
        work = Work(
            num_steps=expected_steps(num_examples, mean_source_tokens, sweep.training),
            train_tokens=round(pool_tokens * share * sweep.training.epochs),
            test_instances=test_instances,
            test_tokens=test_tokens if reads else 0,
        )
        return PlannedTrial(
            grid=prepared.point.label,
            arm=arm,
            size=size,
            num_tasks=num_tasks,
            seed=seed,
            num_examples=num_examples,
            **asdict(work),
            note="; ".join(filter(None, notes)),
            status="missing",
            left=work,
        )

    trials = []
    for baseline in sweep.baselines:
        seeded = baseline == "untuned" and sweep.model.init == "random"
        for seed in sweep.selection.seeds if seeded else (None,):
            trials.append(planned(baseline, None, 0, seed, "", baseline == "untuned"))
    lists = _lists(prepared)
    for arm, size in arms_and_sizes(sweep.selection, len(pool)):
        num_listed, skipped = lists.get(arm, (len(pool), ""))
        num_tasks = min(size, num_listed)
        note = short_note(arm, size, num_tasks) if num_tasks < min(size, len(pool)) else size_note(arm, size, len(pool))
        note = "; ".join(filter(None, (note, skipped)))
        for seed in sweep.selection.seeds:
            trials.append(planned(arm, size, num_tasks, seed, note, True))
    return trials


def _lists(prepared: PointTasks) -> dict[str, tuple[int, str]]:
    """For each arm that is a list: how many tasks it can give, and the warning for names that are skipped."""
    pool = {task.name for task in prepared.tasks.pool}
    return {
        arm.label: (
            len(pool.intersection(arm.parameters["names"]).union(arm.options.include).difference(arm.options.exclude)),
            skipped_note(arm.label, arm.parameters, pool, prepared.tasks.why_absent),
        )
        for arm in resolve_arms(prepared.sweep.selection)
        if arm.strategy.names_tasks
    }


def baseline_key(prepared: PointTasks, trial: PlannedTrial) -> str:
    """Names everything that decides a baseline's scores: points of a grid where it is equal share the baseline."""
    kind = cast(TrialKind, trial.arm)
    scores = [
        {**identity, "rouge_tokenizer": suite.rouge_tokenizer}
        for suite, identity in score_identities("", kind, prepared, {})
    ]
    model = [model_fingerprint(prepared), prepared.sweep.training.precision] if kind == "untuned" else []
    return fingerprint({"arm": trial.arm, "seed": trial.seed, "model": model, "scores": scores})


def key_of(trial: PlannedTrial) -> TrialKey:
    """What tells this trial from the others of its grid point."""
    is_baseline = trial.size is None
    size = None if trial.arm == FULL_ARM else trial.size
    return TrialKey(cast(TrialKind, trial.arm) if is_baseline else "fine-tune", trial.arm, size, trial.seed)


def in_state(trial: PlannedTrial, state: TrialState, answers: Mapping[str, Answers]) -> PlannedTrial:
    """A planned trial as the sweep's run has it."""
    if state.status != "missing":
        return replace(trial, status=state.status, left=Work())
    if state.suites is None:
        return trial
    suites = [answers[suite] for suite in sorted(state.suites)]
    left = Work(
        num_steps=trial.num_steps if state.trains else 0,
        train_tokens=trial.train_tokens if state.trains else 0,
        test_instances=sum(suite.instances for suite in suites),
        test_tokens=round(sum(suite.tokens for suite in suites)) if trial.test_tokens else 0,
    )
    return replace(trial, left=left)
