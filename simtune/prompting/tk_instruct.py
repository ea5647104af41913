"""Tk-Instruct's prompts: their blocks, the order of these, and the rule by which demonstrations are fitted in.

Reproduced to the character, including its odd spaces, because published numbers depend on it (Wang et al. 2022,
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

from simtune.config.fields import CountOrZero, Flag, Section
from simtune.corpus.task import Demonstration, Instance, Task
from simtune.prompting.renderer import CountTokens, Message, Prompt, Renderer
from simtune.prompting.tk_instruct_chat import chat_of


class TkInstructSettings(Section):
    """Which blocks a prompt has. The defaults are those of Tk-Instruct's main results."""

    task_name: Flag = False
    definition: Flag = True
    positive: CountOrZero = 2
    """Most positive demonstrations."""
    negative: CountOrZero = 0
    """Most negative demonstrations."""
    explanation: Flag = False
    """Whether demonstrations come with their explanations."""


class TkInstruct(Renderer[TkInstructSettings]):
    """Tk-Instruct's prompts."""

    Settings = TkInstructSettings

    def render(
        self, task: Task, instances: Sequence[Instance], max_source_tokens: int, count_tokens: CountTokens
    ) -> list[Prompt]:
        """Builds the prompts of instances of one task.

        All prompts are first counted with every demonstration in place, in one call; only those that are too long
        are fitted one demonstration at a time. (A longer prompt never has fewer tokens by the size of a demonstration,
        so what fits whole would have fitted at each step.)
        """
        blocks = _Blocks.from_task(task, self.settings)
        heads = [_input_block(instance) for instance in instances]
        lengths = count_tokens([blocks.counted(len(blocks.positive), len(blocks.negative), head) for head in heads])
        prompts = []
        for instance, head, length in zip(instances, heads, lengths, strict=True):
            if length <= max_source_tokens:
                num_positive, num_negative = len(blocks.positive), len(blocks.negative)
            else:
                num_positive, num_negative = _fit(blocks, head, max_source_tokens, count_tokens)
            shown = (*blocks.positive[:num_positive], *blocks.negative[:num_negative])
            source = "".join((blocks.name, blocks.definition, *shown, head))
            num_left_out = len(blocks.positive) + len(blocks.negative) - len(shown)
            prompts.append(Prompt(source, instance.outputs, len(shown), num_left_out))
        return prompts

    def cut(self, token_ids: Sequence[int], max_tokens: int, decode: Callable[[Sequence[int]], str]) -> str:
        """The collator cuts ids, decodes what is left without special tokens, and reads that text again."""
        return close_spaces(decode(token_ids[:max_tokens]))

    def conversations(self, task: Task) -> list[list[Message]]:
        """One conversation an instance: system message, positive demonstrations as turns, the instance as last turns.

        Texts are stripped. The last answer is the instance's first reference.
        """
        return chat_of(task, self.settings)


@dataclass(frozen=True, slots=True)
class _Blocks:
    """The parts of a prompt that all instances of a task share."""

    name: str
    definition: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]

    @classmethod
    def from_task(cls, task: Task, encoding: TkInstructSettings) -> _Blocks:
        definition = _ended(f"Definition: {task.definition.strip()}") + "\n\n" if encoding.definition else ""
        return cls(
            f"{task.name}. " if encoding.task_name else "",
            definition,
            _demonstrations("Positive", task.positive[: encoding.positive], encoding.explanation),
            _demonstrations("Negative", task.negative[: encoding.negative], encoding.explanation),
        )

    def counted(self, num_positive: int, num_negative: int, head: str) -> str:
        """The text whose number of tokens decides whether the last of these demonstrations fits."""
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


def _demonstrations(sign: str, shown: Sequence[Demonstration], explanation: bool) -> tuple[str, ...]:
    blocks = []
    for number, demonstration in enumerate(shown, start=1):
        block = f" {sign} Example {number} -\n"
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
