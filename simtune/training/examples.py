"""Tokenised tasks as flat arrays: made once, put in the object store once, read by all trials without a copy.

Legend: E examples, R references. Ragged rows lie end to end with offsets; no Python object an example, so that a
pool of 75,000 examples is four arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from simtune.config.settings import EncodingSettings
from simtune.corpus.task import Task
from simtune.prompting.tk_instruct import build_prompts, cut_source
from simtune.prompting.tokenizer import TextTokenizer

TOKENS_FORMAT = 2
"""Counts up whenever the same task would become other ids: what an earlier release kept is not believed then."""


@dataclass(frozen=True)
class Ragged:
    """Rows of token ids of different lengths: int32 ids end to end, int64 offsets [rows + 1]."""

    ids: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Ragged:
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
class TokenisedTasks:
    """Examples of tasks, task after task.

    Attributes:
        names: task names; task k has the examples `task_offsets[k]` to `task_offsets[k + 1]`.
        sources: E rows, cut to the source length.
        references: R rows, cut to the target length.
        reference_offsets: int64 [E + 1]; example e has the references from its offset to the next.
        num_cut: sources that lost their tail, `Output:` included.
        num_left_out: demonstrations that did not fit, over all examples.
    """

    names: tuple[str, ...]
    task_offsets: np.ndarray
    sources: Ragged
    references: Ragged
    reference_offsets: np.ndarray
    num_cut: int
    num_left_out: int

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
) -> TokenisedTasks:
    """Builds prompts and token ids of all instances of all tasks. Linear in tokens; deterministic."""
    sources: list[list[int]] = []
    references: list[list[int]] = []
    task_offsets, reference_offsets = [0], [0]
    num_cut = num_left_out = 0
    for done, task in enumerate(tasks):
        on_progress(done, len(tasks))
        prompts = build_prompts(task, task.instances, encoding, max_source_tokens, tokenizer.count_tokens)
        rows = tokenizer.encode_batch([prompt.source for prompt in prompts])
        too_long = [number for number, row in enumerate(rows) if len(row) > max_source_tokens]
        texts = [cut_source(rows[number], max_source_tokens, tokenizer.decode) for number in too_long]
        for number, row in zip(too_long, tokenizer.encode_within(texts, max_source_tokens), strict=True):
            rows[number] = row
        sources += rows
        num_cut += len(too_long)
        num_left_out += sum(prompt.num_left_out for prompt in prompts)
        outputs = [output for instance in task.instances for output in instance.outputs]
        references += tokenizer.encode_within(outputs, max_target_tokens)
        for instance in task.instances:
            reference_offsets.append(reference_offsets[-1] + len(instance.outputs))
        task_offsets.append(len(sources))
    on_progress(len(tasks), len(tasks))
    return TokenisedTasks(
        names=tuple(task.name for task in tasks),
        task_offsets=np.array(task_offsets, dtype=np.int64),
        sources=Ragged.of(sources),
        references=Ragged.of(references),
        reference_offsets=np.array(reference_offsets, dtype=np.int64),
        num_cut=num_cut,
        num_left_out=num_left_out,
    )
