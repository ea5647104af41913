"""What a prompt format is: a class that writes the source text of an instance, its targets and its answer choices.

A custom format is one such class in another package, registered under the entry point group
`simtune.prompts`:

    class Question(Renderer[QuestionSettings]):
        Settings = QuestionSettings

        def render(self, task, instances, max_source_tokens, count_tokens):
            return [Prompt(f"{task.definition} {instance.input}", instance.outputs) for instance in instances]
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from simtune.config.fields import Section
from simtune.corpus.task import Instance, Task
from simtune.prompting.choices import label_set

CountTokens = Callable[[Sequence[str]], list[int]]
"""Numbers of tokens of texts, with the end-of-sequence token where sources have one."""

Message = dict[str, str]
"""`role` (system, user or assistant) and `content`."""

S = TypeVar("S", bound=Section)


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of one instance.

    Attributes:
        source: the text that a model reads, before any cut.
        targets: the texts that are right answers, at least one; training draws one of them.
        num_demonstrations: positive and negative ones in the source.
        num_left_out: demonstrations asked for and present in the task that did not fit.
    """

    source: str
    targets: tuple[str, ...]
    num_demonstrations: int = 0
    num_left_out: int = 0


class Renderer(ABC, Generic[S]):
    """A prompt format with its settings; it is deterministic.

    Attributes:
        Settings: the keys of an `encoding` section that belong to the format, with their ranges and defaults.
    """

    Settings: ClassVar[type[Section]]

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def render(
        self, task: Task, instances: Sequence[Instance], max_source_tokens: int, count_tokens: CountTokens
    ) -> list[Prompt]:
        """The prompts of instances of one task, in their order.

        Args:
            task: the task; it has more than these instances.
            instances: those to write prompts of.
            count_tokens: see `CountTokens`.
            max_source_tokens: what is optional in a prompt, such as demonstrations, should fit into that many tokens; a
                source that is longer all the same is cut later.
        """

    def render_whole(self, task: Task) -> list[Prompt]:
        """The prompts of all instances of a task with everything asked for in them, however long."""
        return self.render(task, task.instances, sys.maxsize, lambda texts: [0] * len(texts))

    def cut(self, token_ids: Sequence[int], max_tokens: int, decode: Callable[[Sequence[int]], str]) -> str | None:
        """The text that is left of a source with too many tokens, or None to cut its tokens from the right."""
        return None

    def choices(self, task: Task, instances: Sequence[Instance], max_choices: int) -> list[tuple[str, ...] | None]:
        """For each instance the answers to choose from, of which `targets` are the right ones; None: free text.

        A format without answer choices of its own offers a classification task's labels, see `label_set`.
        """
        return [label_set(task, max_choices)] * len(instances)

    def num_templates(self, task: Task) -> int:
        """How many templates of a task the prompts are drawn from, which mixtures may take into account."""
        return 1

    def conversations(self, task: Task) -> list[list[Message]]:
        """Each instance of a task as messages of a chat: the source, then the first target. Texts are stripped."""
        return [
            [message("user", prompt.source), message("assistant", prompt.targets[0])]
            for prompt in self.render_whole(task)
        ]


def message(role: str, content: str) -> Message:
    """One message of a chat, its text stripped."""
    return {"role": role, "content": content.strip()}
