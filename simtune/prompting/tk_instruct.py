"""Tk-Instruct's encoding: the blocks of a prompt, their order, and the rule by which demonstrations are fitted in.

Reproduced to the character, odd spaces included, because published numbers depend on it (Wang et al. 2022,
Super-NaturalInstructions; facts in the systems' own collator). Two of its rules are easy to get wrong:

* a demonstration is tried by the length of the *whole* prompt with the blocks so far joined by a space, although
  the prompt itself joins them by nothing; the first that does not fit stops the loop (for negatives a loop of
  their own), and the task's name is not counted;
* a prompt that is still too long loses its tail, `Output:` included.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simtune.config.settings import EncodingSettings
from simtune.corpus.task import Demonstration, Instance, Task

CountTokens = Callable[[Sequence[str]], list[int]]
"""Numbers of tokens of texts, end-of-sequence token included."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A source text and how it was fitted.

    Attributes:
        source: the text before any cut.
        num_demonstrations: positive and negative ones in it.
        num_left_out: demonstrations asked for and present in the task that did not fit.
    """

    source: str
    num_demonstrations: int
    num_left_out: int


def build_prompts(
    task: Task,
    instances: Sequence[Instance],
    encoding: EncodingSettings,
    max_source_tokens: int,
    count_tokens: CountTokens,
) -> list[Prompt]:
    """Builds the prompts of instances of one task.

    All prompts are first counted with every demonstration in place, in one call; only those that are too long take
    the one-by-one path. (A longer prompt never has fewer tokens by the size of a demonstration, so what fits whole
    would have fitted at each step.)
    """
    blocks = _Blocks.of(task, encoding)
    heads = [_input_block(instance) for instance in instances]
    lengths = count_tokens([blocks.counted(len(blocks.positive), len(blocks.negative), head) for head in heads])
    prompts = []
    for head, length in zip(heads, lengths, strict=True):
        if length <= max_source_tokens:
            num_positive, num_negative = len(blocks.positive), len(blocks.negative)
        else:
            num_positive, num_negative = _fit(blocks, head, max_source_tokens, count_tokens)
        source = "".join(
            (
                blocks.name,
                blocks.definition,
                *blocks.positive[:num_positive],
                *blocks.negative[:num_negative],
                head,
            )
        )
        left_out = len(blocks.positive) + len(blocks.negative) - num_positive - num_negative
        prompts.append(Prompt(source, num_positive + num_negative, left_out))
    return prompts


@dataclass(frozen=True, slots=True)
class _Blocks:
    """The parts of a prompt that all instances of a task share."""

    name: str
    definition: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]

    @classmethod
    def of(cls, task: Task, encoding: EncodingSettings) -> _Blocks:
        definition = _ended(f"Definition: {task.definition.strip()}") + "\n\n" if encoding.definition else ""
        return cls(
            f"{task.name}. " if encoding.task_name else "",
            definition,
            _demonstrations("Positive", task.positive[: encoding.positive], encoding.explanation),
            _demonstrations("Negative", task.negative[: encoding.negative], encoding.explanation),
        )

    def counted(self, num_positive: int, num_negative: int, head: str) -> str:
        """The text whose tokens decide whether the last of these demonstrations fits."""
        positive, negative = self.positive[:num_positive], self.negative[:num_negative]
        if negative:
            return self.definition + " ".join(positive) + " ".join(negative[:-1]) + negative[-1] + head
        if positive:
            return self.definition + " ".join(positive[:-1]) + positive[-1] + head
        return self.definition + head


def _fit(blocks: _Blocks, head: str, max_source_tokens: int, count_tokens: CountTokens) -> tuple[int, int]:
    def fits(num_positive: int, num_negative: int) -> bool:
        return count_tokens([blocks.counted(num_positive, num_negative, head)])[0] <= max_source_tokens

    num_positive = 0
    while num_positive < len(blocks.positive) and fits(num_positive + 1, 0):
        num_positive += 1
    num_negative = 0
    while num_negative < len(blocks.negative) and fits(num_positive, num_negative + 1):
        num_negative += 1
    return num_positive, num_negative


def _demonstrations(kind: str, shown: Sequence[Demonstration], explanation: bool) -> tuple[str, ...]:
    blocks = []
    for number, demonstration in enumerate(shown, start=1):
        block = f" {kind} Example {number} -\n"
        block = _ended(block + f"Input: {demonstration.input.strip()}") + "\n"
        block = _ended(block + f" Output: {demonstration.output.strip()}") + "\n"
        if explanation and demonstration.explanation is not None:
            block = _ended(block + f" Explanation: {demonstration.explanation.strip()}") + "\n"
        blocks.append(block + "\n")
    return tuple(blocks)


def _input_block(instance: Instance) -> str:
    return _ended(f"Now complete the following example -\nInput: {instance.input.strip()}") + "\nOutput: "


def _ended(text: str) -> str:
    return text if text[-1] in string.punctuation else text + "."


def cut_source(token_ids: Sequence[int], max_source_tokens: int, decode: Callable[[Sequence[int]], str]) -> str:
    """The text left of a prompt whose tokens are cut from the right.

    The collator cuts ids, decodes what is left without special tokens, and reads that text again.
    """
    return close_spaces(decode(token_ids[:max_source_tokens]))


_MARKS = (" .", " ?", " !", " ,")
_CONTRACTIONS = (" n't", " 'm", " 's", " 've", " 're")


def close_spaces(text: str) -> str:
    """Closes the space before punctuation and contractions, as Tk-Instruct's decoder does.

    The rule is the transformers library's `clean_up_tokenization_spaces`, on by default when the published numbers
    were made; it decides cut sources and every prediction.
    """
    for spaced in _MARKS:
        text = text.replace(spaced, spaced[1:])
    text = text.replace(" ' ", "'")
    for spaced in _CONTRACTIONS:
        text = text.replace(spaced, spaced[1:])
    return text
