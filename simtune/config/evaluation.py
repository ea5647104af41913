"""The `evaluation` section: how models are scored, in one suite or several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator, model_validator

from simtune.config.encoding import EncodingSettings
from simtune.config.fields import Count, CountOrZero, Flag, Section, Text, without_repeats

if TYPE_CHECKING:
    from simtune.config.settings import Sweep

Method = Literal["generate", "rank"]
Metrics = Annotated[tuple[Text, ...], Field(min_length=1)]
# Which others there are, the registry of metrics knows.
_DEFAULT_METRICS: dict[Method, tuple[str, ...]] = {"generate": ("rouge-l", "exact-match"), "rank": ("accuracy",)}
SUITE_NAME = r"^[a-z0-9][a-z0-9-]{0,39}$"


def _without_repeats_if_given(values: tuple[object, ...] | None) -> tuple[object, ...] | None:
    return values if values is None else without_repeats(values)


class SuiteSettings(Section):
    """One way to score a model: test tasks, prompt, method and metrics. What is null is as `evaluation` has it."""

    name: Annotated[
        str,
        Field(
            strict=True,
            pattern=SUITE_NAME,
            description="a string of at most 40 lower-case letters, digits and dashes that begins with a letter or "
            "a digit",
        ),
    ]
    split: Text | None = None
    """The test tasks of another split of the corpus, such as `xlingual`; null: those of the hold-out."""
    categories: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    """Test tasks of these categories alone; null: all."""
    encoding: EncodingSettings | None = None
    """How these prompts are built; null: as for training. What it leaves out has its format's default."""
    method: Method | None = None
    metrics: Metrics | None = None
    rouge_tokenizer: Text | None = None
    """Tokenizer of ROUGE-L for texts that are not English, as the cross-lingual track has: GPT-2's, a folder or a hub
    name; null: `rouge_score`'s own with the Porter stemmer."""
    instances_per_task: Count | None = None
    max_new_tokens: Count | None = None
    max_choices: Annotated[int, Field(strict=True, ge=2)] | None = None
    length_normalised: Flag | None = None

    _no_repeats = field_validator("metrics")(_without_repeats_if_given)


class Suite(Section):
    """A suite with every setting resolved."""

    name: str
    split: str | None
    categories: tuple[str, ...]
    encoding: EncodingSettings
    method: Method
    metrics: tuple[str, ...]
    rouge_tokenizer: str | None
    instances_per_task: int
    max_new_tokens: int
    max_choices: int
    length_normalised: bool

    @property
    def computed_metrics(self) -> tuple[str, ...]:
        """Its metrics in an order of their own: the sweep's is for tables, and changes no score."""
        usual = [name for name in _DEFAULT_METRICS[self.method] if name in self.metrics]
        return (*usual, *sorted(set(self.metrics) - set(usual)))

    @property
    def num_choices(self) -> int:
        """The most answer choices that its prompts may have; 0 where none are ranked."""
        return self.max_choices if self.method == "rank" else 0


class EvaluationSettings(Section):
    """How models are scored on test tasks: the one suite `test`, or what the `suites` have in common."""

    suites: Annotated[tuple[SuiteSettings, ...], Field(min_length=1)] | None = None
    """null: one suite, `test`, with the settings below."""
    method: Method = "generate"
    """`generate` writes an answer; `rank` takes the likeliest of a prompt's answer choices."""
    metrics: Metrics | None = None
    """null: `rouge-l` and `exact-match` of generated answers, `accuracy` of ranked ones."""
    instances_per_task: Count = 100
    """The first ones of each test task, as the public test set does."""
    max_new_tokens: Count = 128
    max_choices: Annotated[int, Field(strict=True, ge=2)] = 10
    """`rank`: a task with more different answers is not a classification task, and is left out."""
    length_normalised: Flag = False
    """`rank`: choices by the mean of their tokens' log-probabilities; T0 takes the sum, which favours short ones."""
    held_in: CountOrZero = 0
    """Instances of each training task that are set aside, fewer than `corpus.min_instances`: after each epoch the model
    answers them, and `keep: best` keeps the epoch that answers best. These scores are recorded with the training and
    never mixed with test scores."""
    tokens_per_batch: Annotated[int, Field(strict=True, ge=1)] = 16_384
    """Source tokens, padding counted, of the sources that a worker answers together: memory against seconds."""

    _no_repeats = field_validator("metrics")(_without_repeats_if_given)

    @model_validator(mode="after")
    def _suites_are_apart(self) -> EvaluationSettings:
        names = [suite.name for suite in self.suites or ()]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"has two suites named {repeated[0]!r}: give each a name of its own")
        return self


def suites_of(sweep: Sweep) -> tuple[Suite, ...]:
    """The suites of a sweep, with every setting resolved."""
    evaluation = sweep.evaluation
    resolved = []
    for suite in evaluation.suites or (SuiteSettings(name="test"),):
        method = suite.method or evaluation.method
        resolved.append(
            Suite(
                name=suite.name,
                split=suite.split,
                categories=suite.categories or (),
                encoding=suite.encoding or sweep.encoding,
                method=method,
                metrics=suite.metrics or evaluation.metrics or _DEFAULT_METRICS[method],
                rouge_tokenizer=suite.rouge_tokenizer,
                instances_per_task=suite.instances_per_task or evaluation.instances_per_task,
                max_new_tokens=suite.max_new_tokens or evaluation.max_new_tokens,
                max_choices=suite.max_choices or evaluation.max_choices,
                length_normalised=evaluation.length_normalised
                if suite.length_normalised is None
                else suite.length_normalised,
            )
        )
    return tuple(resolved)


def suite_field(sweep: Sweep, name: str) -> str:
    """The dotted name of the section that describes a suite: `evaluation.suites.1`, or `evaluation` for the default."""
    names = [suite.name for suite in sweep.evaluation.suites or ()]
    return f"evaluation.suites.{names.index(name)}" if name in names else "evaluation"
