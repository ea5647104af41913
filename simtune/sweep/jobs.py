"""What workers need for planned trials: the spec of each, and the tokenised tasks that several share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from simtune.config import Sweep
from simtune.config.encoding import EncodingSettings
from simtune.config.evaluation import suite_field
from simtune.config.settings import TrainingSettings, accumulation_steps
from simtune.corpus.task import Task
from simtune.drivers.run_lease import LeaseToken
from simtune.drivers.trial_claims import release_claim
from simtune.evaluation.baselines import HEURISTICS
from simtune.evaluation.rank_classification import check_choices
from simtune.evaluation.scores import PredictionRecord
from simtune.grid.prepared_points import PreparedPoint
from simtune.grid.suites import prompts_fingerprint
from simtune.progress import Display
from simtune.prompting.registry import make_renderer
from simtune.prompting.tokenizer import TextTokenizer
from simtune.storage.files import AnyPath, cache_folder, fingerprint
from simtune.sweep.missing_trials import MissingTrial
from simtune.sweep.trials import Trial
from simtune.training.examples import TOKENS_FORMAT, TokenisedTasks, tokenise_tasks
from simtune.training.token_store import stored
from simtune.trial.files import FAILURE
from simtune.trial.scoring import write_score
from simtune.trial.spec import ScoreSpec, SharedData, SuiteData, TrialSpec
from simtune.wording import counted


def shared_data(missing: Sequence[MissingTrial], sweep: Sweep, display: Display) -> dict[str, SharedData]:
    """What the trials read, by `data_key`: once for all that read the same."""
    shared: dict[str, SharedData] = {}
    alike: dict[str, list[MissingTrial]] = {}
    for each in missing:
        alike.setdefault(data_key(each.trial.prepared), []).append(each)
    for key, group in alike.items():
        with display.stage("tokenise tasks") as on_progress:
            scores = [(row.trial.prepared, row.score) for each in group for row in each.rows]
            trained = [each.trial.prepared for each in group if each.trains]
            shared[key] = prepare(group[0].trial.prepared, scores, trained, token_cache(sweep), on_progress)
        _note_tokenised(shared[key], display)
    return shared


def token_cache(sweep: Sweep) -> Path:
    """Where a storage keeps tokenised tasks."""
    return cache_folder(sweep.storage) / "tokens"


def data_key(prepared: PreparedPoint) -> str:
    """A key for what the trials of a grid point train on, whichever tasks they choose; splits of a corpus share it."""
    sweep = prepared.sweep
    return fingerprint(
        [
            [sweep.corpus.path, sweep.corpus.instances_per_task, sweep.corpus.seed, sweep.evaluation.held_in],
            sweep.encoding.model_dump(mode="json"),
            sweep.training.max_source_tokens,
            sweep.training.max_target_tokens,
            prepared.tokenizer.fingerprint,
            prepared.model.fingerprint,
        ]
    )


def _note_tokenised(shared: SharedData, display: Display) -> None:
    pool, tests = shared.pool, [suite.test for suite in shared.suites.values()]
    num_cut = sum(tokenised.num_cut for tokenised in (pool, *tests))
    num_left_out = sum(tokenised.num_left_out for tokenised in (pool, *tests))
    display.note(
        f"  {len(pool.sources)} training and {counted(sum(len(test.sources) for test in tests), 'test prompt')}; "
        f"{num_cut} cut at the source length, {counted(num_left_out, 'demonstration')} left out to fit"
    )


def prepare(
    prepared: PreparedPoint,
    scores: Iterable[tuple[PreparedPoint, ScoreSpec]],
    trained: Iterable[PreparedPoint],
    cache: Path,
    on_progress: Callable[[int, int], None],
) -> SharedData:
    """Tokenises what trials with one `data_key` read, or reads what an earlier run tokenised.

    Args:
        prepared: whose encoding, tokenizer and model they have.
        scores: what the trials are scored on, each with the grid point that its test tasks come from.
        trained: the grid points whose pools are trained on.
        cache: where tokenised tasks are kept.
        on_progress: called with tasks done and tasks in all.
    """
    scores = list(scores)
    points = {score.prompts: (of, of.point_tasks.suites[score.suite.name]) for of, score in scores}
    rouge_tokenizers = [of.rouge_tokenizers.get(score.suite.name) for of, score in scores]
    sets = [each.tasks for each in trained]
    pool = _by_name(task for tasks in sets for task in tasks.pool)
    held_in = _by_name(task for tasks in sets for task in tasks.held_in)
    total = len(pool) + len(held_in) + sum(len(suite.tasks) for _, suite in points.values())
    tokenised = _Tokenising(prepared.tokenizer, cache, on_progress, total)

    encoding, training = prepared.sweep.encoding, prepared.sweep.training
    suites: dict[str, SuiteData] = {}
    for key, (of, suite) in points.items():
        # Grid points that share a model may cut its sources at different lengths.
        test = tokenised(suite.tasks, suite.suite.encoding, of.sweep.training, suite.suite.num_choices)
        records = records_of(suite.tasks, suite.suite.encoding)
        references = [record.references for record in records]
        field = suite_field(of.sweep, suite.suite.name)
        check_choices(test, references, prepared.tokenizer, of.sweep.training.max_target_tokens, field)
        suites[key] = SuiteData(test, records)
    return SharedData(
        tokenised(pool, encoding, training),
        SuiteData(tokenised(held_in, encoding, training), records_of(held_in, encoding)) if held_in else None,
        suites,
        prepared.tokenizer,
        prepared.model,
        {tokenizer.fingerprint: tokenizer for tokenizer in rouge_tokenizers if tokenizer},
    )


@dataclass
class _Tokenising:
    """Tokenises sets of tasks one after the other, or reads what an earlier run tokenised.

    Attributes:
        tokenizer: of the model.
        cache: where tokenised tasks are kept.
        on_progress: called with tasks done and tasks in all.
        total: tasks of all sets.
        done: tasks of the sets before.
    """

    tokenizer: TextTokenizer
    cache: Path
    on_progress: Callable[[int, int], None]
    total: int
    done: int = 0

    def __call__(
        self, tasks: tuple[Task, ...], encoding: EncodingSettings, training: TrainingSettings, max_choices: int = 0
    ) -> TokenisedTasks:
        limits = (training.max_source_tokens, training.max_target_tokens)
        fingerprints = [prompts_fingerprint(task, max_choices) for task in tasks]
        settings = [encoding.model_dump(mode="json"), limits, max_choices, self.tokenizer.fingerprint]
        data = stored(
            self.cache / fingerprint([TOKENS_FORMAT, fingerprints, settings])[:16],
            lambda: tokenise_tasks(tasks, encoding, *limits, self.tokenizer, self._further, max_choices),
        )
        self._further(len(tasks), len(tasks))
        self.done += len(tasks)
        return data

    def _further(self, now: int, _: int) -> None:
        self.on_progress(self.done + now, self.total)


def _by_name(tasks: Iterable[Task]) -> tuple[Task, ...]:
    """The different tasks of several pools, in the order of a pool."""
    named = {task.name: task for task in tasks}
    return tuple(named[name] for name in sorted(named))


def records_of(tasks: Sequence[Task], encoding: EncodingSettings) -> tuple[PredictionRecord, ...]:
    """One record per test instance, without predictions; the references are what the prompt asks for."""
    renderer = make_renderer(encoding)
    return tuple(
        PredictionRecord(instance.id, task.name, task.category, prompt.targets, "")
        for task in tasks
        for instance, prompt in zip(task.instances, renderer.render_whole(task), strict=True)
    )


def run_heuristic(missing: MissingTrial, directory: AnyPath, lease: LeaseToken | None = None) -> None:
    """A baseline without a model: copies the input, or a demonstration's output."""
    predict = HEURISTICS[missing.trial.kind]
    spec = make_spec(missing.trial, missing.scores, directory, lease)
    for row in missing.rows:
        started = time.monotonic()
        # Grid points share this trial, and each has test tasks of its own.
        records = [
            PredictionRecord(instance.id, task.name, task.category, instance.outputs, predict(task, instance))
            for task in row.trial.prepared.point_tasks.suites[row.score.suite.name].tasks
            for instance in task.instances
        ]
        tokenizers = row.trial.prepared.rouge_tokenizers.values()
        known = {tokenizer.fingerprint: tokenizer for tokenizer in tokenizers}
        write_score(spec, row.score, records, None, {"evaluate_s": time.monotonic() - started}, None, known)
    (directory / FAILURE).unlink(missing_ok=True)
    release_claim(directory)


def make_spec(
    trial: Trial,
    scores: Sequence[ScoreSpec],
    directory: AnyPath,
    lease: LeaseToken | None = None,
    saved_epoch: int | None = None,
) -> TrialSpec:
    """What workers need to know about a trial and the scores to compute."""
    return TrialSpec(
        id=trial.id,
        kind=trial.kind,
        identity=trial.identity,
        tasks=trial.tasks,
        seed=trial.seed,
        sweep=trial.sweep,
        accumulation_steps=accumulation_steps(trial.sweep),
        directory=directory,
        scores=tuple(scores),
        saved_epoch=saved_epoch,
        lease=lease,
    )
