"""Tk-Instruct's blocks as chat: a system message, demonstrations as turns, the instance as the last turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simtune.corpus.task import Demonstration, Task
from simtune.prompting.renderer import Message, message

if TYPE_CHECKING:
    from simtune.prompting.tk_instruct import TkInstructSettings


def chat_of(task: Task, settings: TkInstructSettings) -> list[list[Message]]:
    """One conversation an instance; texts are stripped, and the last answer is the instance's first reference."""
    system = _system(task, settings)
    shared = [message("system", system)] if system else []
    for shown in task.positive[: settings.positive]:
        shared += _turns(shown.input, shown.output)
    return [[*shared, *_turns(instance.input, instance.outputs[0])] for instance in task.instances]


def _system(task: Task, settings: TkInstructSettings) -> str:
    """The system message: a negative demonstration's wrong answer must not be an assistant's turn to learn from."""
    parts = [f"Task: {task.name}"] if settings.task_name else []
    if settings.definition:
        parts.append(task.definition.strip())
    for number, shown in enumerate(task.positive[: settings.positive], start=1):
        if text := _explanation(shown, settings):
            parts.append(f"Explanation of example {number}: {text}")
    for number, shown in enumerate(task.negative[: settings.negative], start=1):
        lines = [f"Negative example {number}", f"Input: {shown.input.strip()}", f"Output: {shown.output.strip()}"]
        if text := _explanation(shown, settings):
            lines.append(f"Explanation: {text}")
        parts.append("\n".join(lines))
    return "\n\n".join(part for part in parts if part)


def _explanation(shown: Demonstration, settings: TkInstructSettings) -> str:
    return (shown.explanation or "").strip() if settings.explanation else ""


def _turns(question: str, answer: str) -> list[Message]:
    return [message("user", question), message("assistant", answer)]
