"""Tokenised tasks as flat arrays: made once, put in the object store once, read by all trials without a copy.

Ragged rows are stored end to end with offsets, without a Python object for each example, so that a pool of 75,000
examples is four arrays.

Legend: E examples, R references.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simtune.config.encoding import EncodingSettings
from simtune.corpus.task import Task
from simtune.prompting.registry import make_renderer
from simtune.prompting.renderer import Renderer
from simtune.prompting.tokenizer import TextTokenizer

TOKENS_FORMAT = 1
"""Counts up whenever the same task would become other ids, so that ids kept on disk are made again."""


@dataclass(frozen=True)
class Ragged:
    """Rows of token ids of different lengths: int32 ids end to end, int64 offsets [rows + 1]."""

    ids: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        """Lays rows end to end."""
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        ids = np.fromiter((token for row in rows for token in row), dtype=np.int32, count=int(offsets[-1]))
        return cls(ids, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def lengths_of(self, rows: np.ndarray) -> np.ndarray:
        """Lengths of some rows, int64."""
        lengths: np.ndarray = self.offsets[rows + 1] - self.offsets[rows]
        return lengths


@dataclass(frozen=True)
class AnswerChoices:
    """The answers that each example chooses from, end to end.

    Attributes:
        texts: of all choices, C of them.
        ids: C rows, cut to the target length.
        offsets: int64 [E + 1]; example e has the choices from its offset to the next, none where it is free text.
    """

    texts: tuple[str, ...]
    ids: Ragged
    offsets: np.ndarray

    def ids_of(self, example: int) -> list[np.ndarray]:
        """The token ids of each choice of an example."""
        return [self.ids[row] for row in range(self.offsets[example], self.offsets[example + 1])]

    def texts_of(self, example: int) -> tuple[str, ...]:
        """The choices of an example as texts."""
        return self.texts[self.offsets[example] : self.offsets[example + 1]]


@dataclass(frozen=True)
class TokenisedTasks:
    """Examples of tasks, task after task.

    Attributes:
        names: task names; task k has the examples `task_offsets[k]` to `task_offsets[k + 1]`.
        sources: E rows, cut to the source length.
        references: R rows, cut to the target length.
        reference_offsets: int64 [E + 1]; example e has the references from its offset to the next.
        num_cut: sources that lost their tail, `Output:` included.
        num_left_out: demonstrations that did not fit, over all examples.
        choices: answer choices, where they were asked for.
        templates: templates of each task's prompt format; None where each has one.
    """

    names: tuple[str, ...]
    task_offsets: np.ndarray
    sources: Ragged
    references: Ragged
    reference_offsets: np.ndarray
    num_cut: int
    num_left_out: int
    choices: AnswerChoices | None = None
    templates: np.ndarray | None = None

    @property
    def num_templates(self) -> np.ndarray:
        """Templates of each task's prompt format, int64 [tasks]."""
        return np.ones(len(self.names), dtype=np.int64) if self.templates is None else self.templates

    def examples_of(self, names: Sequence[str]) -> np.ndarray:
        """Example numbers of these tasks, int64, in the tasks' own order whatever the order of `names`."""
        wanted = set(names)
        missing = wanted - set(self.names)
        if missing:
            raise KeyError(f"not tokenised: {sorted(missing)[:3]}")
        ranges = [
            np.arange(self.task_offsets[k], self.task_offsets[k + 1])
            for k, name in enumerate(self.names)
            if name in wanted
        ]
        return np.concatenate(ranges) if ranges else np.zeros(0, dtype=np.int64)


def tokenise_tasks(
    tasks: Sequence[Task],
    encoding: EncodingSettings,
    max_source_tokens: int,
    max_target_tokens: int,
    tokenizer: TextTokenizer,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    max_choices: int = 0,
) -> TokenisedTasks:
    """Builds prompts and token ids of all instances of all tasks. Linear in tokens; deterministic.

    Args:
        tasks: with the instances to tokenise.
        encoding: the prompt format and its settings.
        max_source_tokens: the prompt is fitted to this.
        max_target_tokens: a target is truncated to this.
        tokenizer: of the model.
        on_progress: called with tasks done and tasks in all.
        max_choices: for rank classification: most labels of a classification task; 0 leaves answer choices out.
    """
    renderer, end = make_renderer(encoding), encoding.end_of_source
    sources: list[list[int]] = []
    references: list[list[int]] = []
    choices: list[tuple[str, ...]] = []
    task_offsets, num_targets = [0], []
    num_cut = num_left_out = 0
    for done, task in enumerate(tasks):
        on_progress(done, len(tasks))
        prompts = renderer.render(
            task, task.instances, max_source_tokens, lambda texts: tokenizer.count_tokens(texts, end)
        )
        rows, task_cut = _source_ids([prompt.source for prompt in prompts], renderer, tokenizer, max_source_tokens, end)
        sources += rows
        num_cut += task_cut
        num_left_out += sum(prompt.num_left_out for prompt in prompts)
        references += tokenizer.encode_within(
            [text for prompt in prompts for text in prompt.targets], max_target_tokens
        )
        num_targets += [len(prompt.targets) for prompt in prompts]
        if max_choices:
            choices += [found or () for found in renderer.choices(task, task.instances, max_choices)]
        task_offsets.append(len(sources))
    on_progress(len(tasks), len(tasks))
    return TokenisedTasks(
        names=tuple(task.name for task in tasks),
        task_offsets=np.array(task_offsets, dtype=np.int64),
        sources=Ragged.from_rows(sources),
        references=Ragged.from_rows(references),
        reference_offsets=_offsets(num_targets),
        num_cut=num_cut,
        num_left_out=num_left_out,
        choices=_answer_choices(choices, tokenizer, max_target_tokens) if max_choices else None,
        templates=_templates([renderer.num_templates(task) for task in tasks]),
    )


def _templates(counts: Sequence[int]) -> np.ndarray | None:
    return np.array(counts, dtype=np.int64) if any(count != 1 for count in counts) else None


def _source_ids(
    texts: Sequence[str], renderer: Renderer[Any], tokenizer: TextTokenizer, max_tokens: int, end: bool
) -> tuple[list[list[int]], int]:
    """The ids of sources, and how many of them had to be cut."""
    rows = tokenizer.encode_batch(texts, end)
    too_long = [number for number, row in enumerate(rows) if len(row) > max_tokens]
    left = [renderer.cut(rows[number], max_tokens, tokenizer.decode) for number in too_long]
    kept = [texts[number] if text is None else text for number, text in zip(too_long, left, strict=True)]
    for number, row in zip(too_long, tokenizer.encode_within(kept, max_tokens, end), strict=True):
        rows[number] = row
    return rows, len(too_long)


def _answer_choices(
    choices: Sequence[tuple[str, ...]], tokenizer: TextTokenizer, max_target_tokens: int
) -> AnswerChoices:
    ids: dict[tuple[str, ...], list[list[int]]] = {}
    for texts in choices:
        # All examples of a task mostly choose from the same labels.
        if texts not in ids:
            ids[texts] = tokenizer.encode_within(texts, max_target_tokens)
    return AnswerChoices(
        texts=tuple(text for texts in choices for text in texts),
        ids=Ragged.from_rows([row for texts in choices for row in ids[texts]]),
        offsets=_offsets([len(texts) for texts in choices]),
    )


def _offsets(counts: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
