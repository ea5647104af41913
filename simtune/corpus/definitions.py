"""Tasks known by their definition alone, as before their first instance is written.

They come from a location: `demo`, a folder of task files, either of them with `:SPLIT/train` or
`:SPLIT/test` for the tasks that a split lists, or a `.jsonl` file with one task a line:

    {"task": "translate_sw_en", "definition": "Translate the Swahili sentence into English.", "category": "Translation"}

`category` may be omitted; other keys are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from simtune.corpus.registry import open_corpus
from simtune.corpus.source import read_split
from simtune.corpus.strict_json import unique_keys
from simtune.corpus.task import Task, name_flaw
from simtune.errors import CorpusError, shown
from simtune.outside_files import GIB, read_outside, text_file_errors
from simtune.wording import counted

_LARGEST_FILE = 2 * GIB
_MOST_PROBLEMS_SHOWN = 10
_FORMS = "demo, a folder of task files, FOLDER:SPLIT/train, FOLDER:SPLIT/test, or a file of definitions (.jsonl)"

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class DefinedTasks:
    """Tasks without their instances.

    Attributes:
        location: where they come from, as given.
        tasks: sorted by name; a missing category is empty.
        absent: names that the split lists and that are not on disk, sorted.
    """

    location: str
    tasks: tuple[Task, ...]
    absent: tuple[str, ...] = ()


def check_definitions(location: str) -> None:
    """Refuses a location that does not exist, without reading any task.

    Raises:
        CorpusError: no such file or folder; lists the forms that a location may have.
    """
    if location.endswith(".jsonl"):
        if not Path(location).exists():
            raise CorpusError(f"{location}: no such file of definitions")
        return
    path, _, _ = _parse(location)
    if path != "demo" and not Path(path).is_dir():
        raise CorpusError(f"{path}: {'not a folder' if Path(path).exists() else 'no such folder'}. Give {_FORMS}")


def read_definitions(location: str, on_progress: OnProgress = lambda done, total: None) -> DefinedTasks:
    """Reads tasks for their definitions; their instances are neither needed nor looked at.

    Raises:
        CorpusError: the location does not exist, a file or a line is wrong (with file and line), or no task is left.
    """
    if location.endswith(".jsonl"):
        lines = _read_lines(Path(location))
        on_progress(len(lines), len(lines))
        return DefinedTasks(location, lines)
    check_definitions(location)
    path, split, part = _parse(location)
    source = open_corpus(path)
    present = source.names()
    listed = present if split is None else read_split(source, split)[part == "test"]
    wanted = sorted(set(listed) & set(present))
    if not wanted:
        raise CorpusError(f"{location}: none of the {counted(len(listed), 'task')} that it names is on disk")
    tasks: list[Task] = []
    problems: list[str] = []
    for done, name in enumerate(wanted, start=1):
        file = source.read(name, definition_only=True)
        if file.task is not None:
            tasks.append(file.task)
        else:
            problems.append(next(str(problem) for problem in file.problems if problem.severity == "error"))
        on_progress(done, len(wanted))
    if problems:
        more = f"\n... and {len(problems) - _MOST_PROBLEMS_SHOWN} more" * (len(problems) > _MOST_PROBLEMS_SHOWN)
        shown = "\n".join(problems[:_MOST_PROBLEMS_SHOWN])
        raise CorpusError(f"{shown}{more}\nFix these files, or move them out of the folder")
    return DefinedTasks(location, tuple(tasks), tuple(sorted(set(listed) - set(present))))


def _parse(location: str) -> tuple[str, str | None, str]:
    """Corpus, split, and `train` or `test`; a folder whose own name contains a colon is that folder."""
    path, colon, rest = location.rpartition(":")
    if not colon or Path(location).exists():
        return location, None, ""
    split, _, part = rest.rpartition("/")
    if not split or part not in ("train", "test"):
        raise CorpusError(
            f"{location}: {rest!r} is not a side of a split; write {path}:SPLIT/train or {path}:SPLIT/test"
        )
    return path, split, part


def _read_lines(path: Path) -> tuple[Task, ...]:
    tasks: dict[str, Task] = {}
    lines: dict[str, int] = {}
    for number, line in _numbered_lines(path):
        where = f"{path}, line {number}"
        task = _parse_line(line, where)
        if flaw := name_flaw(task.name):
            raise CorpusError(f"{where}, task: {shown(task.name)} {flaw}")
        if task.name in tasks:
            raise CorpusError(f"{where}: duplicate task name {shown(task.name)}, first on line {lines[task.name]}")
        tasks[task.name], lines[task.name] = task, number
    if not tasks:
        raise CorpusError(f"{path}: lists no tasks")
    return tuple(tasks[name] for name in sorted(tasks))


def _numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    with text_file_errors(path, "file of definitions", CorpusError):
        text = read_outside(path, _LARGEST_FILE).decode("utf-8-sig")
    # Not splitlines: JSON allows U+2028 and its like inside a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line


def _parse_line(line: str, where: str) -> Task:
    try:
        fields = json.loads(line, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{where}: not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise CorpusError(f'{where}: not an object such as {{"task": ..., "definition": ...}}')
    texts = {}
    for key in ("task", "definition", "category"):
        value = fields.get(key)
        if key == "category" and value in (None, ""):
            value = ""
        elif not isinstance(value, str) or not value.strip():
            found = "missing" if key not in fields else f"expected a string, found {value!r:.40}"
            raise CorpusError(f"{where}, {key}: {found}")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise CorpusError(f"{where}, {key}: contains an unpaired surrogate (\\ud800 to \\udfff)") from None
        texts[key] = value.strip()
    return Task(texts["task"], texts["definition"], (texts["category"],), (), (), ())
