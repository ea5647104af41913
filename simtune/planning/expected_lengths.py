"""How long the prompts and answers of tasks are expected to be, before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from simtune.config.encoding import EncodingSettings
from simtune.config.settings import ModelSettings, TrainingSettings
from simtune.corpus.task import Task
from simtune.errors import ConfigError
from simtune.grid.grid_points import PointTasks
from simtune.prompting.registry import make_renderer
from simtune.prompting.renderer import Renderer
from simtune.prompting.tokenizer import TextTokenizer, light_tokenizer, train_tokenizer
from simtune.training.families.registry import tokenizers_split_at_spaces

_INSTANCES_MEASURED = 3
# English text in T5's pieces; used only where the tokenizer itself is not on disk.
_CHARACTERS_PER_TOKEN = 4.0


@dataclass(frozen=True)
class ExpectedLengths:
    """Expected tokens of one example of each task: source, target."""

    source: dict[str, float]
    target: dict[str, float]


class LengthsOfPoints:
    """Measures the tasks of a grid's points: those that agree in all that affects lengths share one measurement."""

    def __init__(self) -> None:
        self._tokenizers: dict[tuple[object, ...], tuple[TextTokenizer | None, str]] = {}
        # With the objects whose ids are in the key, so that no other object gets these.
        self._tasks: dict[tuple[object, ...], tuple[float, float, Task, TextTokenizer | None]] = {}

    def tokenizer(self, prepared: PointTasks) -> tuple[TextTokenizer | None, str]:
        """The tokenizer that measures lengths, None if it is not on this disk; and a description for users."""
        model, pool = prepared.sweep.model, prepared.tasks.pool
        texts = tuple(prepared.task_fingerprints[task.name] for task in pool) if model.tokenizer == "pool" else ()
        key = (model.tokenizer or model.name, model.vocab_size, texts)
        if key not in self._tokenizers:
            self._tokenizers[key] = _measuring_tokenizer(model, pool)
        return self._tokenizers[key]

    def measure(
        self,
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
        limits = training.max_source_tokens, training.max_target_tokens
        settings = (encoding.model_dump_json(), *limits, id(tokenizer))
        renderer = make_renderer(encoding)
        source, target = {}, {}
        for task in tasks:
            on_task()
            key = (id(task), *settings)
            if key not in self._tasks:
                self._tasks[key] = (*_measure(task, renderer, *limits, tokenizer), task, tokenizer)
            source[task.name], target[task.name] = self._tasks[key][:2]
        return ExpectedLengths(source, target)


def _measuring_tokenizer(model: ModelSettings, pool: Sequence[Task]) -> tuple[TextTokenizer | None, str]:
    if model.tokenizer == "pool":
        return train_tokenizer(pool, model.vocab_size), "measured with the pool's own tokenizer"
    try:
        tokenizer = light_tokenizer(model, tokenizers_split_at_spaces())
    except Exception as error:
        raise ConfigError(
            f"tokenizer.json of {model.tokenizer or model.name} cannot be read ({error})",
            field="model.tokenizer",
        ) from error
    if tokenizer is None:
        return None, f"estimated at {_CHARACTERS_PER_TOKEN:g} characters each, the tokenizer is not on this disk"
    return tokenizer, "measured with the model's tokenizer"


def _measure(
    task: Task, renderer: Renderer[Any], max_source_tokens: int, max_target_tokens: int, tokenizer: TextTokenizer | None
) -> tuple[float, float]:
    """Mean tokens of the sources and of the targets of a few instances."""

    def count(texts: Sequence[str]) -> list[int]:
        if tokenizer is None:
            return [round(len(text) / _CHARACTERS_PER_TOKEN) + 1 for text in texts]
        return tokenizer.count_tokens(texts)

    prompts = renderer.render(task, task.instances[:_INSTANCES_MEASURED], max_source_tokens, count)
    sources = [min(length, max_source_tokens) for length in count([prompt.source for prompt in prompts])]
    targets = [min(length, max_target_tokens) for length in count([prompt.targets[0] for prompt in prompts])]
    return sum(sources) / len(sources), sum(targets) / len(targets)
