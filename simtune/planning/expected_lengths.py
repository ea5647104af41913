"""How long the prompts and answers of tasks are expected to be, before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simtune.config.encoding import EncodingSettings
from simtune.config.settings import TrainingSettings
from simtune.corpus.task import Task
from simtune.errors import ConfigError
from simtune.prompting.registry import make_renderer
from simtune.prompting.tokenizer import TextTokenizer, light_tokenizer, train_tokenizer
from simtune.sweep.grid_points import PointTasks

_INSTANCES_MEASURED = 3
# English text in T5's pieces; used only where the tokenizer itself is not on disk.
_CHARACTERS_PER_TOKEN = 4.0


@dataclass(frozen=True)
class ExpectedLengths:
    """Expected tokens of one example of each task: source, target."""

    source: dict[str, float]
    target: dict[str, float]


def measuring_tokenizer(prepared: PointTasks) -> tuple[TextTokenizer | None, str]:
    """The tokenizer that measures lengths, None if it is not on this disk; and a description for users."""
    model = prepared.sweep.model
    if model.tokenizer == "pool":
        return train_tokenizer(prepared.tasks.pool, model.vocab_size), "measured with the pool's own tokenizer"
    try:
        tokenizer = light_tokenizer(model)
    except Exception as error:
        raise ConfigError(
            f"tokenizer.json of {model.tokenizer or model.name} cannot be read ({error})",
            field="model.tokenizer",
        ) from error
    if tokenizer is None:
        return None, f"estimated at {_CHARACTERS_PER_TOKEN:g} characters each, the tokenizer is not on this disk"
    return tokenizer, "measured with the model's tokenizer"


def measure_lengths(
    tasks: Sequence[Task],
    encoding: EncodingSettings,
    training: TrainingSettings,
    tokenizer: TextTokenizer | None,
    on_task: Callable[[], None] = lambda: None,
) -> ExpectedLengths:
    """Expected tokens of an example of each task, measured on a few instances.

    Args:
        tasks: with their instances.
        encoding: the prompt format and its settings.
        training: the limits on tokens.
        tokenizer: None estimates by the number of characters.
        on_task: called before each task.
    """

    def count(texts: Sequence[str]) -> list[int]:
        if tokenizer is None:
            return [round(len(text) / _CHARACTERS_PER_TOKEN) + 1 for text in texts]
        return tokenizer.count_tokens(texts)

    renderer = make_renderer(encoding)
    source, target = {}, {}
    for task in tasks:
        on_task()
        instances = task.instances[:_INSTANCES_MEASURED]
        prompts = renderer.render(task, instances, training.max_source_tokens, count)
        lengths = [min(length, training.max_source_tokens) for length in count([prompt.source for prompt in prompts])]
        source[task.name] = sum(lengths) / len(lengths)
        references = [
            min(length, training.max_target_tokens) for length in count([prompt.targets[0] for prompt in prompts])
        ]
        target[task.name] = sum(references) / len(references)
    return ExpectedLengths(source, target)
