"""Every field of a sweep file, with its unit, its range and the study's value as the default.

Whatever decides a result is a field here; nothing that decides a result is a constant elsewhere. The models are
frozen and refuse unknown keys. Two rules need several fields at once and live in validators: the effective batch
must be met exactly, and names must be usable as directory names.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, field_validator, model_validator

from simtune.config.encoding import EncodingSettings
from simtune.config.evaluation import EvaluationSettings
from simtune.config.fields import Count, CountOrZero, Flag, RuleError, Section, Seed, Share, Text, without_repeats
from simtune.config.holdout import HoldoutSettings
from simtune.config.mixture import MixtureSettings
from simtune.config.selection import MOST_TRIALS, SelectionSettings, num_subsets
from simtune.wording import counted

MOST_GRID_POINTS = 1000
"""Points of a grid; each is checked by itself, in about a millisecond."""

RUN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"

Keep = Literal["none", "last", "best", "all"]


class CorpusSettings(Section):
    """Which tasks there are, which are held out, and what is drawn of each."""

    path: Text = "demo"
    """A folder with `tasks/*.json` (or the JSON files themselves), or `demo` for the bundled corpus."""
    holdout: HoldoutSettings = HoldoutSettings(split="default")
    """Which tasks are test tasks; the others are the pool."""
    min_instances: Count = 100
    """Pool tasks with fewer instances are dropped."""
    instances_per_task: Count = 100
    """Instances drawn of each pool task, seeded by its name, the same for every arm."""
    seed: Seed = 0
    """Seed of that draw."""
    skip_bad: Flag = False
    """Leave out task files that cannot be read (recorded in the run) instead of stopping."""


LeakPolicy = Literal["error", "remove", "allow"]


class LeakageSettings(Section):
    """What counts as a leak between pool and held-out tasks, and what is done about it."""

    short_forms: ClassVar[tuple[str, ...]] = get_args(LeakPolicy)

    policy: LeakPolicy = "error"
    """`error` stops before training, `remove` drops the pool task, `allow` trains on it; all three list the pairs."""
    max_similarity: Annotated[float, Field(strict=True, gt=-1, le=1)] = 0.95
    """Pairs with a cosine of at least this are near-duplicates."""
    max_definition_similarity: Share = 0.95
    """Definitions this similar or more (1 - normalised edit distance of their normalised text) are the same."""
    max_shared_instances: Share = 0.05
    """Most instances of a pool task that may be instances of one test task, by normalised input."""
    sources: Flag = True
    """Whether tasks drawn from the same source data set leak."""


class EmbeddingSettings(Section):
    """How a task becomes a vector."""

    encoder: Text = "sentence-transformers/all-MiniLM-L6-v2"
    """A hub name or a folder."""
    revision: Text | None = None
    fields: Annotated[tuple[Literal["category", "definition", "positive", "negative"], ...], Field(min_length=1)] = (
        "category",
        "definition",
        "positive",
        "negative",
    )
    """In this order; what lies beyond the encoder's limit is cut."""
    num_demonstrations: CountOrZero = 2
    """Demonstrations taken of each of `positive` and `negative`."""
    batch_size: Count = 32
    """Texts an encoder call."""

    _no_repeats = field_validator("fields")(without_repeats)


class ModelSettings(Section):
    """Which model is fine-tuned."""

    name: Text = "google-t5/t5-small"
    """A hub name or a folder. With `init: random` only its sizes are used."""
    revision: Text | None = None
    init: Literal["pretrained", "random"] = "pretrained"
    tokenizer: Text | None = None
    """A hub name or a folder; null takes the model's; `pool` trains one on the pool's text."""
    vocab_size: Annotated[int, Field(strict=True, ge=300)] = 2000
    """Pieces of a tokenizer trained on the pool."""
    config: dict[str, bool | int | float | str | None] = Field(default_factory=dict)
    """With `init: random`: sizes that differ from the named model's, as keys of its config.json. The model's family
    knows which keys there are, and checks them."""

    @model_validator(mode="after")
    def _sizes_need_new_weights(self) -> ModelSettings:
        if self.init == "pretrained":
            if self.config:
                text = "sets model.config, which would not fit pretrained weights: set init: random"
                raise RuleError(text, "config", "init")
            if self.tokenizer == "pool":
                text = "asks for a tokenizer of the pool with pretrained weights: set init: random"
                raise RuleError(text, "tokenizer", "init")
        return self


class TrainingSettings(Section):
    """How the model is fine-tuned (Tk-Instruct's values)."""

    epochs: Count = 2
    learning_rate: Annotated[float, Field(strict=True, gt=0)] = 5.0e-5
    schedule: Literal["constant", "linear"] = "constant"
    """`linear` falls to zero at the last step."""
    warmup_steps: CountOrZero = 0
    adam_beta2: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.999
    weight_decay: Annotated[float, Field(strict=True, ge=0)] = 0.0
    gradient_clipping: Annotated[float, Field(strict=True, ge=0)] = 1.0
    """Largest norm of the gradient; 0 does not clip."""
    dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] | None = None
    """null keeps the model's own."""
    batch_size: Count = 16
    """Examples an optimizer step, over all workers and accumulation steps."""
    micro_batch_size: Count | None = None
    """Examples a worker takes at once; null takes all of its share, without accumulation."""
    tokens_per_batch: Count | None = None
    """Source tokens an optimizer step, including padding, instead of `batch_size` examples (as T0 and FLAN do)."""
    micro_batch_tokens: Count | None = None
    """With `tokens_per_batch`: source tokens a worker takes at once, to within one example; null takes its share."""
    batching: Literal["length", "random"] = "length"
    """`length`: examples of similar length share a step, in shuffled order; `random` as Tk-Instruct does."""
    max_source_tokens: Annotated[int, Field(strict=True, ge=8)] = 1024
    max_target_tokens: Count = 128
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    zero_stage: Annotated[int, Field(strict=True, ge=0, le=3)] = 2
    offload: Literal["none", "optimizer", "parameters"] = "none"
    """What DeepSpeed keeps in the host's memory: nothing, the optimizer's state (`zero_stage` 1 or more), or the
    parameters too (`zero_stage` 3). Saves GPU memory, costs time."""
    gradient_checkpointing: Flag = False
    """Computes activations again in the backward pass: less memory, about a third more time."""
    compile: Flag = False
    """torch.compile for encoder and decoder. Minutes of compiling, once a worker: pays on GPUs and long trainings."""
    keep: Keep = "none"
    """Which fine-tuned weights stay on disk: none, the final ones (`last`), those after every epoch (`all`), or those
    after the best epoch (`best`): the one that answers the instances of `evaluation.held_in` best, or without them the
    one with the lowest mean training loss. Test scores are always of the final weights."""

    @property
    def effective(self) -> TrainingSettings:
        """The same training with one way to write it: what has no effect has its default value."""
        ineffective: dict[str, Any] = {}
        if self.tokens_per_batch is not None:
            ineffective["batch_size"] = TrainingSettings.model_fields["batch_size"].default
            if (self.micro_batch_tokens or 0) >= self.tokens_per_batch:
                ineffective["micro_batch_tokens"] = None
        elif self.micro_batch_size == self.batch_size:
            ineffective["micro_batch_size"] = None
        return self.model_copy(update=ineffective)

    @model_validator(mode="after")
    def _sizes_and_stages_fit(self) -> TrainingSettings:
        if self.tokens_per_batch is None and self.micro_batch_tokens is not None:
            raise ValueError("has micro_batch_tokens without tokens_per_batch: give both, or micro_batch_size")
        if self.tokens_per_batch is not None:
            if self.micro_batch_size is not None:
                text = "has micro_batch_size with tokens_per_batch: use micro_batch_tokens"
                raise RuleError(text, "micro_batch_size", "tokens_per_batch")
            if self.tokens_per_batch < self.max_source_tokens:
                raise RuleError(
                    f"has tokens_per_batch: {self.tokens_per_batch}, less than one source may have "
                    f"(max_source_tokens: {self.max_source_tokens})",
                    *("tokens_per_batch", "max_source_tokens"),
                )
        needed = {"none": 0, "optimizer": 1, "parameters": 3}[self.offload]
        if self.zero_stage < needed:
            raise RuleError(
                f"has offload: {self.offload} at zero_stage: {self.zero_stage}; it needs zero_stage {needed}"
                + (" or more" if needed < 3 else ""),
                *("offload", "zero_stage"),
            )
        return self


class ResourceSettings(Section):
    """What a trial may use.

    Not part of a trial's identity: a finished trial is reused whatever these say. `workers`, `gpus_per_worker` and
    `cpus_per_worker` decide in which order numbers are added up, and so the last digits of losses and weights, which
    training can amplify. Each trial records what it ran with (`costs.parquet`).
    """

    workers: Count = 1
    """Data-parallel workers a trial."""
    gpus_per_worker: Annotated[float, Field(strict=True, ge=0)] | Literal["auto"] = "auto"
    """`auto`: one where the cluster has GPUs, else none; below 1 that many trials share one GPU as fit (0.25: four)."""
    cpus_per_worker: Count | Literal["auto"] = "auto"
    """Threads of a worker. `auto`: on Ray one on a CPU machine and up to four beside a GPU; with `--executor inline`
    and `simtune train` all cores. A number gives the same bits with every executor."""
    max_concurrent: Count | Literal["auto"] = "auto"
    """Trials at once; `auto`: as many as fit."""
    priority: Annotated[float, Field(strict=True, ge=0.001, le=1000)] = 1.0
    """Weight of this sweep where several use one cluster: with 2, twice the share of a sweep with 1."""
    max_failures: CountOrZero = 3
    """Restarts of a trial whose process or host was lost."""
    checkpoint_minutes: Annotated[float, Field(strict=True, ge=0)] | None = 15.0
    """Training time between two checkpoints, from which an interrupted trial continues; null: none."""
    trial_minutes: Annotated[float, Field(strict=True, gt=0)] | None = None
    """A trial that takes longer is stopped, tried once more, and then counted as failed; null: no limit."""
    wait_minutes: Annotated[float, Field(strict=True, gt=0)] | None = None
    """How long a trial waits for its sweep's turn, or for a host with room for its workers, before it is left out;
    embedding that waits longer ends the run. null: no limit."""

    @property
    def wait_s(self) -> float:
        """`wait_minutes` in seconds."""
        return math.inf if self.wait_minutes is None else 60 * self.wait_minutes

    @model_validator(mode="after")
    def _a_gpu_has_one_trial_or_one_worker(self) -> ResourceSettings:
        gpus = self.gpus_per_worker
        if gpus == "auto":
            return self
        if gpus > 1:
            raise ValueError(
                f"has gpus_per_worker: {gpus:g}; a worker computes on one GPU. For a trial over several GPUs set "
                "workers to their number and gpus_per_worker: 1"
            )
        if 0 < gpus < 0.01:
            raise ValueError(f"has gpus_per_worker: {gpus:g}; no more than 100 trials share a GPU (0.01)")
        if gpus % 1 and self.workers > 1:
            raise RuleError(
                f"has gpus_per_worker: {gpus:g} and workers: {self.workers}; a fraction of a GPU needs one worker, as "
                "two workers of a trial cannot share a GPU",
                *("gpus_per_worker", "workers"),
            )
        return self


class Sweep(Section):
    """A whole sweep file, resolved."""

    name: Annotated[
        str,
        Field(
            strict=True,
            pattern=RUN_NAME,
            description="a string of at most 100 letters, digits, dots, dashes and underscores that begins with a "
            "letter or a digit (it names a folder)",
        ),
    ]
    corpus: CorpusSettings = CorpusSettings()
    leakage: LeakageSettings = LeakageSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    selection: SelectionSettings = SelectionSettings()
    model: ModelSettings = ModelSettings()
    encoding: EncodingSettings = EncodingSettings()
    mixture: MixtureSettings = MixtureSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    baselines: tuple[Literal["untuned", "copy-input", "copy-demonstration"], ...] = (
        "untuned",
        "copy-input",
        "copy-demonstration",
    )
    resources: ResourceSettings = ResourceSettings()
    storage: Text = "runs"
    grid: dict[str, tuple[Any, ...]] = Field(default_factory=dict)

    _no_repeats = field_validator("baselines")(without_repeats)

    @field_validator("grid", mode="before")
    @classmethod
    def _one_value_of_a_key_is_a_list(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {key: (given,) if isinstance(given, str | bool | int | float) else given for key, given in value.items()}

    @field_validator("leakage", mode="before")
    @classmethod
    def _policy_alone(cls, value: object) -> object:
        return {"policy": value} if isinstance(value, str) else value

    @field_validator("name")
    @classmethod
    def _not_the_shared_folders(cls, name: str) -> str:
        if name in {"trials", "cache"}:
            raise ValueError(f"is {name!r}, a folder that all runs of a storage share: choose another name")
        return name

    @model_validator(mode="after")
    def _countable(self) -> Sweep:
        """Checked before anything is expanded: a few short lists multiply to more trials than can be listed."""
        points = math.prod(len(values) for values in self.grid.values())
        if points > MOST_GRID_POINTS:
            lengths = " x ".join(str(len(values)) for values in self.grid.values())
            raise ValueError(
                f"grid: {lengths} values are {counted(points, 'point')}, more than {MOST_GRID_POINTS:,}; list "
                "fewer values"
            )
        each = num_subsets(self.selection) + len(self.baselines) * len(self.selection.seeds)
        if points * each > MOST_TRIALS:
            raise ValueError(
                f"grid and selection: {counted(points, 'grid point')} of {counted(each, 'trial')} are "
                f"{counted(points * each, 'trial')}, more than {MOST_TRIALS:,}; list fewer values, strategies, "
                "sizes or seeds"
            )
        return self

    @model_validator(mode="after")
    def _every_task_has_instances_to_train_on(self) -> Sweep:
        held_in, fewest = self.evaluation.held_in, self.corpus.min_instances
        if held_in >= fewest:
            raise RuleError(
                f"evaluation.held_in: {held_in} leaves nothing to train on for a pool task with only "
                f"corpus.min_instances: {fewest}; set aside fewer than {fewest}, or raise corpus.min_instances",
                *("evaluation.held_in", "corpus.min_instances"),
            )
        return self

    @model_validator(mode="after")
    def _effective_batch(self) -> Sweep:
        accumulation_steps(self)
        return self


def accumulation_steps(sweep: Sweep) -> int:
    """Micro-batches a worker adds up before each optimizer step.

    The effective batch is the commonest reason why others miss published numbers, so it is met exactly.

    Raises:
        RuleError: `training.batch_size` is not a multiple of workers x micro-batch.
    """
    training, workers = sweep.training, sweep.resources.workers
    if training.tokens_per_batch is not None:
        return -(-training.tokens_per_batch // (workers * (training.micro_batch_tokens or training.tokens_per_batch)))
    batch_size, micro_batch_size = training.batch_size, training.micro_batch_size
    if batch_size % workers:
        raise RuleError(
            f"training.batch_size: {batch_size} does not divide among resources.workers: {workers}; "
            f"make it a multiple of {workers}",
            *("training.batch_size", "resources.workers"),
        )
    share = batch_size // workers
    if micro_batch_size is None:
        return 1
    if share % micro_batch_size:
        raise RuleError(
            f"training.batch_size: {batch_size} is not a multiple of resources.workers ({workers}) x "
            f"training.micro_batch_size ({micro_batch_size}); choose a micro-batch that divides {share}",
            *("training.batch_size", "resources.workers", "training.micro_batch_size"),
        )
    return share // micro_batch_size
