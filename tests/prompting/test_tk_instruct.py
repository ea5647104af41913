"""The encoding against Tk-Instruct's own collator, and its rules on tasks small enough to read."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from simtune.config import EncodingSettings, ModelSettings
from simtune.corpus.natural_instructions import read_task_file
from simtune.corpus.task import Demonstration, Instance, Task
from simtune.prompting.registry import make_renderer
from simtune.prompting.renderer import Prompt
from simtune.prompting.tokenizer import load_tokenizer
from simtune.training.examples import tokenise_tasks

ENCODINGS = {
    "def": EncodingSettings(positive=0),
    "def_pos2": EncodingSettings(),
    "def_pos4": EncodingSettings(positive=4),
    "pos2": EncodingSettings(definition=False),
    "def_pos2_neg2": EncodingSettings(negative=2),
    "def_pos2_neg2_expl": EncodingSettings(negative=2, explanation=True),
    "name": EncodingSettings(task_name=True, definition=False, positive=0),
}


def build_prompts(
    task: Task,
    instances: Sequence[Instance],
    encoding: EncodingSettings,
    limit: int,
    count: Callable[[Sequence[str]], list[int]],
) -> list[Prompt]:
    return make_renderer(encoding).render(task, instances, limit, count)


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


@pytest.fixture
def task() -> Task:
    return Task(
        name="task001_x",
        definition=" Say it ",
        categories=("Echo",),
        positive=(Demonstration("a", "a"), Demonstration("b?", "b", "because")),
        negative=(Demonstration("c", "d", "no!"),),
        instances=(Instance("1", " hello ", ("hello",)),),
    )


def test_every_golden_source_is_equal_in_characters_and_in_ids(shared_data: Path) -> None:
    """Ids: those of the library for the golden text, as the collator reads it (`truncation=True`)."""
    from transformers import AutoTokenizer

    library = AutoTokenizer.from_pretrained(shared_data / "t5-tokenizer")
    tokenizer = load_tokenizer(ModelSettings(name=str(shared_data / "t5-tokenizer")), ())
    golden = [json.loads(line) for line in (shared_data / "golden/tk_instruct_sources.jsonl").open()]
    by_settings = defaultdict(list)
    for line in golden:
        by_settings[line["task"], line["encoding"], line["max_source_tokens"]].append(line)
    num_compared, num_cut = 0, 0
    for (name, encoding, limit), lines in by_settings.items():
        task = read_task_file(shared_data / "sup-natinst/tasks" / f"{name}.json").task
        assert task is not None
        instances = [task.instances[line["instance"]] for line in lines]
        renderer = make_renderer(ENCODINGS[encoding])
        prompts = renderer.render(task, instances, limit, tokenizer.count_tokens)
        for prompt, line in zip(prompts, lines, strict=True):
            (ids,) = tokenizer.encode_batch([prompt.source])
            source = prompt.source if len(ids) <= limit else renderer.cut(ids, limit, tokenizer.decode)
            assert source == line["source"], (name, encoding, limit)
        data = tokenise_tasks([replace(task, instances=tuple(instances))], ENCODINGS[encoding], limit, 8, tokenizer)
        expected = library([line["source"] for line in lines], max_length=limit, truncation=True)["input_ids"]
        assert [data.sources[row].tolist() for row in range(len(lines))] == expected, (name, encoding, limit)
        targets = [output for instance in instances for output in instance.outputs]
        expected = library(targets, max_length=8, truncation=True)["input_ids"]
        assert [data.references[row].tolist() for row in range(len(targets))] == expected
        num_compared += len(lines)
        num_cut += data.num_cut
    assert num_compared == len(golden) >= 1000
    assert num_cut >= 200


def test_blocks_keep_their_odd_spaces_and_end_in_punctuation(task: Task) -> None:
    (prompt,) = build_prompts(task, task.instances, EncodingSettings(negative=1, explanation=True), 1000, words)
    assert prompt.source == (
        "Definition: Say it.\n\n"
        " Positive Example 1 -\nInput: a.\n Output: a.\n\n"
        " Positive Example 2 -\nInput: b?\n Output: b.\n Explanation: because.\n\n"
        " Negative Example 1 -\nInput: c.\n Output: d.\n Explanation: no!\n\n"
        "Now complete the following example -\nInput: hello.\nOutput: "
    )


def test_first_demonstration_that_does_not_fit_stops_its_loop(task: Task) -> None:
    for limit in range(1, 60):
        (prompt,) = build_prompts(task, task.instances, EncodingSettings(negative=1), limit, words)
        if "Positive Example 2" in prompt.source:
            assert "Positive Example 1" in prompt.source
        assert prompt.num_demonstrations + prompt.num_left_out == 3
        assert prompt.num_demonstrations == prompt.source.count(" Example ")
    (prompt,) = build_prompts(task, task.instances, EncodingSettings(), 1, words)
    assert prompt.num_demonstrations == 0


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
    first, second = make_renderer(encoding).conversations(TASK)
    assert [f"{message['role']}: {message['content']}" for message in first] == expected
    assert [message["content"] for message in second[-2:]] == ["you", "you"]
    assert second[:-2] == first[:-2]


def test_sources_are_whole_however_long() -> None:
    long = " ".join(["word"] * 100_000)
    task = Task("task002_y", long, ("Echo",), TASK.positive, (), (Instance("1", long, ("x",)),))
    (prompt,) = make_renderer(EncodingSettings()).render_whole(task)
    assert prompt.source.count("word") == 200_000
    assert "Positive Example 2 -" in prompt.source
    assert prompt.source.endswith("\nOutput: ")
