"""The Natural Instructions format (version 2, Super-NaturalInstructions): one JSON file a task, and lists as splits.

The files come from hundreds of contributors and two generations of the schema (`Definition` as a list or a text,
instances without `id`, demonstrations without `explanation`), so everything is checked, and every complaint names
file, position and field. The first element of `Definition` and of `Categories` counts, as in the data's own scripts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from simtune.corpus.source import Problem, TaskFile
from simtune.corpus.strict_json import BadJsonError, json_type, parse_object
from simtune.corpus.task import Demonstration, Instance, Task, name_flaw
from simtune.corpus.task_lists import read_task_list
from simtune.errors import CorpusError, shown
from simtune.outside_files import GIB, read_outside, refuse_leaving, visible

_LARGEST_FILE = GIB

_FIELDS_READ = frozenset(
    (
        *("Definition", "Categories", "Positive Examples", "Negative Examples", "Instances"),
        *("Input_language", "Output_language", "Source"),
    )
)

Complain = Callable[..., None]


def open_natural_instructions(path: str) -> NaturalInstructionsFolder | None:
    """A folder with `tasks/*.json` or with the JSON files themselves; None where there is none.

    Raises:
        CorpusError: the folder cannot be read.
    """
    root = Path(path)
    tasks = root / "tasks" if (root / "tasks").is_dir() else root
    if not root.is_dir():
        return None
    try:
        refuse_leaving(tasks, root)
    except OSError as error:
        raise CorpusError(f"{tasks}: cannot be read ({error.strerror})") from None
    if next(visible(tasks.glob("*.json")), None) is None:
        return None
    return NaturalInstructionsFolder(root, tasks)


@dataclass(frozen=True)
class NaturalInstructionsFolder:
    """A folder with `tasks/*.json` and `splits/<name>/{train,test}_tasks.txt`, or just task files."""

    root: Path
    tasks: Path

    @property
    def label(self) -> str:
        """The folder."""
        return str(self.root)

    def names(self) -> tuple[str, ...]:
        """All task names, sorted."""
        return tuple(sorted(path.name.removesuffix(".json") for path in visible(self.tasks.glob("*.json"))))

    def read(self, name: str, definition_only: bool = False) -> TaskFile:
        """Reads one task file."""
        return read_task_file(self.tasks / f"{name}.json", definition_only=definition_only, root=self.root)

    def file_of(self, name: str) -> str:
        """The task's file, seen from the folder."""
        return f"{(self.tasks / name).relative_to(self.root)}.json"

    def splits(self) -> tuple[str, ...]:
        """The names of the folders with lists."""
        return tuple(sorted(path.name for path in visible((self.root / "splits").glob("*")) if path.is_dir()))

    def split(self, split: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The train and test names of a split."""
        folder = self.root / "splits" / split
        train, test = (read_task_list(folder / f"{part}_tasks.txt", self.root) for part in ("train", "test"))
        return train, test


def read_task_file(path: Path, definition_only: bool = False, root: Path | None = None) -> TaskFile:
    """Reads one task file; never raises for what the file holds.

    Args:
        path: the JSON file; its name without `.json` is the task's name.
        definition_only: as for `parse_task`.
        root: the corpus that the file belongs to; no link may lead out of it.
    """
    name = path.name.removesuffix(".json")
    try:
        data = read_outside(path, _LARGEST_FILE, root)
    except OSError as error:
        return TaskFile(name, None, (Problem(str(path), "", f"cannot be read ({error.strerror})", "error"),))
    return parse_task_bytes(name, data, str(path), definition_only)


def parse_task_bytes(name: str, data: bytes, label: str, definition_only: bool = False) -> TaskFile:
    """Parses the bytes of one task file; see `parse_task`."""
    try:
        parsed = parse_object(data, _FIELDS_READ)
    except BadJsonError as error:
        return TaskFile(name, None, (Problem(label, error.position, str(error), "error"),))
    problems = [Problem(label, position, message, "warning") for position, message in parsed.warnings]
    return parse_task(name, parsed.fields, label, problems, definition_only)


def parse_task(
    name: str,
    fields: dict[str, Any],
    label: str,
    problems: list[Problem] | None = None,
    definition_only: bool = False,
) -> TaskFile:
    """Turns the fields of one task file into a `Task`.

    Args:
        name: the task's name.
        fields: the file's fields.
        label: what problems call the file.
        problems: found before.
        definition_only: for tasks still to be written: instances are not read, and a missing category is empty.
    """
    problems = [] if problems is None else problems

    def complain(field: str, message: str, severity: Literal["error", "warning"] = "error") -> None:
        problems.append(Problem(label, field, message, severity))

    if flaw := name_flaw(name):
        complain("the file's name", f"{shown(name)} {flaw}; rename it")
    task = Task(
        name=name,
        definition=_first_text(fields, "Definition", complain),
        categories=_texts(fields, "Categories", complain, required=not definition_only) or ("",),
        positive=_demonstrations(fields, "Positive Examples", complain),
        negative=_demonstrations(fields, "Negative Examples", complain),
        instances=() if definition_only else _instances(name, fields, complain),
        input_languages=_texts(fields, "Input_language", complain),
        output_languages=_texts(fields, "Output_language", complain),
        sources=_texts(fields, "Source", complain),
    )
    if any(problem.severity == "error" for problem in problems):
        return TaskFile(name, None, tuple(problems))
    return TaskFile(name, task, tuple(problems))


def _first_text(fields: dict[str, Any], key: str, complain: Complain) -> str:
    value = fields.get(key)
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, str) and value.strip():
        return value
    complain(
        key, "missing" if key not in fields else f"expected a string or a list of strings, found {json_type(value)}"
    )
    return ""


def _texts(fields: dict[str, Any], key: str, complain: Complain, required: bool = False) -> tuple[str, ...]:
    value = fields.get(key, [])
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
        complain(key, f"expected a list of strings, found {json_type(value)}")
        return ()
    texts = tuple(text.strip() for text in values if text.strip())
    if required and not texts:
        complain(key, "missing" if key not in fields else "is empty")
    return texts


def _demonstrations(fields: dict[str, Any], key: str, complain: Complain) -> tuple[Demonstration, ...]:
    value = fields.get(key, [])
    if not isinstance(value, list):
        complain(key, f"expected a list, found {json_type(value)}")
        return ()
    demonstrations = []
    for index, entry in enumerate(value):
        where = f"{key}[{index}]"
        if not isinstance(entry, dict):
            complain(where, f"expected an object, found {json_type(entry)}")
            continue
        source, output, explanation = entry.get("input"), entry.get("output"), entry.get("explanation")
        if isinstance(output, list) and output:
            output = output[0]
        if not isinstance(source, str):
            complain(f"{where}.input", _expected_text(entry, "input"))
        elif not isinstance(output, str):
            complain(f"{where}.output", _expected_text(entry, "output"))
        elif explanation is not None and not isinstance(explanation, str):
            complain(f"{where}.explanation", _expected_text(entry, "explanation"))
        else:
            demonstrations.append(Demonstration(source, output, explanation))
    return tuple(demonstrations)


def _instances(name: str, fields: dict[str, Any], complain: Complain) -> tuple[Instance, ...]:
    value = fields.get("Instances")
    if not isinstance(value, list):
        complain("Instances", "missing" if "Instances" not in fields else f"expected a list, found {json_type(value)}")
        return ()
    if not value:
        complain("Instances", "has no instances", "warning")
    instances = []
    seen: set[str] = set()
    for index, entry in enumerate(value):
        where = f"Instances[{index}]"
        found = _input_and_outputs(entry, where, complain)
        if found is None:
            continue
        identifier = entry.get("id")
        if not isinstance(identifier, str) or not identifier:
            identifier = f"{name}-{index}"
        if identifier in seen:
            complain(f"{where}.id", f"{shown(identifier)} was used before; its position was added", "warning")
        while identifier in seen:
            identifier = f"{identifier}-{index}"
        seen.add(identifier)
        instances.append(Instance(identifier, *found))
    return tuple(instances)


def _input_and_outputs(entry: object, where: str, complain: Complain) -> tuple[str, tuple[str, ...]] | None:
    """The input of an instance and its references; None where they are wrong."""
    if not isinstance(entry, dict):
        complain(where, f"expected an object, found {json_type(entry)}")
        return None
    source, outputs = entry.get("input"), entry.get("output")
    if isinstance(outputs, str):
        outputs = [outputs]
    if not isinstance(source, str):
        complain(f"{where}.input", _expected_text(entry, "input"))
        return None
    if not isinstance(outputs, list) or not outputs or not all(isinstance(text, str) for text in outputs):
        found = "an empty list" if outputs == [] else json_type(outputs)
        complain(f"{where}.output", f"expected at least one string, found {found}")
        return None
    if not any(text.strip() for text in outputs):
        complain(f"{where}.output", "every reference is empty", "warning")
    return source, tuple(outputs)


def _expected_text(entry: dict[str, Any], key: str) -> str:
    return "missing" if key not in entry else f"expected a string, found {json_type(entry[key])}"
