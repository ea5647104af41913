"""A prompt format of an installed package, checked: a failure names the format and the task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from simtune.corpus.task import Instance, Task
from simtune.entry_points import check_one_each, failures_named
from simtune.errors import ExtensionError
from simtune.prompting.renderer import CountTokens, Message, Prompt, Renderer
from simtune.wording import counted


class InstalledRenderer(Renderer[Any]):
    """Does what another renderer does, and checks what that returns.

    Args:
        name: of the format.
        renderer: the renderer of the package.
    """

    def __init__(self, name: str, renderer: Renderer[Any]) -> None:
        super().__init__(renderer.settings)
        self._name = name
        self._renderer = renderer

    def render(
        self, task: Task, instances: Sequence[Instance], max_source_tokens: int, count_tokens: CountTokens
    ) -> list[Prompt]:
        """See `Renderer.render`.

        Raises:
            ExtensionError: it failed, or a prompt is missing, is no `Prompt`, or has no target.
        """
        with self._named(task) as what:
            prompts = list(self._renderer.render(task, instances, max_source_tokens, count_tokens))
        check_one_each(prompts, len(instances), what, "prompt")
        for instance, prompt in zip(instances, prompts, strict=True):
            if not isinstance(prompt, Prompt) or not isinstance(prompt.source, str):
                raise ExtensionError(
                    f"{what}, instance {instance.id}: returned {prompt!r}, which is not a Prompt of texts"
                )
            if not prompt.targets or not all(isinstance(text, str) for text in prompt.targets):
                raise ExtensionError(
                    f"{what}, instance {instance.id}: targets are {prompt.targets!r}; give one text or more"
                )
        return prompts

    def cut(self, token_ids: Sequence[int], max_tokens: int, decode: Callable[[Sequence[int]], str]) -> str | None:
        """See `Renderer.cut`."""
        with failures_named(f"prompt format {self._name}, a source of {counted(len(token_ids), 'token')}"):
            return self._renderer.cut(token_ids, max_tokens, decode)

    def choices(self, task: Task, instances: Sequence[Instance], max_choices: int) -> list[tuple[str, ...] | None]:
        """See `Renderer.choices`."""
        with self._named(task) as what:
            choices = list(self._renderer.choices(task, instances, max_choices))
        check_one_each(choices, len(instances), what, "set of choices", "sets of choices")
        return choices

    def num_templates(self, task: Task) -> int:
        """See `Renderer.num_templates`."""
        with self._named(task):
            return self._renderer.num_templates(task)

    def conversations(self, task: Task) -> list[list[Message]]:
        """See `Renderer.conversations`."""
        with self._named(task) as what:
            conversations = list(self._renderer.conversations(task))
        check_one_each(conversations, len(task.instances), what, "conversation")
        return conversations

    @contextmanager
    def _named(self, task: Task) -> Iterator[str]:
        what = f"prompt format {self._name}, task {task.name}"
        with failures_named(what):
            yield what
