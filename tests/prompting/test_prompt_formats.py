"""A prompt format is one class and one line, and its section of the sweep file is checked as any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plugins import installed_entry

from simtune import prompting
from simtune.config import EncodingSettings
from simtune.config.fields import Count, Flag, Section
from simtune.corpus.task import Instance, Task
from simtune.entry_points import load_lines
from simtune.errors import ConfigError, ExtensionError
from simtune.prompting import registry
from simtune.prompting.registry import make_renderer, resolve_encoding
from simtune.prompting.renderer import CountTokens, Prompt, Renderer
from simtune.prompting.tokenizer import train_tokenizer
from simtune.training.examples import tokenise_tasks

TASK = Task("task1", "Is it so?", ("Truth",), (), (), (Instance("1", "snow is white", ("yes", "true")),) * 4)


class QuestionSettings(Section):
    repeats: Count = 1
    backwards: Flag = False


class Question(Renderer[QuestionSettings]):
    """A custom format: the question, optionally reversed with the input as the target."""

    Settings = QuestionSettings

    def render(
        self, task: Task, instances: Sequence[Instance], max_source_tokens: int, count_tokens: CountTokens
    ) -> list[Prompt]:
        asked = " ".join([task.definition] * self.settings.repeats)
        if self.settings.backwards:
            return [Prompt(f"{asked} {one.outputs[0]}", (one.input,)) for one in instances]
        return [Prompt(f"{asked} {one.input}", one.outputs) for one in instances]

    def choices(self, task: Task, instances: Sequence[Instance], max_choices: int) -> list[tuple[str, ...] | None]:
        return [("yes", "no")] * len(instances)


@pytest.fixture
def installed() -> Iterator[None]:
    with installed_entry(registry, "question", f"{__name__}:Question"):
        yield


def test_a_built_in_format_is_one_file_and_one_line_of_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "questions.py").write_text(f"from {__name__} import Question\n\nclass Asked(Question):\n    pass\n")
    monkeypatch.setattr(prompting, "__path__", [*prompting.__path__, str(tmp_path)])
    lines = {**registry.BUILT_IN, "asked": "questions:Asked"}
    monkeypatch.setattr(registry, "RENDERERS", load_lines("simtune.prompting", lines))
    (first, *_) = make_renderer(EncodingSettings(format="asked", repeats=2)).render_whole(TASK)
    assert first.source == "Is it so? Is it so? snow is white"


@pytest.mark.usefixtures("installed")
def test_an_installed_format_is_used_for_training_with_its_own_settings_and_choices() -> None:
    tokenizer = train_tokenizer([TASK], 300)
    encoding = EncodingSettings(format="question", repeats=2)
    data = tokenise_tasks([TASK], encoding, 100, 100, tokenizer, max_choices=5)
    assert tokenizer.decode(data.sources[0]) == "Is it so? Is it so? snow is white"
    assert [tokenizer.decode(data.references[row]) for row in (0, 1)] == ["yes", "true"]
    assert data.choices is not None
    assert data.choices.texts_of(3) == ("yes", "no")
    backwards = tokenise_tasks([TASK], EncodingSettings(format="question", backwards=True), 5, 100, tokenizer)
    assert tokenizer.decode(backwards.references[3]) == "snow is white"
    assert backwards.reference_offsets.tolist() == [0, 1, 2, 3, 4]
    # Cut from the right, the end of the sequence kept, unless the format says otherwise.
    whole = tokenise_tasks([TASK], EncodingSettings(format="question", backwards=True), 100, 100, tokenizer)
    assert backwards.sources[0].tolist() == [*whole.sources[0][:4].tolist(), tokenizer.eos_id]
    asked = make_renderer(encoding).conversations(TASK)[0]
    assert [turn["content"] for turn in asked] == ["Is it so? Is it so? snow is white", "yes"]


@pytest.mark.usefixtures("installed")
def test_answers_are_scored_against_what_the_prompt_asks_for() -> None:
    from simtune.sweep.jobs import records_of

    given, asked = (
        records_of([TASK], EncodingSettings(format="question", backwards=backwards)) for backwards in (False, True)
    )
    assert [record.references for record in given] == [("yes", "true")] * 4
    assert [record.references for record in asked] == [("snow is white",)] * 4


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ({"format": "tk_instruct"}, r"^encoding\.format: unknown prompt format 'tk_instruct'; did you mean 'tk-instr"),
        ({"format": "xyz"}, r"unknown prompt format 'xyz'\. Known: tk-instruct, question$"),
        (
            {"postive": 1},
            r"^encoding\.postive: unknown key; .* 'positive'\? Known here: format, end_of_source, task_name, d",
        ),
        ({"positive": -1}, r"^encoding\.positive: -1 is wrong: expected a whole number of at least 0$"),
        (
            {"format": "question", "positive": 1},
            r"^encoding\.positive: .*\. Known here: format, end_of_source, repeats, backwards$",
        ),
        ({"end_of_sorce": False}, r"^encoding\.end_of_sorce: unknown key; did you mean 'end_of_source'\?"),
        ({"format": "question", "repeats": 0}, r"^encoding\.repeats: 0 is wrong"),
    ],
)
def test_what_is_wrong_is_named_with_its_field(encoding: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_renderer(EncodingSettings(**encoding))


def test_an_encoding_is_the_same_however_much_of_it_is_written_out() -> None:
    short, long = EncodingSettings(positive=1), EncodingSettings(positive=1, negative=0, definition=True)
    assert short != long
    assert resolve_encoding(short) == resolve_encoding(long)
    assert resolve_encoding(short).model_dump() == {
        "format": "tk-instruct",
        "end_of_source": True,
        "task_name": False,
        "definition": True,
        "positive": 1,
        "negative": 0,
        "explanation": False,
    }


class Faulty(Question):
    """A custom format that makes the mistake that the definition of its task names."""

    def render(
        self, task: Task, instances: Sequence[Instance], max_source_tokens: int, count_tokens: CountTokens
    ) -> list[Prompt]:
        prompts = super().render(task, instances, max_source_tokens, count_tokens)
        mistakes: dict[str, Any] = {
            "one missing": prompts[1:],
            "no target": [*prompts[1:], Prompt("?", ())],
            "a text": [*prompts[1:], "Is it so?"],
        }
        return mistakes[task.definition]

    def choices(self, task: Task, instances: Sequence[Instance], max_choices: int) -> list[tuple[str, ...] | None]:
        return [("yes", "no")]


@pytest.mark.parametrize(
    ("mistake", "complaint"),
    [
        ("raises", "task1 failed: KeyError: 'raises'"),
        ("one missing", "task1: returned 3 prompts; expected 4, one for each"),
        ("no target", r"task1, instance 1: targets are \(\); give one text or more"),
        ("a text", "task1, instance 1: returned 'Is it so\\?', which is not a Prompt"),
    ],
)
def test_a_mistake_of_an_installed_format_names_the_format_and_the_task(mistake: str, complaint: str) -> None:
    with installed_entry(registry, "faulty", f"{__name__}:Faulty"):
        renderer = make_renderer(EncodingSettings(format="faulty"))
        with pytest.raises(ExtensionError, match=f"prompt format faulty, task {complaint}"):
            renderer.render_whole(replace(TASK, definition=mistake))
        complaint = "prompt format faulty, task task1: returned 1 set of choices; expected 4, one for each"
        with pytest.raises(ExtensionError, match=complaint):
            renderer.choices(TASK, TASK.instances, 5)
