"""A task's instances for other trainers: the study's own source texts with nothing cut, and conversations."""

from __future__ import annotations

import sys

from simtune.config.settings import EncodingSettings
from simtune.corpus.task import Demonstration, Task
from simtune.prompting.tk_instruct import build_prompts

Message = dict[str, str]
"""`role` (system, user or assistant) and `content`."""


def whole_sources(task: Task, encoding: EncodingSettings) -> list[str]:
    """The source text of every instance with all demonstrations asked for, however long."""
    prompts = build_prompts(task, task.instances, encoding, sys.maxsize, lambda texts: [0] * len(texts))
    return [prompt.source for prompt in prompts]


def conversations(task: Task, encoding: EncodingSettings) -> list[list[Message]]:
    """One conversation an instance: system message, positive demonstrations as turns, the instance as the last pair.

    Texts are stripped. The last answer is the instance's first reference.
    """
    system = _system(task, encoding)
    shared = [_message("system", system)] if system else []
    for shown in task.positive[: encoding.positive]:
        shared += _turns(shown.input, shown.output)
    return [[*shared, *_turns(instance.input, instance.outputs[0])] for instance in task.instances]


def _system(task: Task, encoding: EncodingSettings) -> str:
    """What has no turn of its own. A negative demonstration's wrong answer as a turn would be learnt as right."""
    parts = [f"Task: {task.name}"] if encoding.task_name else []
    if encoding.definition:
        parts.append(task.definition.strip())
    for number, shown in enumerate(task.positive[: encoding.positive], start=1):
        if text := _explanation(shown, encoding):
            parts.append(f"Explanation of example {number}: {text}")
    for number, shown in enumerate(task.negative[: encoding.negative], start=1):
        lines = [f"Negative example {number}", f"Input: {shown.input.strip()}", f"Output: {shown.output.strip()}"]
        if text := _explanation(shown, encoding):
            lines.append(f"Explanation: {text}")
        parts.append("\n".join(lines))
    return "\n\n".join(part for part in parts if part)


def _explanation(shown: Demonstration, encoding: EncodingSettings) -> str:
    return (shown.explanation or "").strip() if encoding.explanation else ""


def _turns(question: str, answer: str) -> list[Message]:
    return [_message("user", question), _message("assistant", answer)]


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content.strip()}
