"""Conversations say what the encoding shows, and put nothing wrong into an assistant's turn."""

from __future__ import annotations

import pytest

from simtune.config import EncodingSettings
from simtune.corpus.task import Demonstration, Instance, Task
from simtune.prompting.formats import conversations, whole_sources

TASK = Task(
    name="task001_x",
    definition=" Say it ",
    categories=("Echo",),
    positive=(Demonstration("a", "a"), Demonstration("b?", "b", "because")),
    negative=(Demonstration("c", "d", "no!"),),
    instances=(Instance("1", " hello ", ("hello\n", "hi")), Instance("2", "you", ("you",))),
)
TURNS = ["user: a", "assistant: a", "user: b?", "assistant: b"]
LAST = ["user: hello", "assistant: hello"]


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        (EncodingSettings(), ["system: Say it", *TURNS, *LAST]),
        (EncodingSettings(definition=False, positive=1), [*TURNS[:2], *LAST]),
        (EncodingSettings(definition=False, positive=0), LAST),
        (
            EncodingSettings(task_name=True, negative=2, explanation=True),
            [
                "system: Task: task001_x\n\nSay it\n\nExplanation of example 2: because\n\n"
                "Negative example 1\nInput: c\nOutput: d\nExplanation: no!",
                *TURNS,
                *LAST,
            ],
        ),
    ],
)
def test_conversations_follow_the_encoding(encoding: EncodingSettings, expected: list[str]) -> None:
    first, second = conversations(TASK, encoding)
    assert [f"{message['role']}: {message['content']}" for message in first] == expected
    assert [message["content"] for message in second[-2:]] == ["you", "you"]
    assert second[:-2] == first[:-2]


def test_sources_are_whole_however_long() -> None:
    long = " ".join(["word"] * 100_000)
    task = Task("task002_y", long, ("Echo",), TASK.positive, (), (Instance("1", long, ("x",)),))
    (source,) = whole_sources(task, EncodingSettings())
    assert source.count("word") == 200_000
    assert "Positive Example 2 -" in source
    assert source.endswith("\nOutput: ")
